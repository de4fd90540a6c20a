//! Files of TSIG keys, as BIND's `tsig-keygen` writes and `nsupdate -k` reads them:
//!
//! ```text
//! key "flows" {
//!     algorithm hmac-sha256;
//!     secret "c2VjcmV0IG9mIHRoaXMga2V5";
//! };
//! ```

use std::fmt;

use data_encoding::BASE64;

use super::domain::Zone;

/// A key that updates are signed with (RFC 8945).
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name, as the server knows it.
    pub name: String,
    /// How it signs.
    pub algorithm: Algorithm,
    /// The shared secret.
    pub secret: Vec<u8>,
}

/// What signs; the older ones are broken or too short to start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// hmac-sha256.
    Sha256,
    /// hmac-sha384.
    Sha384,
    /// hmac-sha512.
    Sha512,
}

impl Key {
    /// Reads a file's text; the error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = Words { text, line: 1 };
        words.expect("key")?;
        let name = words.word("the key's name")?;
        Zone::new(&name).map_err(|_| words.at(&format!("{name:?} cannot name a key")))?;
        words.expect("{")?;
        let (mut algorithm, mut secret) = (None, None);
        loop {
            match words.word("algorithm, secret or }")?.as_str() {
                "}" => break,
                "algorithm" if algorithm.is_none() => {
                    let word = words.word("the algorithm")?;
                    algorithm = Some(Algorithm::parse(&word).ok_or_else(|| {
                        words.at(&format!(
                            "{word} is no algorithm that is known; take hmac-sha256, hmac-sha384 or hmac-sha512"
                        ))
                    })?);
                }
                "secret" if secret.is_none() => {
                    let word = words.word("the secret")?;
                    let bytes = BASE64.decode(word.as_bytes()).ok().filter(|bytes| !bytes.is_empty());
                    secret = Some(bytes.ok_or_else(|| words.at("the secret is not in base64"))?);
                }
                // Never the word itself: it may be the secret.
                _ => return Err(words.at("algorithm, secret or } is expected, each once")),
            }
            words.expect(";")?;
        }
        words.expect(";")?;
        if words.next().is_some() {
            return Err(words.at("one key is expected, and nothing behind it"));
        }
        let algorithm = algorithm.ok_or_else(|| words.at("the key has no algorithm"))?;
        let secret = secret.ok_or_else(|| words.at("the key has no secret"))?;
        Ok(Self { name: name.trim_end_matches('.').to_ascii_lowercase(), algorithm, secret })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Algorithm {
    fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().trim_end_matches('.') {
            "hmac-sha256" => Some(Self::Sha256),
            "hmac-sha384" => Some(Self::Sha384),
            "hmac-sha512" => Some(Self::Sha512),
            _ => None,
        }
    }
}

struct Words<'a> {
    text: &'a str,
    line: usize,
}

impl Words<'_> {
    fn at(&self, what: &str) -> String {
        format!("line {}: {what}", self.line)
    }

    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.text.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.text = rest;
    }

    /// The next word, string or sign, behind white space and comments.
    fn next(&mut self) -> Option<String> {
        loop {
            let blank = self.text.len() - self.text.trim_start().len();
            self.skip(blank);
            let comment = if self.text.starts_with('#') || self.text.starts_with("//") {
                self.text.find('\n').unwrap_or(self.text.len())
            } else if self.text.starts_with("/*") {
                self.text.find("*/").map_or(self.text.len(), |end| end + 2)
            } else {
                break;
            };
            self.skip(comment);
        }
        let first = self.text.chars().next()?;
        let (word, length) = match first {
            '{' | '}' | ';' => (first.to_string(), 1),
            '"' => {
                let end = self.text[1..].find(['"', '\n']).map_or(self.text.len(), |end| end + 1);
                (self.text[1..end].to_owned(), (end + 1).min(self.text.len()))
            }
            _ => {
                let end = self.text.find(|c: char| c.is_whitespace() || "{};\"".contains(c)).unwrap_or(self.text.len());
                (self.text[..end].to_owned(), end)
            }
        };
        self.skip(length);
        Some(word)
    }

    fn word(&mut self, what: &str) -> Result<String, String> {
        self.next().ok_or_else(|| self.at(&format!("the file ends where {what} is expected")))
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        match self.next() {
            Some(word) if word == sign => Ok(()),
            _ => {
                Err(self
                    .at(&format!("{sign} is expected; write key \"NAME\" {{ algorithm hmac-sha256; secret \"…\"; }};")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tsig_keygen_writes_is_read() {
        let text = "# made by hand\nkey \"Flows.\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0IG9mIHRoaXMga2V5\"; // x\n};\n";
        let key = Key::parse(text).unwrap();
        assert_eq!((key.name.as_str(), key.algorithm), ("flows", Algorithm::Sha256));
        assert_eq!(key.secret, b"secret of this key");
        assert!(!format!("{key:?}").contains("c2Vj") && !format!("{key:?}").contains("115"), "{key:?}");
        let other = Key::parse("key k{secret /* first */ Zg==;algorithm HMAC-SHA512;};").unwrap();
        assert_eq!(
            (other.name.as_str(), other.algorithm, other.secret.as_slice()),
            ("k", Algorithm::Sha512, &b"f"[..])
        );
    }

    #[test]
    fn a_damaged_file_is_told_by_its_line() {
        let table = [
            ("", "line 1: key is expected"),
            ("\n\nfoo", "line 3: key is expected"),
            ("key \"a b\" {", "line 1: \"a b\" cannot name a key"),
            ("key k {\n algorithm hmac-md5;\n};", "line 2: hmac-md5 is no algorithm"),
            ("key k {\n algorithm hmac-sha256;\n secret \"!\";\n};", "line 3: the secret is not in base64"),
            ("key k {\n algorithm hmac-sha256;\n secret \"\";\n};", "line 3: the secret is not in base64"),
            ("key k {\n algorithm hmac-sha256;\n};", "line 3: the key has no secret"),
            ("key k {\n secret \"Zg==\";\n};", "line 3: the key has no algorithm"),
            ("key k {\n secret \"Zg==\"\n algorithm hmac-sha256;\n};", "line 3: ; is expected"),
            ("key k {\n c2VjcmV0;\n};", "line 2: algorithm, secret or } is expected"),
            ("key k {\n secret \"Zg==\";\n secret \"Zg==\";\n};", "line 3: algorithm, secret or }"),
            ("key k {\n algorithm hmac-sha256;\n secret \"Zg==\";", "line 3: the file ends"),
            ("key k { algorithm hmac-sha256; secret \"Zg==\"; };\nkey", "line 2: one key is expected"),
        ];
        for (text, want) in table {
            let error = Key::parse(text).unwrap_err();
            assert!(error.starts_with(want), "{text:?}: {error}");
            assert!(!error.contains("c2VjcmV0"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in r#"(key|algorithm|secret|hmac-sha256|[{};" \n#/*a=é]){0,20}"#) {
            let _ = Key::parse(&text);
        }
    }
}
