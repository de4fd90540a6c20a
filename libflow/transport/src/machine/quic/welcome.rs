//! The one word a server has for its client: come in, or the reasons why not.
//!
//! It is the whole of the server's first unidirectional stream: kind (1 byte: 1 come in, 2 refused), then the words of a
//! refusal (UTF-8, at most [`MAX_WORDS`] bytes), then the stream's end. A later version may say more behind "come in": this
//! one reads past it.

/// Longest reasons, bytes.
pub(crate) const MAX_WORDS: usize = 1024;
/// Longest word with its kind.
pub(crate) const MAX: usize = 1 + MAX_WORDS;

const COME_IN: u8 = 1;
const REFUSED: u8 = 2;

/// The server's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Welcome {
    ComeIn,
    Refused(String),
}

/// It is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nonsense {
    #[error("its welcome is empty")]
    Empty,
    #[error("its welcome is longer than {MAX} bytes")]
    TooLong,
    #[error("its welcome is of the unknown kind {0}")]
    Kind(u8),
}

impl Welcome {
    /// As on the wire; reasons are cut at [`MAX_WORDS`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::ComeIn => vec![COME_IN],
            Self::Refused(words) => [&[REFUSED], cut(words).as_bytes()].concat(),
        }
    }

    /// The whole stream.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Nonsense> {
        if bytes.len() > MAX {
            return Err(Nonsense::TooLong);
        }
        match bytes {
            [] => Err(Nonsense::Empty),
            [COME_IN, ..] => Ok(Self::ComeIn),
            [REFUSED, words @ ..] => Ok(Self::Refused(words_of(words))),
            [kind, ..] => Err(Nonsense::Kind(*kind)),
        }
    }
}

/// At most [`MAX_WORDS`] bytes, whole characters.
pub(crate) fn cut(words: &str) -> &str {
    let end = (0..=MAX_WORDS.min(words.len())).rev().find(|at| words.is_char_boundary(*at));
    &words[..end.unwrap_or(0)]
}

/// What a peer says in words, fit for a log: no control characters, bounded.
pub(crate) fn words_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_WORDS)]);
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2 * MAX)) {
            match Welcome::decode(&bytes) {
                Ok(Welcome::ComeIn) => prop_assert_eq!(bytes[0], COME_IN),
                Ok(Welcome::Refused(words)) => {
                    prop_assert_eq!(bytes[0], REFUSED);
                    prop_assert!(!words.chars().any(char::is_control));
                }
                Err(Nonsense::Empty) => prop_assert!(bytes.is_empty()),
                Err(Nonsense::TooLong) => prop_assert!(bytes.len() > MAX),
                Err(Nonsense::Kind(kind)) => prop_assert!(kind != COME_IN && kind != REFUSED),
            }
        }

        #[test]
        fn what_is_said_is_heard(words in "[^\\pC]{0,600}") {
            let said = Welcome::Refused(words.clone());
            prop_assert!(said.encode().len() <= MAX);
            let heard = Welcome::decode(&said.encode());
            prop_assert_eq!(heard, Ok(Welcome::Refused(cut(&words).to_owned())));
            prop_assert!(words.len() > MAX_WORDS || cut(&words) == words);
        }
    }

    #[test]
    fn more_behind_the_welcome_is_a_later_versions() {
        assert_eq!(Welcome::decode(&Welcome::ComeIn.encode()), Ok(Welcome::ComeIn));
        assert_eq!(Welcome::decode(&[COME_IN, 7, 7]), Ok(Welcome::ComeIn));
    }
}
