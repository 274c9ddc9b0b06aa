//! Reading XML-RPC: a recursive descent over quick-xml's events, bounded in depth, refusing the rest of XML.

use std::fmt;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{MAX_DEPTH, MethodCall, Response, Value};

/// Why a document was refused. The document itself is never part of the message: it may hold a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Byte offset at which reading stopped.
    pub offset: u64,
    /// What was wrong there.
    pub problem: Problem,
}

/// The kinds of refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Not well-formed XML.
    Syntax(String),
    /// A DTD, a processing instruction, an attribute, or an entity that is not one of XML's five.
    Forbidden(&'static str),
    /// Deeper than [`MAX_DEPTH`].
    TooDeep,
    /// Well-formed, but not XML-RPC: what was expected, what stood there.
    Unexpected {
        /// The element or text that would have been right.
        expected: &'static str,
        /// The element (by name) or kind of event that stood there.
        found: String,
    },
    /// A struct has this member twice.
    DuplicateMember(String),
    /// Text that is no value of its tag's type.
    BadScalar(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XML-RPC, byte {}: ", self.offset)?;
        match &self.problem {
            Problem::Syntax(message) => write!(f, "not well-formed: {message}"),
            Problem::Forbidden(what) => write!(f, "{what} is not accepted"),
            Problem::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} values"),
            Problem::Unexpected { expected, found } => write!(f, "expected {expected}, found {found}"),
            Problem::DuplicateMember(name) => write!(f, "struct member {name:?} stands twice"),
            Problem::BadScalar(kind) => write!(f, "text is not a valid {kind}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Decodes a `<methodCall>`.
///
/// # Errors
/// [`DecodeError`] for anything but one well-formed call.
pub fn decode_call(document: &str) -> Result<MethodCall, DecodeError> {
    let mut d = Decoder::new(document);
    d.prolog()?;
    d.open("methodCall")?;
    d.open("methodName")?;
    let name = d.text_until_end()?;
    let mut params = Vec::new();
    match d.next()? {
        Token::End => {}
        Token::Start(tag) if tag == "params" => {
            while d.open_or_end("param")? {
                params.push(d.value_element()?);
                d.close()?;
            }
            d.close()?;
        }
        other => return Err(d.unexpected("<params>", &other)),
    }
    d.finish()?;
    Ok(MethodCall { name, params })
}

/// Decodes a `<methodResponse>`.
///
/// # Errors
/// [`DecodeError`] for anything but one well-formed response.
pub fn decode_response(document: &str) -> Result<Response, DecodeError> {
    let mut d = Decoder::new(document);
    d.prolog()?;
    d.open("methodResponse")?;
    let response = match d.next()? {
        Token::Start(tag) if tag == "params" => {
            d.open("param")?;
            let value = d.value_element()?;
            d.close()?;
            Response::Value(value)
        }
        Token::Start(tag) if tag == "fault" => {
            let fault = d.value_element()?;
            let code = match fault.member("faultCode") {
                Some(Value::Int(code)) => *code,
                Some(Value::String(code)) => {
                    code.parse().map_err(|_| d.error(Problem::BadScalar("faultCode")))?
                }
                _ => return Err(d.error(Problem::BadScalar("faultCode"))),
            };
            let message = fault.member("faultString").and_then(Value::as_str).unwrap_or_default().to_owned();
            Response::Fault { code, message }
        }
        other => return Err(d.unexpected("<params> or <fault>", &other)),
    };
    d.close()?;
    d.close()?;
    d.finish()?;
    Ok(response)
}

/// Decodes a document whose root is a single `<value>`.
///
/// # Errors
/// [`DecodeError`] for anything else.
pub fn decode_value(document: &str) -> Result<Value, DecodeError> {
    let mut d = Decoder::new(document);
    d.prolog()?;
    let value = d.value_element()?;
    d.finish()?;
    Ok(value)
}

/// The part of XML that XML-RPC uses.
enum Token {
    Start(String),
    End,
    Text(String),
    Eof,
}

struct Decoder<'a> {
    reader: Reader<&'a [u8]>,
    depth: usize,
    peeked: Option<Token>,
}

impl<'a> Decoder<'a> {
    fn new(document: &'a str) -> Self {
        let mut reader = Reader::from_str(document);
        reader.config_mut().expand_empty_elements = true;
        Self { reader, depth: 0, peeked: None }
    }

    fn error(&self, problem: Problem) -> DecodeError {
        DecodeError { offset: self.reader.buffer_position(), problem }
    }

    fn unexpected(&self, expected: &'static str, found: &Token) -> DecodeError {
        let found = match found {
            Token::Start(tag) => format!("<{}>", tag.chars().take(40).collect::<String>()),
            Token::End => "an end tag".to_owned(),
            Token::Text(_) => "text".to_owned(),
            Token::Eof => "the end of the document".to_owned(),
        };
        self.error(Problem::Unexpected { expected, found })
    }

    fn start(&self, tag: &BytesStart<'_>) -> Result<Token, DecodeError> {
        if tag.attributes().next().is_some() {
            return Err(self.error(Problem::Forbidden("an attribute")));
        }
        Ok(Token::Start(tag.name().as_ref().to_owned()))
    }

    /// The text, if XML admits every character of it; the reader below does not look.
    fn characters<'t>(&self, text: &'t str) -> Result<&'t str, DecodeError> {
        if text.chars().all(is_xml_char) {
            Ok(text)
        } else {
            Err(self.error(Problem::Forbidden("a control character")))
        }
    }

    /// The next token, text with its entities and CDATA sections joined, white space as it is.
    fn raw_next(&mut self) -> Result<Token, DecodeError> {
        if let Some(token) = self.peeked.take() {
            return Ok(token);
        }
        let mut text: Option<String> = None;
        loop {
            let event = self.reader.read_event().map_err(|e| self.error(Problem::Syntax(e.to_string())))?;
            let token = match event {
                Event::Text(t) => {
                    text.get_or_insert_default().push_str(self.characters(&t.xml10_content())?);
                    continue;
                }
                Event::CData(t) => {
                    text.get_or_insert_default().push_str(self.characters(&t.xml10_content())?);
                    continue;
                }
                Event::GeneralRef(entity) => {
                    let resolved = match entity.resolve_char_ref() {
                        Ok(Some(c)) if is_xml_char(c) => c,
                        Ok(Some(_)) | Err(_) => {
                            return Err(self.error(Problem::Forbidden("this character reference")));
                        }
                        Ok(None) => match entity.as_ref() {
                            "lt" => '<',
                            "gt" => '>',
                            "amp" => '&',
                            "quot" => '"',
                            "apos" => '\'',
                            _ => return Err(self.error(Problem::Forbidden("a named entity"))),
                        },
                    };
                    text.get_or_insert_default().push(resolved);
                    continue;
                }
                Event::Comment(_) => continue,
                Event::Start(tag) => self.start(&tag)?,
                Event::End(_) => Token::End,
                Event::Eof => Token::Eof,
                Event::DocType(_) => return Err(self.error(Problem::Forbidden("a DTD"))),
                Event::PI(_) | Event::Decl(_) => {
                    return Err(self.error(Problem::Forbidden("a processing instruction")));
                }
                Event::Empty(_) => return Err(self.error(Problem::Syntax("empty element".to_owned()))),
            };
            return Ok(match text {
                Some(text) => {
                    self.peeked = Some(token);
                    Token::Text(text)
                }
                None => token,
            });
        }
    }

    /// The next token that is not white space: between tags XML-RPC gives it no meaning.
    fn next(&mut self) -> Result<Token, DecodeError> {
        loop {
            match self.raw_next()? {
                Token::Text(text) if text.trim_ascii().is_empty() => {}
                token => return Ok(token),
            }
        }
    }

    /// Skips `<?xml … ?>` where it may stand: at the very start.
    fn prolog(&mut self) -> Result<(), DecodeError> {
        let first = self.reader.read_event().map_err(|e| self.error(Problem::Syntax(e.to_string())))?;
        match first {
            Event::Decl(_) => Ok(()),
            Event::Start(tag) => {
                self.peeked = Some(self.start(&tag)?);
                Ok(())
            }
            Event::Text(t) if t.trim_ascii().is_empty() => Ok(()),
            Event::DocType(_) => Err(self.error(Problem::Forbidden("a DTD"))),
            _ => Err(self
                .error(Problem::Unexpected { expected: "an element", found: "something else".to_owned() })),
        }
    }

    fn open(&mut self, tag: &'static str) -> Result<(), DecodeError> {
        match self.next()? {
            Token::Start(found) if found == tag => Ok(()),
            other => Err(self.unexpected(tag, &other)),
        }
    }

    /// True: `<tag>` was opened. False: the enclosing element ended.
    fn open_or_end(&mut self, tag: &'static str) -> Result<bool, DecodeError> {
        match self.next()? {
            Token::Start(found) if found == tag => Ok(true),
            Token::End => Ok(false),
            other => Err(self.unexpected(tag, &other)),
        }
    }

    fn close(&mut self) -> Result<(), DecodeError> {
        match self.next()? {
            Token::End => Ok(()),
            other => Err(self.unexpected("an end tag", &other)),
        }
    }

    fn finish(&mut self) -> Result<(), DecodeError> {
        match self.next()? {
            Token::Eof => Ok(()),
            other => Err(self.unexpected("the end of the document", &other)),
        }
    }

    /// The text up to the end tag of the element just opened.
    fn text_until_end(&mut self) -> Result<String, DecodeError> {
        match self.raw_next()? {
            Token::End => Ok(String::new()),
            Token::Text(text) => {
                self.close()?;
                Ok(text)
            }
            other => Err(self.unexpected("text", &other)),
        }
    }

    fn value_element(&mut self) -> Result<Value, DecodeError> {
        self.open("value")?;
        self.value_body()
    }

    /// What stands between `<value>` and `</value>`, both consumed when this returns.
    fn value_body(&mut self) -> Result<Value, DecodeError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(Problem::TooDeep));
        }
        let value = match self.raw_next()? {
            Token::End => Value::String(String::new()),
            Token::Text(text) => match self.raw_next()? {
                Token::End => Value::String(text),
                Token::Start(tag) if text.trim_ascii().is_empty() => self.typed(&tag)?,
                other => return Err(self.unexpected("</value>", &other)),
            },
            Token::Start(tag) => self.typed(&tag)?,
            Token::Eof => return Err(self.unexpected("a value", &Token::Eof)),
        };
        self.depth -= 1;
        Ok(value)
    }

    /// The content of `<value><tag>`, up to and with `</value>`.
    fn typed(&mut self, tag: &str) -> Result<Value, DecodeError> {
        let value = match tag {
            "string" => Value::String(self.text_until_end()?),
            "int" | "i4" | "i8" => Value::Int(self.scalar("integer")?),
            "double" => Value::Double(self.scalar("double")?),
            "boolean" => match self.text_until_end()?.trim_ascii() {
                "1" | "true" => Value::Bool(true),
                "0" | "false" => Value::Bool(false),
                _ => return Err(self.error(Problem::BadScalar("boolean"))),
            },
            "dateTime.iso8601" => Value::DateTime(self.text_until_end()?),
            "base64" => Value::Base64(self.text_until_end()?),
            "nil" => {
                self.close()?;
                Value::Nil
            }
            "array" => self.array()?,
            "struct" => self.members()?,
            _ => return Err(self.unexpected("a value's type", &Token::Start(tag.to_owned()))),
        };
        self.close()?;
        Ok(value)
    }

    fn scalar<T: std::str::FromStr>(&mut self, kind: &'static str) -> Result<T, DecodeError> {
        let text = self.text_until_end()?;
        text.trim_ascii().parse().map_err(|_| self.error(Problem::BadScalar(kind)))
    }

    fn array(&mut self) -> Result<Value, DecodeError> {
        let mut items = Vec::new();
        if self.open_or_end("data")? {
            while self.open_or_end("value")? {
                items.push(self.value_body()?);
            }
            self.close()?;
        }
        Ok(Value::Array(items))
    }

    fn members(&mut self) -> Result<Value, DecodeError> {
        let mut members: Vec<(String, Value)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while self.open_or_end("member")? {
            self.open("name")?;
            let name = self.text_until_end()?;
            let value = self.value_element()?;
            self.close()?;
            if !seen.insert(name.clone()) {
                return Err(self.error(Problem::DuplicateMember(name.chars().take(40).collect())));
            }
            members.push((name, value));
        }
        Ok(Value::Struct(members))
    }
}

/// The characters XML 1.0 §2.2 admits.
fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}
