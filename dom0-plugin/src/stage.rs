//! Staged input: parts wait in the state directory until the last one comes.
//!
//! An upload is a folder `uploads/<key id>-<upload id>`: `head` (when it began, and what all its parts have in common),
//! `part-<n>`, and, once it is finished, `done` in place of the parts, so that a second use can be named.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drawbridge_wire::call::{self, Input};
use drawbridge_wire::limits;
use drawbridge_wire::stage::Part;

use crate::authenticate::Caller;
use crate::paths::Paths;
use crate::request::Request;
use crate::{Code, Refusal, Result, lock, state};

const PATIENCE: Duration = Duration::from_secs(5);

/// The call's whole input, still encoded; `None` if this part only had to be put down.
///
/// # Errors
/// A refusal with the code of what is wrong.
pub(crate) fn assemble(
    request: &Request,
    input: &Input,
    caller: Caller,
    paths: &Paths,
    now: u64,
) -> Result<Option<String>> {
    let Some(part) = &input.part else { return Ok(Some(input.text.clone())) };
    let uploads = paths.in_state("uploads");
    state::secure_dir(&uploads)?;
    let _lock = lock::acquire(&paths.in_state("uploads.lock"), PATIENCE)?;
    let mut staged = sweep(&uploads, now)?;

    let upload = Upload { folder: uploads.join(format!("{}-{}", caller.key_id(), part.upload)) };
    // The room is the key's own, too: others cannot use it up.
    staged.retain(|staged| staged.upload.is_of(caller) && staged.upload.folder != upload.folder);
    let is_new = !upload.folder.exists();
    if is_new && part.part != 1 {
        return Err(Refusal::new(Code::PartMissing).detail(1));
    }
    if !is_new {
        upload.check(request, part, now)?;
    }
    make_room(staged, part)?;
    if is_new {
        upload.begin(request, now)?;
    }
    if !part.is_last() {
        state::replace(&upload.part(part.part), input.text.as_bytes())?;
        return Ok(None);
    }
    let mut joined = String::new();
    for earlier in 1..part.part {
        let path = upload.part(earlier);
        joined += &fs::read_to_string(&path).map_err(|e| state::failed(&path, &e))?;
    }
    joined += &input.text;
    upload.finish()?;
    if hmac_sha256::Hash::hash(joined.as_bytes()) != part.sha256 {
        return Err(Code::BadHash.into());
    }
    Ok(Some(joined))
}

struct Upload {
    folder: PathBuf,
}

impl Upload {
    fn is_of(&self, caller: Caller) -> bool {
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix(&caller.key_id().to_string()).is_some_and(|rest| rest.starts_with('-'))
    }

    fn head(&self) -> PathBuf {
        self.folder.join("head")
    }

    fn done(&self) -> PathBuf {
        self.folder.join("done")
    }

    fn part(&self, number: u32) -> PathBuf {
        self.folder.join(format!("part-{number}"))
    }

    fn begin(&self, request: &Request, now: u64) -> Result<()> {
        state::secure_dir(&self.folder)?;
        state::replace(&self.head(), format!("{now}\n{}", common(request)).as_bytes())
    }

    /// Whether `part` is the next one of this upload.
    fn check(&self, request: &Request, part: &Part, now: u64) -> Result<()> {
        let head = read_head(&self.head())?.ok_or(Code::UploadExpired)?;
        if self.done().exists() {
            return Err(Code::UploadReused.into());
        }
        let age = now.saturating_sub(head.began);
        if age > limits::UPLOAD_SECONDS {
            return Err(Refusal::new(Code::UploadExpired).detail(age).detail(limits::UPLOAD_SECONDS));
        }
        if head.common != common(request) {
            return Err(Code::UploadMismatch.into());
        }
        if let Some(missing) = (1..part.part).find(|n| !self.part(*n).exists()) {
            return Err(Refusal::new(Code::PartMissing).detail(missing));
        }
        if self.part(part.part).exists() { Err(Code::UploadReused.into()) } else { Ok(()) }
    }

    fn finish(&self) -> Result<()> {
        state::replace(&self.done(), b"")?;
        self.drop_parts()
    }

    fn forget(&self) -> Result<()> {
        fs::remove_dir_all(&self.folder).map_err(|e| state::failed(&self.folder, &e))
    }

    fn drop_parts(&self) -> Result<()> {
        for number in 1..=limits::UPLOAD_PARTS {
            match fs::remove_file(self.part(number)) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => break,
                Err(e) => return Err(state::failed(&self.folder, &e)),
            }
        }
        Ok(())
    }
}

/// What all parts of an upload have in common: everything but the part itself and its signature.
fn common(request: &Request) -> String {
    let mut members: Vec<_> = request
        .pairs()
        .into_iter()
        .filter(|(key, _)| ![call::AUTH, call::STDIN, call::PART].contains(key))
        .collect();
    members.sort_unstable();
    format!("{} {members:?}\n", request.function)
}

struct Head {
    began: u64,
    common: String,
}

/// `None` if there is none: its writer was killed before it got so far.
fn read_head(path: &Path) -> Result<Option<Head>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(state::failed(path, &e)),
    };
    let parsed = text
        .split_once('\n')
        .and_then(|(began, common)| Some(Head { began: began.parse().ok()?, common: common.to_owned() }));
    parsed
        .map(Some)
        .ok_or_else(|| Refusal::new(Code::StateIo).detail(path.display()).detail("not an upload's head"))
}

/// An upload that is still remembered.
struct Staged {
    upload: Upload,
    is_done: bool,
    began: u64,
    bytes: u64,
}

/// Drops the parts of expired uploads, and forgets old ones.
fn sweep(uploads: &Path, now: u64) -> Result<Vec<Staged>> {
    let mut staged = Vec::new();
    for entry in fs::read_dir(uploads).map_err(|e| state::failed(uploads, &e))? {
        let upload = Upload { folder: entry.map_err(|e| state::failed(uploads, &e))?.path() };
        let began = read_head(&upload.head())?.map(|head| head.began);
        let age = |began: u64| now.saturating_sub(began);
        let Some(began) = began.filter(|began| age(*began) <= limits::UPLOAD_MEMORY_SECONDS) else {
            upload.forget()?;
            continue;
        };
        if age(began) > limits::UPLOAD_SECONDS {
            upload.drop_parts()?;
        }
        let files = fs::read_dir(&upload.folder).map_err(|e| state::failed(&upload.folder, &e))?.flatten();
        let bytes = files.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum();
        staged.push(Staged { is_done: upload.done().exists(), began, bytes, upload });
    }
    Ok(staged)
}

/// Forgets other uploads of the key until this one fits beside them: those that are done first, then those that began first. A driver that
/// was killed has left them, and the next must not have to wait until they expire. What is forgotten cannot be used again: each
/// of its calls was (see [`crate::authenticate`]).
fn make_room(mut others: Vec<Staged>, part: &Part) -> Result<()> {
    let own = u64::from(part.parts) * limits::ARGV_BYTES as u64;
    others.sort_by_key(|other| (!other.is_done, other.began));
    let mut bytes: u64 = others.iter().map(|other| other.bytes).sum();
    let mut uploads = others.len();
    for other in others {
        if uploads < limits::UPLOADS && bytes + own <= limits::STAGED_BYTES {
            break;
        }
        other.upload.forget()?;
        uploads -= 1;
        bytes -= other.bytes;
    }
    Ok(())
}
