//! Addresses of targets that are named: looked up when first needed, looked up again while in use, and kept where the name
//! stops resolving.
#![expect(
    clippy::disallowed_methods,
    reason = "io/: the clock; a look-up serves all who wait for it and outlives each"
)]

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// A name that has no address is asked for again after this, however often it is needed.
const AGAIN: Duration = Duration::from_secs(1);
/// Addresses of one name that are tried.
const MOST: usize = 16;

/// The host names of all rules; those that no rule has any more are forgotten.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Mutex<ByName>>);

/// By name, and how old addresses may be.
type ByName = HashMap<(String, Duration), Weak<Named>>;

/// One host name.
#[derive(Debug)]
pub struct Named {
    name: String,
    every: Duration,
    known: watch::Sender<Known>,
    looking: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Known {
    addresses: Arc<[IpAddr]>,
    looked: Option<Instant>,
    failure: Option<Arc<str>>,
}

impl Hosts {
    /// A name whose addresses are to be no older than `every`. The same one for all who ask for the same.
    pub fn named(&self, name: &str, every: Duration) -> Arc<Named> {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, named| named.strong_count() > 0);
        let key = (name.to_owned(), every);
        if let Some(named) = hosts.get(&key).and_then(Weak::upgrade) {
            return named;
        }
        let named = Arc::new(Named {
            name: name.to_owned(),
            every,
            known: watch::Sender::default(),
            looking: AtomicBool::new(false),
        });
        hosts.insert(key, Arc::downgrade(&named));
        named
    }
}

impl Named {
    /// Its addresses, in the order in which the system would have them tried. Waits only where none is known; a look-up that
    /// takes for ever is for the caller's deadline.
    pub async fn addresses(self: &Arc<Self>) -> io::Result<Arc<[IpAddr]>> {
        let mut known = self.known.subscribe();
        if let Some(done) = self.at_once(&known.borrow_and_update(), Instant::now()) {
            return done;
        }
        self.look_up();
        loop {
            if known.changed().await.is_err() {
                return Err(io::Error::other(format!("{} was not looked up", self.name)));
            }
            let known = known.borrow_and_update();
            if let Some(failure) = &known.failure {
                return Err(unknown(&self.name, failure));
            }
            if !known.addresses.is_empty() {
                return Ok(known.addresses.clone());
            }
        }
    }

    /// Its addresses if they are known; else they will be soon.
    pub fn at_hand(self: &Arc<Self>) -> Option<Arc<[IpAddr]>> {
        let known = self.known.subscribe();
        let done = self.at_once(&known.borrow(), Instant::now());
        match done {
            Some(done) => done.ok(),
            None => {
                self.look_up();
                None
            }
        }
    }

    fn at_once(self: &Arc<Self>, known: &Known, now: Instant) -> Option<io::Result<Arc<[IpAddr]>>> {
        let age = known.looked.map(|looked| now.saturating_duration_since(looked));
        match (&known.failure, known.addresses.is_empty()) {
            (_, false) => {
                let patience = if known.failure.is_some() { AGAIN.min(self.every) } else { self.every };
                if age.is_none_or(|age| age >= patience) {
                    self.look_up();
                }
                Some(Ok(known.addresses.clone()))
            }
            (Some(failure), true) if age.is_some_and(|age| age < AGAIN) => Some(Err(unknown(&self.name, failure))),
            (_, true) => None,
        }
    }

    /// Looks the name up, unless that is under way: one at a time, for all who wait.
    fn look_up(self: &Arc<Self>) {
        if self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let looking = Looking(self.clone());
        tokio::spawn(async move {
            let Looking(named) = &looking;
            let found = tokio::net::lookup_host((named.name.as_str(), 0)).await;
            named.learn(found.map(|found| found.map(|address| address.ip()).collect()));
        });
    }

    fn learn(&self, found: io::Result<Vec<IpAddr>>) {
        let mut fresh = Vec::new();
        let failure = match found {
            Ok(found) => {
                for address in found {
                    if !fresh.contains(&address) && fresh.len() < MOST {
                        fresh.push(address);
                    }
                }
                fresh.is_empty().then(|| "it has no address".into())
            }
            Err(error) => Some(error.to_string().into()),
        };
        self.known.send_modify(|known| {
            known.looked = Some(Instant::now());
            match (&failure, known.failure.is_some()) {
                (Some(why), false) if known.addresses.is_empty() => {
                    tracing::warn!("the host {} is not found: {why}", self.name);
                }
                (Some(why), false) => tracing::warn!(
                    "the host {} is not found any more ({why}); its last addresses are used: {:?}",
                    self.name,
                    known.addresses
                ),
                (None, true) => tracing::info!("the host {} is found again: {fresh:?}", self.name),
                (None, false) if !known.addresses.is_empty() && *known.addresses != *fresh => {
                    tracing::info!("the host {} has other addresses now: {fresh:?}", self.name);
                }
                _ => {}
            }
            if failure.is_none() {
                known.addresses = fresh.into();
            }
            known.failure = failure;
        });
    }
}

/// A look-up under way, until it is done or its thread ends.
struct Looking(Arc<Named>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.looking.store(false, Ordering::Release);
    }
}

fn unknown(name: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the host {name} is not found: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    }

    #[test]
    fn names_are_shared_and_forgotten() {
        let hosts = Hosts::default();
        let (a, b) = (hosts.named("localhost", AGAIN), hosts.named("localhost", AGAIN));
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &hosts.named("localhost", 2 * AGAIN)));
        drop((a, b));
        let _other = hosts.named("other", AGAIN);
        assert_eq!(hosts.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_name_is_found_and_one_that_is_none_is_told() {
        run(async {
            let hosts = Hosts::default();
            let found = hosts.named("localhost", AGAIN).addresses().await.unwrap();
            assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
            let none = hosts.named("no-such-host.invalid", AGAIN);
            let error = none.addresses().await.unwrap_err();
            assert!(error.to_string().starts_with("the host no-such-host.invalid is not found: "), "{error}");
            assert_eq!(none.addresses().await.unwrap_err().to_string(), error.to_string(), "not asked again at once");
        });
    }

    #[test]
    fn a_name_that_stops_resolving_keeps_its_last_addresses() {
        run(async {
            let hosts = Hosts::default();
            let named = hosts.named("no-such-host.invalid", Duration::from_secs(3600));
            let address: IpAddr = "192.0.2.1".parse().unwrap();
            named.learn(Ok(vec![address, address]));
            assert_eq!(*named.addresses().await.unwrap(), [address]);
            assert!(!named.looking.load(Ordering::Acquire), "fresh");
            named.learn(Err(io::Error::other("gone")));
            assert_eq!(*named.addresses().await.unwrap(), [address]);
            named.learn(Ok(vec![]));
            assert_eq!(*named.addresses().await.unwrap(), [address]);
            let other: IpAddr = "192.0.2.2".parse().unwrap();
            named.learn(Ok(vec![other]));
            assert_eq!(*named.addresses().await.unwrap(), [other]);
        });
    }
}
