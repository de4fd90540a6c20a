//! A link in words: `delay=50ms,loss=10%`.

use std::str::FromStr;
use std::time::Duration;

use super::link::{Burst, Link};

const KNOBS: &str = "delay=50ms, jitter=5ms, loss=1%, burst=1%x5 (share lost, frames in a row), reorder=1%, \
                     reorder-by=10ms, duplicate=1%, corrupt=0.1%, rate=10mbit, queue=64k, mtu=1280, seed=7";

/// Knobs between commas; what is not named is as in [`Link::CLEAN`].
impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut link = Self::CLEAN;
        for knob in text.split(',').map(str::trim).filter(|knob| !knob.is_empty()) {
            turn(&mut link, knob).ok_or_else(|| format!("'{knob}' is no knob of a link; there are {KNOBS}"))?;
        }
        link.check().map(|()| link)
    }
}

fn turn(link: &mut Link, knob: &str) -> Option<()> {
    let (name, value) = knob.split_once('=')?;
    match name {
        "delay" => link.delay = time(value)?,
        "jitter" => link.jitter = time(value)?,
        "loss" => link.loss = share(value)?,
        "burst" => {
            let (loss, length) = value.split_once('x')?;
            let (loss, length) = (share(loss)?, length.parse().ok()?);
            ((0.0..1.0).contains(&loss) && length >= 1.0).then_some(())?;
            link.burst = Some(Burst::of(loss, length));
        }
        "reorder" => link.reorder = share(value)?,
        "reorder-by" => link.reorder_by = time(value)?,
        "duplicate" => link.duplicate = share(value)?,
        "corrupt" => link.corrupt = share(value)?,
        "rate" => link.rate = Some(scaled(value, &[("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000)])?),
        "queue" => link.queue = usize::try_from(scaled(value, &[("m", 1 << 20), ("k", 1 << 10), ("", 1)])?).ok()?,
        "mtu" => link.mtu = Some(value.parse().ok()?),
        "seed" => link.seed = value.parse().ok()?,
        _ => return None,
    }
    Some(())
}

fn share(text: &str) -> Option<f64> {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.parse().ok(),
    }
}

fn time(text: &str) -> Option<Duration> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let (number, unit) = units.into_iter().find_map(|(end, unit)| Some((text.strip_suffix(end)?, unit)))?;
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = units.iter().find_map(|(end, unit)| Some((text.strip_suffix(end)?, unit)))?;
    number.parse::<u64>().ok()?.checked_mul(*unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_can_be_said() {
        let ms = Duration::from_millis;
        let table = [
            ("", Link::CLEAN),
            ("delay=50ms, loss=10%", Link { delay: ms(50), loss: 0.1, ..Link::CLEAN }),
            ("delay=1.5s,jitter=500us", Link { delay: ms(1500), jitter: Duration::from_micros(500), ..Link::CLEAN }),
            ("burst=1%x5", Link { burst: Some(Burst::of(0.01, 5.0)), ..Link::CLEAN }),
            ("reorder=0.01,reorder-by=3ms", Link { reorder: 0.01, reorder_by: ms(3), ..Link::CLEAN }),
            ("duplicate=1%,corrupt=2%", Link { duplicate: 0.01, corrupt: 0.02, ..Link::CLEAN }),
            ("rate=10mbit,queue=16k", Link { rate: Some(10_000_000), queue: 16 << 10, ..Link::CLEAN }),
            ("rate=1gbit,queue=1m", Link { rate: Some(1_000_000_000), queue: 1 << 20, ..Link::CLEAN }),
            ("mtu=1280,seed=7,queue=99", Link { mtu: Some(1280), seed: 7, queue: 99, ..Link::CLEAN }),
        ];
        for (text, link) in table {
            assert_eq!(text.parse(), Ok(link), "{text}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for text in ["delay", "delay=50", "loss=x%", "speed=1", "rate=5", "burst=1%", "burst=100%x5", "delay=-1ms"] {
            let error = text.parse::<Link>().unwrap_err();
            assert!(error.contains(text) && error.contains("there are"), "{text}: {error}");
        }
        for (text, word) in
            [("loss=200%", "loss"), ("jitter=1ms", "jitter"), ("delay=2000s", "delay"), ("rate=0kbit", "rate")]
        {
            let error = text.parse::<Link>().unwrap_err();
            assert!(error.starts_with(&format!("a link's {word}")), "{text}: {error}");
        }
    }
}
