//! One side's account of a test.

use std::time::Duration;

/// What one side sent or received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// SDUs sent; or received, each counted once.
    pub sdus: u64,
    /// Their bytes.
    pub bytes: u64,
    /// SDUs received again.
    pub duplicates: u64,
    /// SDUs received after one that was sent later.
    pub reordered: u64,
    /// Sends that failed, round trips that were given up.
    pub errors: u64,
    /// From the first SDU to the last.
    pub elapsed_ns: u64,
    /// CPU time of the side's thread meanwhile.
    pub cpu_ns: u64,
}

impl Account {
    /// Bytes on a flow: seven numbers of 64 bits, big-endian.
    pub const BYTES: usize = 7 * 8;

    /// As on a flow.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let fields =
            [self.sdus, self.bytes, self.duplicates, self.reordered, self.errors, self.elapsed_ns, self.cpu_ns];
        let mut bytes = [0; Self::BYTES];
        for (room, field) in bytes.chunks_exact_mut(8).zip(fields) {
            room.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    /// `None` if bytes are missing; more of them are a later version's.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields =
            bytes.get(..Self::BYTES)?.chunks_exact(8).map(|f| f.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
        let mut next = || fields.next().unwrap_or(0);
        Some(Self {
            sdus: next(),
            bytes: next(),
            duplicates: next(),
            reordered: next(),
            errors: next(),
            elapsed_ns: next(),
            cpu_ns: next(),
        })
    }

    /// Sets both times.
    pub fn took(&mut self, elapsed: Duration, cpu: Duration) {
        self.elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_ns = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
    }

    /// Bits of SDUs per second.
    pub fn bits_per_second(&self) -> f64 {
        per_second(self.bytes as f64 * 8.0, self.elapsed_ns)
    }

    /// SDUs per second.
    pub fn sdus_per_second(&self) -> f64 {
        per_second(self.sdus as f64, self.elapsed_ns)
    }

    /// CPU nanoseconds per SDU.
    pub fn cpu_ns_per_sdu(&self) -> f64 {
        if self.sdus == 0 { 0.0 } else { self.cpu_ns as f64 / self.sdus as f64 }
    }
}

fn per_second(amount: f64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { amount * 1e9 / ns as f64 }
}

/// SDUs sent and never received.
pub fn lost(sender: &Account, receiver: &Account) -> u64 {
    sender.sdus.saturating_sub(receiver.sdus)
}

/// The same of 100.
pub fn loss_percent(sender: &Account, receiver: &Account) -> f64 {
    if sender.sdus == 0 { 0.0 } else { lost(sender, receiver) as f64 * 100.0 / sender.sdus as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_reads_back() {
        let account =
            Account { sdus: 1, bytes: u64::MAX, duplicates: 3, reordered: 4, errors: 5, elapsed_ns: 6, cpu_ns: 7 };
        assert_eq!(Account::read(&account.to_bytes()), Some(account));
        assert_eq!(Account::read(&account.to_bytes()[1..]), None);
    }

    #[test]
    fn rates_and_losses() {
        let mut sender = Account { sdus: 1000, bytes: 1_000_000, ..Account::default() };
        sender.took(Duration::from_secs(2), Duration::from_millis(1));
        assert_eq!((sender.bits_per_second(), sender.sdus_per_second(), sender.cpu_ns_per_sdu()), (4e6, 500.0, 1000.0));
        let receiver = Account { sdus: 990, ..Account::default() };
        assert_eq!((lost(&sender, &receiver), loss_percent(&sender, &receiver)), (10, 1.0));
        // A hostile report: more received than sent.
        assert_eq!(lost(&receiver, &sender), 0);
        let nothing = Account::default();
        assert_eq!(
            (nothing.bits_per_second(), nothing.cpu_ns_per_sdu(), loss_percent(&nothing, &nothing)),
            (0.0, 0.0, 0.0)
        );
    }
}
