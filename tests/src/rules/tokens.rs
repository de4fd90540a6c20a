//! A flat view of a file's tokens: comments and texts are gone, every word and sign has its line.

use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A word, or a sign (`::` is one sign), or `(…)`/`[…]`/`{…}` as its two brackets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// The tokens of a file; `Err` says why it is no Rust.
pub(super) fn flat(source: &str) -> Result<Vec<Token>, String> {
    let stream = TokenStream::from_str(source).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    flatten(stream, &mut out);
    Ok(out)
}

fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    let mut colon = false;
    for tree in stream {
        let line = tree.span().start().line;
        let was_colon = std::mem::take(&mut colon);
        match tree {
            TokenTree::Ident(word) => out.push(Token { text: word.to_string(), line }),
            TokenTree::Punct(sign) if sign.as_char() == ':' && was_colon => {
                "::".clone_into(&mut out.last_mut().expect("the first colon").text);
            }
            TokenTree::Punct(sign) => {
                colon = sign.as_char() == ':' && sign.spacing() == proc_macro2::Spacing::Joint;
                out.push(Token { text: sign.to_string(), line });
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                out.push(Token { text: open.to_owned(), line });
                let end = group.span_close().start().line;
                flatten(group.stream(), out);
                out.push(Token { text: close.to_owned(), line: end });
            }
            TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_no_tokens() {
        let tokens = flat("// async\nlet a = std::fs(\"tokio\");").unwrap();
        let words: Vec<_> = tokens.iter().map(|t| t.text.as_str()).collect();
        assert_eq!(words, ["let", "a", "=", "std", "::", "fs", "(", ")", ";"]);
        assert!(tokens.iter().all(|t| t.line == 2));
    }
}
