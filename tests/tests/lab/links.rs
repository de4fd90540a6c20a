//! Links do to real frames what they are told, and only where they are told.

use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use lab::{Counts, Host, Lab, Link};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_host_whose_link_nobody_set_has_a_plain_one,
        a_way_through_a_router_that_nobody_holds,
        a_delay_is_there_both_ways,
        losses_duplicates_and_corruption_are_counted_and_seen,
        the_same_seed_loses_the_same_datagrams,
        a_rate_bounds_what_passes,
        a_link_is_cut_restored_and_changed_while_it_runs,
        large_writes_of_tcp_pass_as_frames,
        a_link_within_a_loopback_lab_says_no,
    ]
}

const SOON: Duration = Duration::from_secs(10);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Two hosts with a socket each; a's is connected to b's.
fn pair(lab: &Lab) -> Result<([Host; 2], UdpSocket, UdpSocket)> {
    let [a, b] = lab.hosts(["a", "b"])?;
    let (here, there) = (a.socket(0)?, b.socket(0)?);
    here.connect(there.local_addr()?)?;
    Ok(([a, b], here, there))
}

/// Sends the first `count` numbers from `here`; those that came to `there`, in their order.
fn numbers(here: &UdpSocket, there: &UdpSocket, count: u32) -> Result<Vec<u32>> {
    there.set_read_timeout(Some(ms(200)))?;
    let mut came = Vec::new();
    let mut bytes = [0; 2000];
    let mut take = |came: &mut Vec<u32>| -> Option<u32> {
        let (length, _) = there.recv_from(&mut bytes).ok()?;
        let number = u32::from_be_bytes(bytes[..length].get(..4)?.try_into().ok()?);
        came.extend((number < count).then_some(number));
        Some(number)
    };
    for number in 0..count {
        here.send(&[&number.to_be_bytes()[..], &[0; 96]].concat())?;
        // Bounded in flight: no queue of the kernel's is to lose any.
        if number % 64 == 63 {
            let mark = count + number;
            here.send(&mark.to_be_bytes())?;
            // An earlier one may come twice.
            while take(&mut came).is_some_and(|number| number != mark) {}
        }
    }
    while take(&mut came).is_some() {}
    Ok(came)
}

fn a_host_whose_link_nobody_set_has_a_plain_one() -> Result<()> {
    let lab = Lab::new()?;
    let ([a, b], here, there) = pair(&lab)?;
    here.send(b"hello")?;
    there.recv_from(&mut [0; 16])?;
    assert_eq!(a.link().counts()?, (Counts::default(), Counts::default()));
    // A link at a leaves b's as it is.
    a.link().set(Link::CLEAN)?;
    assert_eq!(numbers(&here, &there, 1000)?, (0..1000).collect::<Vec<_>>());
    assert_eq!(b.link().counts()?, (Counts::default(), Counts::default()));
    let (up, _) = a.link().counts()?;
    ensure!(up.passed >= 1000 && up.passed == up.arrived, "{up:?}");
    let threads = || Ok::<_, std::io::Error>(std::fs::read_dir("/proc/self/task")?.count());
    let before = threads()?;
    drop((a, b, lab));
    lab::wait_until(SOON, "the thread of the link to end", || threads().is_ok_and(|now| now < before))
}

/// A lab keeps its hosts: a router is there though only its link is of interest.
fn a_way_through_a_router_that_nobody_holds() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b, router] = lab.hosts(["a", "b", "router"])?;
    let (near, far) = ([10, 0, 0, 211].into(), [10, 0, 0, 221].into());
    a.goes_by(&router, near, far)?;
    b.goes_by(&router, far, near)?;
    router.passes_on()?;
    router.link().set(Link { delay: ms(5), ..Link::CLEAN })?;
    drop(router);
    let there = b.inside(|| UdpSocket::bind((far, 0)))??;
    let here = a.inside(|| UdpSocket::bind((near, 0)))??;
    here.connect(there.local_addr()?)?;
    assert_eq!(numbers(&here, &there, 200)?, (0..200).collect::<Vec<_>>());
    Ok(())
}

fn a_delay_is_there_both_ways() -> Result<()> {
    let lab = Lab::new()?;
    let ([a, _b], here, there) = pair(&lab)?;
    a.link().set_each(Link { delay: ms(30), ..Link::CLEAN }, Link { delay: ms(20), ..Link::CLEAN })?;
    let (mut ups, mut trips) = (Vec::new(), Vec::new());
    let mut failed = Ok(());
    // None is early; that none is late can be seen only of those which a busy machine let through in time.
    lab::wait_until(SOON, "a datagram that is late by the link's delay alone", || {
        failed = round_trip(&here, &there).map(|(up, trip)| {
            ups.push(up);
            trips.push(trip);
        });
        failed.is_err() || (ups.len() > 10 && on_time(&ups, ms(30)) && on_time(&trips, ms(50)))
    })?;
    failed?;
    for (times, delay) in [(ups, ms(30)), (trips, ms(50))] {
        ensure!(times.iter().all(|time| *time >= delay), "{delay:?}: {times:?}");
    }
    Ok(())
}

/// How long a datagram takes there, and there and back.
fn round_trip(here: &UdpSocket, there: &UdpSocket) -> Result<(Duration, Duration)> {
    let began = Instant::now();
    here.send(b"there")?;
    let (_, from) = there.recv_from(&mut [0; 16])?;
    let up = began.elapsed();
    there.send_to(b"back", from)?;
    here.recv(&mut [0; 16])?;
    Ok((up, began.elapsed()))
}

fn on_time(times: &[Duration], delay: Duration) -> bool {
    times.iter().any(|time| *time < delay + ms(10))
}

fn losses_duplicates_and_corruption_are_counted_and_seen() -> Result<()> {
    let lab = Lab::new()?;
    let ([a, b], here, there) = pair(&lab)?;
    a.link().set_each(Link { loss: 0.1, ..Link::CLEAN }, Link::CLEAN)?;
    let came = numbers(&here, &there, 5000)?.len();
    let (up, _) = a.link().counts()?;
    eprintln!("10 % loss: {came} of 5000; {up:?}");
    ensure!((4300..4700).contains(&came) && up.lost > 400 && up.failed == 0, "{came} {up:?}");
    a.link().set(Link::CLEAN)?;
    b.link().set_each(Link::CLEAN, Link { duplicate: 0.1, corrupt: 0.1, ..Link::CLEAN })?;
    let mut came = numbers(&here, &there, 5000)?;
    let all = came.len();
    came.dedup();
    let (_, down) = b.link().counts()?;
    eprintln!("10 % twice, 10 % corrupt: {all}, {} different; {down:?}", came.len());
    ensure!((400..600).contains(&(all - came.len())) && down.doubled > 400, "{all} {} {down:?}", came.len());
    // Checksums catch a flipped bit.
    ensure!((4300..4800).contains(&came.len()) && down.corrupted > 400, "{} {down:?}", came.len());
    Ok(())
}

fn the_same_seed_loses_the_same_datagrams() -> Result<()> {
    let lab = Lab::new()?;
    let ([a, _b], here, there) = pair(&lab)?;
    let came = |seed| -> Result<Vec<u32>> {
        a.link().set_each(Link { loss: 0.2, seed, ..Link::CLEAN }, Link::CLEAN)?;
        numbers(&here, &there, 60)
    };
    let first = came(7)?;
    ensure!(first.len() > 30 && first.len() < 60, "{first:?}");
    assert_eq!(first, came(7)?);
    assert_ne!(first, came(8)?);
    Ok(())
}

fn a_rate_bounds_what_passes() -> Result<()> {
    let lab = Lab::new()?;
    let ([a, _b], here, there) = pair(&lab)?;
    // 50 datagrams of 1000 B at 8 Mbit/s are 50 ms and a bit for their headers.
    a.link().set_each(Link { rate: Some(8_000_000), queue: 100_000, ..Link::CLEAN }, Link::CLEAN)?;
    let began = Instant::now();
    for _ in 0..50 {
        here.send(&[7; 1000])?;
    }
    for _ in 0..50 {
        there.recv_from(&mut [0; 1500]).context("a datagram was lost in a queue with room")?;
    }
    let took = began.elapsed();
    ensure!(took >= ms(50), "50 kB at 8 Mbit/s took {took:?}");
    // 200 at once find room for 100 at most.
    for _ in 0..200 {
        here.send(&[7; 1000])?;
    }
    lab::wait_until(SOON, "the queue to overflow", || a.link().counts().is_ok_and(|(up, _)| up.overflowed > 50))
}

fn a_link_is_cut_restored_and_changed_while_it_runs() -> Result<()> {
    let lab = Lab::new()?;
    let ([a, _b], here, there) = pair(&lab)?;
    a.link().set(Link { delay: ms(1), ..Link::CLEAN })?;
    assert_eq!(numbers(&here, &there, 10)?.len(), 10);
    a.link().cut()?;
    assert_eq!(numbers(&here, &there, 10)?.len(), 0);
    let (up, _) = a.link().counts()?;
    ensure!(up.cut >= 10, "{up:?}");
    a.link().restore()?;
    assert_eq!(numbers(&here, &there, 10)?.len(), 10);
    a.link().set(Link { loss: 1.0, ..Link::CLEAN })?;
    assert_eq!(numbers(&here, &there, 10)?.len(), 0);
    let error = a.link().set(Link { loss: 2.0, ..Link::CLEAN }).unwrap_err().to_string();
    ensure!(error.contains("loss") && error.contains("host a"), "{error}");
    Ok(())
}

fn large_writes_of_tcp_pass_as_frames() -> Result<()> {
    const LENGTH: usize = 4 << 20;
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    a.link().set(Link::CLEAN)?;
    // Both ways: b's offloads are still on.
    for (from, to) in [(&a, &b), (&b, &a)] {
        let address = to.address();
        let listener = to.inside(move || std::net::TcpListener::bind((address, 0)))??;
        let target = listener.local_addr()?;
        let mut sender = from.inside(move || std::net::TcpStream::connect(target))??;
        let (mut receiver, _) = listener.accept()?;
        receiver.set_read_timeout(Some(SOON))?;
        let sending = std::thread::Builder::new().spawn(move || sender.write_all(&[7; LENGTH]))?;
        let mut bytes = Vec::new();
        receiver.read_to_end(&mut bytes)?;
        sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        assert_eq!(bytes.len(), LENGTH);
    }
    let (up, down) = a.link().counts()?;
    ensure!(up.passed > 1000 && down.passed > 1000 && up.failed + down.failed == 0, "{up:?} {down:?}");
    Ok(())
}

fn a_link_within_a_loopback_lab_says_no() -> Result<()> {
    let lab = Lab::on_loopback()?;
    let [a] = lab.hosts(["a"])?;
    let error = a.link().set(Link::CLEAN).unwrap_err().to_string();
    ensure!(error.contains("loopback") && error.contains("Lab::new"), "{error}");
    Ok(())
}
