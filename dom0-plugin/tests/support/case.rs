//! One file, one call: header lines `key: value`, then `---` and the input (or, after `--- document`, the whole
//! document), verbatim. In header values and after `--- escaped` `\n`, `\t`, `\r`, `\0`, `\e`, `\\` and `\xNN` stand
//! for what they do in C.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A case.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Header lines; a key may stand more than once.
    pub(crate) header: Vec<(String, String)>,
    /// After `---` or `--- escaped`.
    pub(crate) stdin: Option<Vec<u8>>,
    /// After `--- document`.
    pub(crate) document: Option<String>,
}

impl Case {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.header.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, key: &str) -> Vec<&str> {
        self.header.iter().filter(|(k, _)| k == key).map(|(_, value)| value.as_str()).collect()
    }

    fn parse(path: &Path) -> Self {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap();
        let mut case = Self { name, header: Vec::new(), stdin: None, document: None };
        let mut rest = text.as_str();
        while let Some((line, more)) = rest.split_once('\n') {
            rest = more;
            match line {
                "---" => case.stdin = Some(rest.as_bytes().to_vec()),
                "--- escaped" => case.stdin = Some(unescape(rest.strip_suffix('\n').unwrap())),
                "--- document" => case.document = Some(rest.strip_suffix('\n').unwrap().to_owned()),
                _ if line.is_empty() || line.starts_with('#') => continue,
                _ => {
                    let (key, value) =
                        line.split_once(':').unwrap_or_else(|| panic!("{}: {line}", case.name));
                    let value = String::from_utf8(unescape(value.trim())).unwrap();
                    case.header.push((key.to_owned(), value));
                    continue;
                }
            }
            break;
        }
        case
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => out.push(match bytes.next().unwrap() {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'0' => 0,
                b'e' => 27,
                b'\\' => b'\\',
                b'x' => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => panic!("unknown escape \\{}", char::from(other)),
            }),
            b => out.push(b),
        }
    }
    out
}

/// The cases in `tests/<folder>`, by name.
pub(crate) fn load(folder: &str) -> BTreeMap<String, Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let cases: BTreeMap<_, _> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "case"))
        .map(|path| Case::parse(&path))
        .map(|case| (case.name.clone(), case))
        .collect();
    assert!(!cases.is_empty());
    cases
}
