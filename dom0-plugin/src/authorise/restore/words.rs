//! Splitting a line as `iptables-restore` does, refusing whatever its versions might read differently.
//!
//! In `iptables-restore` a double quote opens a quotation anywhere, its end also ends the word, a backslash counts only
//! inside, and an empty quotation is no word at all. Here a quotation must be a whole word, not empty, and hold no
//! escapes but those `iptables-save` writes.

use std::borrow::Cow;

/// One word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// Without quotes.
    Plain(&'a str),
    /// In double quotes, the escapes resolved.
    Quoted(String),
}

impl<'a> Word<'a> {
    /// The word, if it is not quoted: only texts may be.
    pub(super) fn plain(&self) -> Result<&'a str, String> {
        match self {
            Self::Plain(text) => Ok(text),
            Self::Quoted(text) => Err(format!("quotes around {text:.40}")),
        }
    }

    /// The word, quoted or not.
    pub(super) fn text(&self) -> Cow<'a, str> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Quoted(text) => Cow::Owned(text.clone()),
        }
    }
}

/// The words of a line of printable ASCII.
pub(super) fn words(line: &str) -> Result<Vec<Word<'_>>, String> {
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let length = if let Some(quoted) = rest.strip_prefix('"') {
            let (text, length) = quotation(quoted)?;
            words.push(Word::Quoted(text));
            length + 1
        } else {
            let length = rest.find(' ').unwrap_or(rest.len());
            let word = &rest[..length];
            if word.is_empty() {
                return Err("two spaces in a row, or one at the start".to_owned());
            }
            if word.contains(['"', '\\', '\'']) {
                return Err("a quote or backslash inside a word".to_owned());
            }
            words.push(Word::Plain(word));
            length
        };
        rest = &rest[length..];
        match rest.strip_prefix(' ') {
            Some("") => return Err("a space at the end".to_owned()),
            Some(more) => rest = more,
            None if rest.is_empty() => {}
            None => return Err("a quotation that is not a whole word".to_owned()),
        }
    }
    Ok(words)
}

/// A quotation's text and its length with the closing quote, the opening one already taken.
fn quotation(text: &str) -> Result<(String, usize), String> {
    let mut content = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if content.is_empty() => return Err("an empty quotation".to_owned()),
            '"' if content.starts_with('-') => return Err("a quotation that starts with -".to_owned()),
            '"' => return Ok((content, at + 1)),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\' | '\''))) => content.push(c),
                _ => return Err("an unknown escape".to_owned()),
            },
            c => content.push(c),
        }
    }
    Err("a quotation without an end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        let q = |text: &str| Word::Quoted(text.to_owned());
        assert_eq!(words("").unwrap(), []);
        assert_eq!(words("-A dwb-x").unwrap(), [Word::Plain("-A"), Word::Plain("dwb-x")]);
        assert_eq!(
            words(r#"--comment "it\'s \"x\" \\" -j"#).unwrap(),
            [Word::Plain("--comment"), q(r#"it's "x" \"#), Word::Plain("-j")]
        );
    }

    #[test]
    fn refused() {
        for line in [
            " a",
            "a ",
            "a  b",
            r#"a"b""#,
            r#""a"b"#,
            r#""a""b""#,
            r#""""#,
            r#"""#,
            r#""a"#,
            r#""a\n""#,
            r#""a\"#,
            r#""-j""#,
            r"a\b",
            "it's",
            r#""a" "#,
        ] {
            assert!(words(line).is_err(), "{line:?}");
        }
    }
}
