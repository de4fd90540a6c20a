//! Tests of [`super`].

use proptest::prelude::*;

use super::*;

fn start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a machine's time begins somewhere")]
    *START.get_or_init(Instant::now)
}

fn at(ms: u64) -> Instant {
    start() + Duration::from_millis(ms)
}

fn item(due: u64, what: u32) -> Item<u32> {
    Item { due: at(due), came: at(0), what }
}

#[test]
fn the_old_is_dropped_or_the_new() {
    let mut queue = Queue::default();
    let pushed: Vec<_> = (0..5).map(|n| queue.push(item(10 + u64::from(n), n), 3, Full::DropOld)).collect();
    assert_eq!(pushed, [None, None, None, Some(0), Some(1)]);
    assert_eq!(queue.push(item(20, 9), 3, Full::DropNew), Some(9));
    assert_eq!(queue.pop(at(11)), None);
    let left: Vec<_> = std::iter::from_fn(|| queue.pop(at(100))).map(|item| item.what).collect();
    assert_eq!(left, [2, 3, 4]);
}

#[test]
fn a_steady_stream_comes_through_a_delay() {
    let way = Way { delay: Duration::from_millis(200), ..Way::default() };
    let (mut queue, mut chance, mut out) = (Queue::default(), Chance::new(1), 0);
    for ms in 0..2000 {
        let Fate::At(due) = chance.fate(at(ms), &way, Duration::ZERO) else { panic!("a delay") };
        let item = Item { due, came: at(ms), what: ms };
        assert_eq!(queue.push(item, way.room(Duration::ZERO), way.full), None, "dropped before its time");
        out += std::iter::from_fn(|| queue.pop(at(ms))).count();
    }
    assert_eq!(out, 1800);
}

#[test]
fn what_jitter_makes_earlier_overtakes() {
    let mut queue = Queue::default();
    for (due, what) in [(30, 0), (10, 1), (20, 2), (10, 3)] {
        assert_eq!(queue.push(item(due, what), 9, Full::DropOld), None);
    }
    let order: Vec<_> = std::iter::from_fn(|| queue.pop(at(30))).map(|item| item.what).collect();
    assert_eq!(order, [1, 3, 2, 0]);
}

#[test]
fn chance_keeps_to_what_was_wished() {
    let mut chance = Chance::new(7);
    let way = Way { loss: 250_000, ..Way::default() };
    let lost = (0..10_000).filter(|_| chance.fate(at(0), &way, Duration::ZERO) == Fate::Lost).count();
    assert!((2_300..2_700).contains(&lost), "{lost}");
    assert_eq!(chance.fate(at(0), &Way::default(), Duration::ZERO), Fate::Now);
    let way = Way { delay: Duration::from_millis(30), jitter: Duration::from_millis(10), ..Way::default() };
    let mut dues: Vec<_> = (0..1000).map(|_| chance.fate(at(0), &way, Duration::from_millis(5))).collect();
    dues.sort_by_key(|fate| match fate {
        Fate::At(due) => *due,
        _ => panic!("{fate:?}"),
    });
    let (Fate::At(first), Fate::At(last)) = (dues[0], dues[999]) else { panic!("sorted") };
    assert!(first >= at(35) && first < at(36) && last <= at(45) && last > at(44), "{first:?} {last:?}");
}

proptest! {
    /// Whatever comes and goes: all that was put in comes out once, none early, each queue's in the order of deadlines, and
    /// nothing waits when it is due; the agenda does not grow with what was dropped.
    #[test]
    fn all_comes_out_once_and_in_time(
        steps in proptest::collection::vec((0_usize..4, 0_u64..50, 0_u64..5), 1..300),
        room in 1_u16..20,
    ) {
        let mut queues: Vec<Queue<usize>> = (0..4).map(|_| Queue::default()).collect();
        let mut agenda = Agenda::default();
        let mut seen = vec![0; steps.len()];
        let mut now = 0;
        for (what, (queue, wait, pass)) in steps.iter().enumerate() {
            let item = Item { due: at(now + wait), came: at(now), what };
            if let Some(dropped) = queues[*queue].push(item, room, Full::DropOld) {
                seen[dropped] += 1;
            }
            agenda.arm(*queue, &mut queues[*queue]);
            now += pass;
            let mut last = [None; 4];
            while let Some((entry, name)) = agenda.poll(at(now)) {
                queues[name].disarm(entry);
                while let Some(item) = queues[name].pop(at(now)) {
                    prop_assert!(item.due <= at(now));
                    prop_assert!(last[name] <= Some(item.due));
                    last[name] = Some(item.due);
                    seen[item.what] += 1;
                }
                agenda.arm(name, &mut queues[name]);
            }
            for queue in &queues {
                prop_assert!(queue.due().is_none_or(|due| due > at(now)), "overdue");
                prop_assert!(queue.len() <= usize::from(room));
                prop_assert!(queue.is_empty() || agenda.poll_timeout() <= queue.due());
            }
        }
        for queue in &mut queues {
            queue.drain().for_each(|item| seen[item.what] += 1);
        }
        prop_assert!(seen.iter().all(|times| *times == 1), "{seen:?}");
    }
}

#[test]
fn a_flood_does_not_fill_the_agenda() {
    let (mut queue, mut agenda, mut chance) = (Queue::default(), Agenda::default(), Chance::new(1));
    let way = Way { delay: Duration::from_secs(1), jitter: Duration::from_secs(1), ..Way::default() };
    for micros in 0..100_000_u64 {
        let now = start() + Duration::from_micros(micros);
        let Fate::At(due) = chance.fate(now, &way, Duration::ZERO) else { panic!("a delay") };
        queue.push(Item { due, came: now, what: 0 }, 64, Full::DropOld);
        agenda.arm(0, &mut queue);
    }
    assert!(agenda.len() < 100, "{}", agenda.len());
    assert_eq!(queue.len(), 64);
}
