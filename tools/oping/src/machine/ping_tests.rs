#![expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]

use super::*;

const MS: Duration = Duration::from_millis(1);

struct Bench {
    ping: Ping,
    now: Instant,
    sent: Vec<Header>,
    replies: Vec<Reply>,
    done: bool,
}

impl Bench {
    fn new(count: Option<u64>, interval: Duration, wait: Duration) -> Self {
        let now = Instant::now();
        let ping = Ping::new(now, Plan { count, interval, wait });
        let mut bench = Self { ping, now, sent: vec![], replies: vec![], done: false };
        bench.after(Duration::ZERO);
        bench
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
        self.ping.handle_timeout(self.now);
        self.drain();
    }

    fn answer(&mut self, header: Header) {
        let mut bytes = sdu::blank(64);
        sdu::write(&mut bytes, header);
        self.ping.handle_sdu(self.now, &bytes);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.ping.poll_output() {
            match output {
                Output::Send(header) => self.sent.push(header),
                Output::Reply(reply) => self.replies.push(reply),
                Output::Done => self.done = true,
            }
        }
    }
}

#[test]
fn three_pings_and_done() {
    let mut bench = Bench::new(Some(3), 10 * MS, 100 * MS);
    for n in 1..=3 {
        assert_eq!(bench.sent.len(), n);
        bench.after(MS);
        bench.answer(bench.sent[n - 1]);
        assert_eq!((bench.replies[n - 1].seq, bench.replies[n - 1].rtt), (n as u64, MS));
        assert_eq!(bench.done, n == 3);
        bench.after(9 * MS);
    }
    assert_eq!(bench.ping.tally(), Tally { sent: 3, received: 3, ..Tally::default() });
    assert_eq!(bench.ping.poll_timeout(), None);
}

#[test]
fn the_last_reply_is_waited_for_no_longer_than_wait() {
    let mut bench = Bench::new(Some(1), 10 * MS, 100 * MS);
    bench.after(99 * MS);
    assert!(!bench.done);
    bench.after(MS);
    assert!(bench.done);
    bench.answer(bench.sent[0]);
    assert_eq!(bench.ping.tally(), Tally { sent: 1, ..Tally::default() });
}

#[test]
fn duplicates_late_and_foreign_replies_are_told_apart() {
    let mut bench = Bench::new(None, 1000 * MS, 10 * MS);
    let first = bench.sent[0];
    bench.after(20 * MS);
    bench.answer(first);
    bench.answer(first);
    bench.answer(Header { seq: 2, ..first });
    bench.answer(Header { seq: 0, ..first });
    bench.answer(Header { sent_at: Duration::from_secs(9), ..first });
    bench.ping.handle_sdu(bench.now, b"hello");
    bench.ping.handle_sdu(bench.now, b"");
    let flags: Vec<_> = bench.replies.iter().map(|r| (r.late, r.duplicate)).collect();
    assert_eq!(flags, [(true, false), (true, true)]);
    let want = Tally { sent: 1, received: 1, duplicates: 1, late: 1, foreign: 5 };
    assert_eq!(bench.ping.tally(), want);
}

#[test]
fn an_early_or_repeated_timeout_does_nothing() {
    let mut bench = Bench::new(None, 10 * MS, MS);
    bench.after(Duration::ZERO);
    bench.after(9 * MS);
    assert_eq!(bench.sent.len(), 1);
    bench.after(MS);
    bench.after(Duration::ZERO);
    assert_eq!(bench.sent.len(), 2);
}

#[test]
fn a_late_timer_makes_no_burst() {
    let mut bench = Bench::new(None, 10 * MS, MS);
    bench.after(1000 * MS);
    bench.after(Duration::ZERO);
    bench.after(9 * MS);
    assert_eq!(bench.sent.len(), 2);
    bench.after(MS);
    assert_eq!(bench.sent.len(), 3);
}

#[test]
fn a_flood_goes_at_the_pace_of_the_replies_and_survives_loss() {
    let mut bench = Bench::new(None, Duration::ZERO, 1000 * MS);
    for n in 1..100 {
        assert_eq!(bench.sent.len(), n);
        bench.answer(bench.sent[n - 1]);
        bench.after(Duration::ZERO);
    }
    bench.after(FLOOD_GAP - MS);
    assert_eq!(bench.sent.len(), 100);
    bench.after(MS);
    assert_eq!(bench.sent.len(), 101);
}

#[test]
fn stop_ends_it_once() {
    let mut bench = Bench::new(None, MS, MS);
    bench.ping.stop();
    bench.drain();
    assert!(bench.done);
    bench.ping.stop();
    assert_eq!(bench.ping.poll_output(), None);
}
