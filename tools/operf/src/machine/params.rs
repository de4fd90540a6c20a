//! The parameters of a test, as they travel to the server: in the piggy-back of the flow's allocation.

use std::fmt;
use std::time::Duration;

use super::sdu;

/// Longest test.
pub const MAX_TIME: Duration = Duration::from_secs(3_600);

/// The first word of the text, and what the server answers to it.
pub const VERSION: &str = "operf/1";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// SDUs as fast as they go.
    Throughput,
    /// One SDU there and back, then the next.
    Rtt,
    /// Allocations.
    Alloc,
}

impl Mode {
    /// As in the text and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Rtt => "rtt",
            Self::Alloc => "alloc",
        }
    }
}

/// A test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// What is measured.
    pub mode: Mode,
    /// Bytes of an SDU.
    pub size: u32,
    /// How long.
    pub time: Duration,
    /// The server sends.
    pub reverse: bool,
    /// Many SDUs per system call.
    pub batch: bool,
}

/// Text that is no test this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATest;

impl fmt::Display for NotATest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this name is served by {VERSION}, and the caller is no {VERSION}")
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION} mode={} size={} ms={}", self.mode.as_str(), self.size, self.time.as_millis())?;
        if self.reverse {
            f.write_str(" reverse")?;
        }
        if self.batch {
            f.write_str(" batch")?;
        }
        Ok(())
    }
}

impl Params {
    /// Reads the text that [`Params`]' `Display` writes. It comes from a stranger: everything is checked, words of later
    /// versions are no test.
    pub fn read(bytes: &[u8]) -> Result<Self, NotATest> {
        let text = std::str::from_utf8(bytes).map_err(|_| NotATest)?;
        let mut words = text.split(' ');
        if words.next() != Some(VERSION) {
            return Err(NotATest);
        }
        let (mut mode, mut size, mut time, mut reverse, mut batch) = (None, None, None, false, false);
        for word in words {
            match word.split_once('=') {
                Some(("mode", "throughput")) => mode = Some(Mode::Throughput),
                Some(("mode", "rtt")) => mode = Some(Mode::Rtt),
                Some(("mode", "alloc")) => mode = Some(Mode::Alloc),
                Some(("size", value)) => size = value.parse::<u32>().ok(),
                Some(("ms", value)) => time = value.parse().ok().map(Duration::from_millis),
                None if word == "reverse" => reverse = true,
                None if word == "batch" => batch = true,
                _ => return Err(NotATest),
            }
        }
        let size = size.filter(|size| (sdu::MIN..=sdu::MAX).contains(&(*size as usize))).ok_or(NotATest)?;
        let time = time.filter(|time| *time <= MAX_TIME).ok_or(NotATest)?;
        Ok(Self { mode: mode.ok_or(NotATest)?, size, time, reverse, batch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_test_reads_back() {
        for mode in [Mode::Throughput, Mode::Rtt, Mode::Alloc] {
            for (reverse, batch) in [(false, false), (true, false), (false, true), (true, true)] {
                let params = Params { mode, size: 1_400, time: Duration::from_millis(2_500), reverse, batch };
                let text = params.to_string();
                assert_eq!(Params::read(text.as_bytes()), Ok(params), "{text}");
                assert!(text.len() <= proto::shim::MAX_DATA);
            }
        }
    }

    #[test]
    fn anything_else_is_no_test() {
        let table = [
            "",
            "hello",
            "operf/2 mode=rtt size=64 ms=1",
            "operf/1",
            "operf/1 mode=rtt size=64",
            "operf/1 mode=rtt size=15 ms=1",
            "operf/1 mode=rtt size=99999999 ms=1",
            "operf/1 mode=rtt size=64 ms=99999999",
            "operf/1 mode=other size=64 ms=1",
            "operf/1 mode=rtt size=64 ms=1 later",
        ];
        for text in table {
            assert_eq!(Params::read(text.as_bytes()), Err(NotATest), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Params::read(&bytes);
        }
    }
}
