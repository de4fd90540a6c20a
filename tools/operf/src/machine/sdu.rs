//! The SDUs of a test: 3 bytes of magic, a kind, 4 bytes of sequence number; then an account, parameters or filling.

use super::account::Account;

/// Shortest SDU of a test.
pub const MIN: usize = 16;

/// Longest SDU of a test: what a UDP datagram over IPv4 carries.
pub const MAX: usize = 65_507;

/// Bytes before an account.
const HEAD: usize = 8;

/// Bytes of an SDU that carries an account.
pub const ACCOUNT: usize = HEAD + Account::BYTES;

const MAGIC: [u8; 3] = *b"oPf";

/// What an SDU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdu<'a> {
    /// The load: its sequence number, from 0, lowest 32 bits.
    Data(u32),
    /// Asks for the same bytes back.
    Ping(u32),
    /// The sender is done; its account. Repeated until a report comes.
    End(Account),
    /// The receiver's account. Repeated for every `End`.
    Report(Account),
    /// The report arrived.
    Ack,
    /// Bare sockets only: the parameters, which a flow's allocation carries.
    Hello(&'a [u8]),
    /// Bare sockets only: the parameters arrived.
    Welcome,
}

const DATA: u8 = 1;
const PING: u8 = 2;
const END: u8 = 3;
const REPORT: u8 = 4;
const ACK: u8 = 5;
const HELLO: u8 = 6;
const WELCOME: u8 = 7;

/// What the bytes say; `None` if they are no SDU of a test.
pub fn read(bytes: &[u8]) -> Option<Sdu<'_>> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    if head[..3] != MAGIC {
        return None;
    }
    let seq = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    match head[3] {
        DATA => Some(Sdu::Data(seq)),
        PING => Some(Sdu::Ping(seq)),
        END => Account::read(rest).map(Sdu::End),
        REPORT => Account::read(rest).map(Sdu::Report),
        ACK => Some(Sdu::Ack),
        HELLO => Some(Sdu::Hello(rest)),
        WELCOME => Some(Sdu::Welcome),
        _ => None,
    }
}

fn head(kind: u8) -> [u8; HEAD] {
    [MAGIC[0], MAGIC[1], MAGIC[2], kind, 0, 0, 0, 0]
}

/// Room for `count` SDUs of `size` bytes each, heads written: data, or pings.
pub fn blank(size: usize, count: usize, ping: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..size * count).map(|i| i as u8).collect();
    for sdu in bytes.chunks_exact_mut(size) {
        sdu[..HEAD].copy_from_slice(&head(if ping { PING } else { DATA }));
    }
    bytes
}

/// Numbers a blank SDU.
pub fn number(sdu: &mut [u8], seq: u64) {
    sdu[4..HEAD].copy_from_slice(&(seq as u32).to_be_bytes());
}

fn with_account(kind: u8, account: &Account) -> [u8; ACCOUNT] {
    let mut sdu = [0; ACCOUNT];
    sdu[..HEAD].copy_from_slice(&head(kind));
    sdu[HEAD..].copy_from_slice(&account.to_bytes());
    sdu
}

/// The sender's last word.
pub fn end(account: &Account) -> [u8; ACCOUNT] {
    with_account(END, account)
}

/// The receiver's account.
pub fn report(account: &Account) -> [u8; ACCOUNT] {
    with_account(REPORT, account)
}

/// The report arrived.
pub fn ack() -> [u8; HEAD] {
    head(ACK)
}

/// Parameters over a bare socket.
pub fn hello(params: &str) -> Vec<u8> {
    let mut sdu = head(HELLO).to_vec();
    sdu.extend_from_slice(params.as_bytes());
    sdu
}

/// The parameters arrived.
pub fn welcome() -> [u8; HEAD] {
    head(WELCOME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_reads_back() {
        let account = Account { sdus: 1, bytes: 2, duplicates: 3, reordered: 4, errors: 5, elapsed_ns: 6, cpu_ns: 7 };
        assert_eq!(read(&end(&account)), Some(Sdu::End(account)));
        assert_eq!(read(&report(&account)), Some(Sdu::Report(account)));
        assert_eq!(read(&ack()), Some(Sdu::Ack));
        assert_eq!(read(&welcome()), Some(Sdu::Welcome));
        assert_eq!(read(&hello("x")), Some(Sdu::Hello(b"x")));
        let mut batch = blank(16, 2, false);
        number(&mut batch[16..], (1 << 32) + 9);
        assert_eq!(read(&batch[..16]), Some(Sdu::Data(0)));
        assert_eq!(read(&batch[16..]), Some(Sdu::Data(9)));
        assert_eq!(read(&blank(16, 1, true)), Some(Sdu::Ping(0)));
    }

    #[test]
    fn strangers_are_none() {
        let account = end(&Account::default());
        for bytes in [&b""[..], b"oPf", b"oPf\x09\0\0\0\0", b"xPf\x01\0\0\0\0", &account[..ACCOUNT - 1]] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }
    }
}
