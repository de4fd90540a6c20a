//! Which kinds of NAT meet: facts of Kegel's rules, with real daemons, and how long it takes.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::{listen, stack};
use flowring_tests::net::SOON;
use lab::Middlebox;
use libflow::{Cube, Qos};

use super::stage::{Member, Session, await_name, await_survey};

const SIX: [Middlebox; 6] = [
    Middlebox::Open,
    Middlebox::Firewall,
    Middlebox::FullCone,
    Middlebox::AddressRestricted,
    Middlebox::PortRestricted,
    Middlebox::SymmetricRandom,
];

/// Each row: what the asker is behind; each column: what the other is behind. As measured before there was code.
const WANT: [[bool; 6]; 6] = [
    [true, true, true, true, true, true],
    [true, true, true, true, true, false],
    [true, true, true, true, true, true],
    [true, true, true, true, true, true],
    [true, true, true, true, true, false],
    [true, false, true, true, false, false],
];

/// A listener looks so often whether the asker gave up.
const LOOK: Duration = Duration::from_millis(300);

/// A member's link takes this long, each way.
const DELAY: Duration = Duration::from_millis(10);

/// From `flow_alloc` to the first SDU at the other end.
#[expect(clippy::disallowed_methods, reason = "measures real daemons")]
fn first_sdu(from: &Member, to: &Member, name: &str) -> Result<Result<Duration, String>> {
    let listener = listen(&to.host, name)?;
    await_name(&from.host, name)?;
    let asking = stack(&from.host)?;
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| -> Result<usize> {
            let flow = loop {
                match listener.accept_within(LOOK) {
                    Ok(flow) => break flow,
                    Err(_) if !failed.load(Relaxed) => {}
                    Err(error) => return Err(error.into()),
                }
            };
            let mut buffer = [0; 64];
            Ok(flow.recv_within(&mut buffer, SOON)?)
        });
        let began = Instant::now();
        let asked = asking.alloc(name).qos(Qos::from(Cube::Raw)).timeout(SOON).wait();
        let flow = match asked {
            Ok(flow) => flow,
            Err(error) => {
                failed.store(true, Relaxed);
                drop(accepted.join());
                return Ok(Err(error.to_string()));
            }
        };
        flow.send(b"first")?;
        let length = accepted.join().expect("no panic")?;
        ensure!(length == 5, "another SDU came");
        Ok(Ok(began.elapsed()))
    })
}

pub(crate) fn six_kinds_of_nat_meet_as_the_table_says() -> Result<()> {
    let session = Session::open()?;
    let members = |side: &str| {
        let member = |kind: &Middlebox| session.far_member(&format!("{side}-{kind}"), *kind, DELAY);
        SIX.iter().map(member).collect::<Result<Vec<_>>>()
    };
    let (askers, others) = (members("asker")?, members("other")?);
    for member in askers.iter().chain(&others) {
        await_survey(&member.host)?;
    }
    // One asker after the other asks one other: each pair has the machine for itself.
    let mut text = String::new();
    let mut took = Vec::new();
    for (row, asker) in askers.iter().enumerate() {
        write!(text, "{:<19}", SIX[row].name())?;
        for (column, other) in others.iter().enumerate() {
            let pair = format!("{} to {}", SIX[row], SIX[column]);
            let outcome = first_sdu(asker, other, &format!("cell{row}{column}")).context(pair.clone())?;
            match (WANT[row][column], outcome) {
                (true, Ok(time)) => {
                    took.push(time);
                    write!(text, "{:>9} ms", time.as_millis())?;
                }
                (false, Err(words)) => {
                    ensure!(words.contains("cannot be punched because"), "{pair}: {words}");
                    ensure!(words.contains("symmetric") && words.contains("a relay would do"), "{pair}: {words}");
                    write!(text, "{:>12}", "no")?;
                }
                (true, Err(words)) => anyhow::bail!("{pair}: {words}"),
                (false, Ok(time)) => anyhow::bail!("{pair}: met after {time:?}"),
            }
        }
        text.push('\n');
    }
    eprintln!("time to the first SDU, links of {DELAY:?} each way:\n{text}");
    took.sort_unstable();
    // A second is a question said again, or a second round: never for most.
    ensure!(took[took.len() / 2] < Duration::from_secs(1), "{took:?}");
    Ok(())
}
