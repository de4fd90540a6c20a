//! What game servers are asked to learn whether they live.
//!
//! Quake II's datagrams that belong to no game begin with four bytes of all ones. To `status` and a line end a server answers
//! `print`, a line end, and what it is like. Quake III's are asked `getstatus` and answer `statusResponse`. Of the same form is
//! [A2S_INFO](https://developer.valvesoftware.com/wiki/Server_queries), to which servers answer what they are like (`I`), or a
//! challenge (`A`): that one lives, too.

use super::rule::Query;

/// What begins them.
const CONNECTIONLESS: [u8; 4] = [0xff; 4];

/// The datagram that asks.
pub fn question(query: Query) -> &'static [u8] {
    match query {
        Query::Quake2 => b"\xff\xff\xff\xffstatus\n",
        Query::Quake3 => b"\xff\xff\xff\xffgetstatus\n",
        Query::Source => b"\xff\xff\xff\xffTSource Engine Query\0",
    }
}

/// Whether a datagram answers it. A server that says anything connectionless lives: one that is full or wants a password does
/// not answer `status` with `print`.
pub fn is_answer(query: Query, datagram: &[u8]) -> bool {
    match query {
        Query::Quake2 | Query::Quake3 | Query::Source => {
            datagram.strip_prefix(&CONNECTIONLESS).is_some_and(|rest| !rest.is_empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_lives_says_something() {
        assert_eq!(question(Query::Quake2), b"\xff\xff\xff\xffstatus\n");
        assert!(is_answer(Query::Quake2, b"\xff\xff\xff\xffprint\n\\mapname\\q2dm1\n"));
        assert!(is_answer(Query::Quake3, b"\xff\xff\xff\xffstatusResponse\n\\mapname\\q3dm17\n"));
        assert!(is_answer(Query::Source, b"\xff\xff\xff\xffA\x01\x02\x03\x04"));
        assert_eq!(question(Query::Source).len(), 25);
        assert!(!is_answer(Query::Quake2, b"\xff\xff\xff\xff"));
        assert!(!is_answer(Query::Quake2, b"print\n"));
        assert!(!is_answer(Query::Quake2, b""));
    }
}
