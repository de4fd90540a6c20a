//! Events of flows for who follows them: each over a bounded queue, and who is too slow hears how much it missed.
#![expect(clippy::disallowed_methods, reason = "io reads the clocks; a follower's task ends with its stream")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::v1::{self, EventKind, Failure};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::places::{Place, Places};
use crate::machine::Past;
use crate::machine::history::Record;

/// Events that wait for a follower before it misses some.
const QUEUE: usize = 1_024;
/// Events on their way in a follower's stream.
const STREAM: usize = 64;
/// Streams at most.
const STREAMS: usize = 64;
/// Of one user.
const STREAMS_OF_USER: usize = 16;
/// Of all users but root.
const STREAMS_OF_USERS: usize = STREAMS - STREAMS_OF_USER;
/// The clock was set if it is off by more.
const SET: Duration = Duration::from_millis(1);

/// Where events go to, and what moment of the host's clock each is of.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Record>,
    places: Places,
    /// Counts changes of the names that are served.
    served: watch::Sender<u64>,
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
        let places = Places::new("read the events of flows", STREAMS_OF_USER, STREAMS_OF_USERS);
        Self {
            sender: broadcast::Sender::new(QUEUE),
            places,
            served: watch::Sender::default(),
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

    /// Other names are served where this is another value.
    pub(super) fn serve(&self, serving: u64) {
        self.served.send_if_modified(|known| std::mem::replace(known, serving) != serving);
    }

    /// Changes when other names are served.
    pub(super) fn served(&self) -> watch::Receiver<u64> {
        self.served.subscribe()
    }

    /// A place for a user's stream.
    pub(super) fn place(&self, uid: u32) -> Result<Place, Failure> {
        self.places.place(uid)
    }

    /// All events from now on; to be asked for before the past is, so that nothing is missed between.
    pub(super) fn follow(&self) -> Follower {
        Follower(self.sender.subscribe())
    }

    /// The past, and where there is a follower what comes then.
    pub(super) fn stream(&self, past: Past, follower: Option<Follower>, wanted: Wanted, place: Place) -> Stream {
        let (sender, stream) = mpsc::channel(STREAM);
        let run = self.clone().run(past, follower, wanted, sender);
        tokio::spawn(async move {
            run.await;
            drop(place);
        });
        ReceiverStream::new(stream)
    }

    async fn run(
        self,
        past: Past,
        follower: Option<Follower>,
        wanted: Wanted,
        to: mpsc::Sender<Result<v1::FlowEvent, Status>>,
    ) {
        // An earlier irmd's numbers were others.
        let after = wanted.request.after.min(past.last);
        let lost = if after > 0 { past.first.saturating_sub(after + 1) } else { 0 };
        if lost > 0 && to.send(Ok(missed_event(lost))).await.is_err() {
            return;
        }
        for record in past.records.iter().filter(|record| wanted.has(record)) {
            if to.send(Ok(self.event(record))).await.is_err() {
                return;
            }
        }
        let Some(Follower(mut records)) = follower else { return };
        let mut last = past.last;
        drop(past.records);
        loop {
            let record = tokio::select! {
                () = to.closed() => return,
                record = records.recv() => match record {
                    Ok(record) if record.number > last => record,
                    // What was lost is seen by the next one's number.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            };
            let lost = record.number - last - 1;
            last = record.number;
            let lost = (lost > 0).then(|| missed_event(lost));
            let told = wanted.has(&record).then(|| self.event(&record));
            for event in lost.into_iter().chain(told) {
                if to.send(Ok(event)).await.is_err() {
                    return;
                }
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
        let Record { number, at, kind, subject, failure, ended, words, took, asked } = record;
        let acceptor = subject.acceptor.clone();
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
            layer: subject.layer.clone(),
            accepting: subject.accepting,
            process,
            peer_process,
            peer_address: subject.peer_address.clone(),
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

/// What hears all events.
pub(super) struct Follower(broadcast::Receiver<Record>);

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
    use proto::v1::FailureKind;

    use super::*;
    use crate::machine::history::Subject;
    use tokio_stream::StreamExt;

    fn record(number: u64) -> Record {
        Record {
            number,
            at: Instant::now(),
            kind: EventKind::Requested,
            subject: Arc::new(Subject::default()),
            failure: FailureKind::Unspecified,
            ended: v1::EndReason::Unspecified,
            words: None,
            took: Duration::ZERO,
            asked: 0,
        }
    }

    #[tokio::test]
    async fn what_is_kept_no_more_and_numbers_of_another_life_are_told_or_passed_over() {
        let events = Events::new();
        let told = async |after, past| {
            let wanted = Wanted { request: v1::FlowEventsRequest { after, ..Default::default() }, only: None };
            let told: Vec<_> = events.stream(past, None, wanted, events.place(0).unwrap()).collect().await;
            told.into_iter().map(|event| event.map(|event| (event.number, event.missed)).unwrap()).collect::<Vec<_>>()
        };
        let past = || Past { records: vec![record(10), record(11)], first: 10, last: 11 };
        assert_eq!(told(0, past()).await, [(10, 0), (11, 0)], "who asks for what there is misses nothing");
        assert_eq!(told(4, past()).await, [(0, 5), (10, 0), (11, 0)]);
        let none = Past { records: vec![], first: 12, last: 11 };
        assert_eq!(told(5_000, none).await, []);
    }

    fn all() -> Wanted {
        Wanted { request: v1::FlowEventsRequest { follow: true, ..Default::default() }, only: None }
    }

    #[tokio::test]
    async fn who_is_too_slow_hears_how_much_it_missed_and_goes_on() {
        let events = Events::new();
        let past = Past { records: vec![record(1)], first: 1, last: 1 };
        let mut stream = events.stream(past, Some(events.follow()), all(), events.place(0).unwrap());
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
        assert_eq!(told + missed, sent - 1, "{told} told, {missed} missed");
    }

    #[tokio::test]
    async fn a_user_hears_of_its_own_and_has_its_share_of_places() {
        let events = Events::new();
        let asker = Some(v1::Process { uid: 7, ..Default::default() });
        let own = Record { subject: Arc::new(Subject { asker, ..Default::default() }), ..record(2) };
        let wanted = Wanted { only: Some(7), ..all() };
        let past = Past { records: vec![record(1), own, record(3)], first: 1, last: 3 };
        let told: Vec<_> = events.stream(past, None, wanted, events.place(7).unwrap()).collect().await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].as_ref().unwrap().number, 2);
        let take = |uid| (0..=STREAMS).map_while(|_| events.place(uid).ok()).collect::<Vec<_>>();
        let of_users: Vec<_> = (7..20).map(take).collect();
        let taken: Vec<_> = of_users.iter().map(Vec::len).collect();
        assert_eq!(taken[..4], [STREAMS_OF_USER, STREAMS_OF_USER, STREAMS_OF_USER, 0], "{taken:?}");
        assert_eq!(take(0).len(), STREAMS_OF_USER, "root has places of its own");
        drop(of_users);
        assert!(events.place(7).is_ok());
    }
}
