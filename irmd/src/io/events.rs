//! Events of flows for who follows them: each over a bounded queue, and who is too slow hears how much it missed.
#![expect(clippy::disallowed_methods, reason = "io reads the clocks; a follower's task ends with its stream")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::v1::{self, EventKind, Failure, FailureKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::machine::history::Record;

/// Events that wait for a follower before it misses some.
const QUEUE: usize = 1_024;
/// Events on their way in a follower's stream.
const STREAM: usize = 64;
/// Followers at most.
const FOLLOWERS: usize = 64;
/// The clock was set if it is off by more.
const SET: Duration = Duration::from_millis(1);

/// Where events go to, and what moment of the host's clock each is of.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Record>,
    room: Arc<Semaphore>,
    anchor: Arc<Mutex<(Instant, SystemTime)>>,
}

/// A stream of events.
pub(super) type Stream = ReceiverStream<Result<v1::FlowEvent, Status>>;

/// What a follower wants.
pub(super) struct Wanted {
    pub(super) request: v1::FlowEventsRequest,
    /// A user who is no administrator.
    pub(super) only: Option<u32>,
}

impl Events {
    pub(super) fn new() -> Self {
        let anchor = (Instant::now(), SystemTime::now());
        Self {
            sender: broadcast::Sender::new(QUEUE),
            room: Arc::new(Semaphore::new(FOLLOWERS)),
            anchor: Arc::new(Mutex::new(anchor)),
        }
    }

    /// Whether anybody follows.
    pub(super) fn is_followed(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Something happened.
    pub(super) fn tell(&self, record: Record) {
        // Who went away misses nothing.
        let _ = self.sender.send(record);
    }

    /// A place among the followers; to be taken before the past is asked for, so that nothing is missed between.
    pub(super) fn follow(&self) -> Result<Follower, Failure> {
        let permit = self.room.clone().try_acquire_owned().map_err(|_| {
            let text = format!("{FOLLOWERS} programs follow the events of flows already, as many as may; end one");
            Failure::new(FailureKind::Exhausted, text)
        })?;
        Ok(Follower { receiver: self.sender.subscribe(), _permit: permit })
    }

    /// The past, and where there is a follower what comes then.
    pub(super) fn stream(&self, past: Vec<Record>, follower: Option<Follower>, wanted: Wanted) -> Stream {
        let (sender, stream) = mpsc::channel(STREAM);
        tokio::spawn(self.clone().run(past, follower, wanted, sender));
        ReceiverStream::new(stream)
    }

    async fn run(
        self,
        past: Vec<Record>,
        follower: Option<Follower>,
        wanted: Wanted,
        to: mpsc::Sender<Result<v1::FlowEvent, Status>>,
    ) {
        let mut last = wanted.request.after;
        if let Some(missed) = past.first().map(|first| first.number - last - 1).filter(|n| *n > 0 && last > 0)
            && to.send(Ok(missed_event(missed))).await.is_err()
        {
            return;
        }
        for record in past {
            last = last.max(record.number);
            if wanted.has(&record) && to.send(Ok(self.event(&record))).await.is_err() {
                return;
            }
        }
        let Some(mut follower) = follower else { return };
        loop {
            let event = tokio::select! {
                () = to.closed() => return,
                record = follower.receiver.recv() => match record {
                    Ok(record) if record.number <= last || !wanted.has(&record) => continue,
                    Ok(record) => self.event(&record),
                    Err(broadcast::error::RecvError::Lagged(missed)) => missed_event(missed),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            };
            if to.send(Ok(event)).await.is_err() {
                return;
            }
        }
    }

    /// µs since 1970. The same for a moment each time, unless the clock was set in between.
    fn unix_us(&self, at: Instant) -> u64 {
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, wall) = (Instant::now(), SystemTime::now());
        let should = anchor.1 + now.saturating_duration_since(anchor.0);
        let off = wall.duration_since(should).unwrap_or_else(|error| error.duration());
        if off > SET {
            *anchor = (now, wall);
        }
        let (instant, wall) = *anchor;
        let moment = match at.checked_duration_since(instant) {
            Some(later) => wall + later,
            None => wall.checked_sub(instant.saturating_duration_since(at)).unwrap_or(UNIX_EPOCH),
        };
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// As it is told.
    pub(crate) fn event(&self, record: &Record) -> v1::FlowEvent {
        let Record { number, at, kind, subject, late, failure, ended, words, took, asked } = record;
        let late = late.as_deref();
        let acceptor = late.and_then(|late| late.acceptor.clone());
        let (process, peer_process) = match subject.accepting {
            true => (acceptor, None),
            false => (subject.asker.clone(), acceptor),
        };
        v1::FlowEvent {
            number: *number,
            unix_us: self.unix_us(*at),
            kind: (*kind).into(),
            flow_id: subject.flow.unwrap_or_default().0,
            name: subject.name.clone(),
            source_name: subject.source.clone(),
            layer: late.map_or(&subject.layer, |late| &late.layer).clone(),
            accepting: subject.accepting,
            process,
            peer_process,
            peer_address: late.map_or(&subject.peer_address, |late| &late.peer_address).clone(),
            qos: Some(subject.qos),
            failure: (*failure).into(),
            ended: (*ended).into(),
            words: words.as_deref().unwrap_or_default().to_owned(),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            asked: *asked,
            missed: 0,
        }
    }
}

/// A place among the followers.
pub(super) struct Follower {
    receiver: broadcast::Receiver<Record>,
    _permit: OwnedSemaphorePermit,
}

impl Wanted {
    fn has(&self, record: &Record) -> bool {
        let v1::FlowEventsRequest { kinds, flow_id, .. } = &self.request;
        (kinds.is_empty() || kinds.contains(&record.kind.into()))
            && (*flow_id == 0 || record.subject.flow.is_some_and(|flow| flow.0 == *flow_id))
            && self.only.is_none_or(|uid| record.concerns(uid))
    }
}

fn missed_event(missed: u64) -> v1::FlowEvent {
    v1::FlowEvent { kind: EventKind::Missed.into(), missed, ..v1::FlowEvent::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::history::Subject;
    use tokio_stream::StreamExt;

    fn record(number: u64) -> Record {
        Record {
            number,
            at: Instant::now(),
            kind: EventKind::Requested,
            subject: Arc::new(Subject::default()),
            late: None,
            failure: FailureKind::Unspecified,
            ended: v1::EndReason::Unspecified,
            words: None,
            took: Duration::ZERO,
            asked: 0,
        }
    }

    fn all() -> Wanted {
        Wanted { request: v1::FlowEventsRequest { follow: true, ..Default::default() }, only: None }
    }

    #[tokio::test]
    async fn who_is_too_slow_hears_how_much_it_missed_and_goes_on() {
        let events = Events::new();
        let mut stream = events.stream(vec![record(1)], Some(events.follow().unwrap()), all());
        assert_eq!(stream.next().await.unwrap().unwrap().number, 1);
        let sent = 10 * QUEUE as u64;
        for number in 1..=sent {
            events.tell(record(number));
        }
        let (mut told, mut missed, mut last) = (0, 0, 1);
        while last < sent {
            let event = stream.next().await.unwrap().unwrap();
            match event.kind() {
                EventKind::Missed => missed += event.missed,
                _ => {
                    assert!(event.number > last);
                    (told, last) = (told + 1, event.number);
                }
            }
        }
        assert!(missed > 0);
        // The first was told before, out of the past.
        assert!((sent - 1..=sent).contains(&(told + missed)), "{told} told, {missed} missed");
    }

    #[tokio::test]
    async fn a_user_hears_of_its_own_and_places_are_bounded() {
        let events = Events::new();
        let asker = Some(v1::Process { uid: 7, ..Default::default() });
        let own = Record { subject: Arc::new(Subject { asker, ..Default::default() }), ..record(2) };
        let wanted = Wanted { only: Some(7), ..all() };
        let told: Vec<_> = events.stream(vec![record(1), own, record(3)], None, wanted).collect().await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].as_ref().unwrap().number, 2);
        let places: Vec<_> = (0..FOLLOWERS).map(|_| events.follow().unwrap()).collect();
        assert_eq!(events.follow().err().unwrap().kind(), FailureKind::Exhausted);
        drop(places);
        assert!(events.follow().is_ok());
    }
}
