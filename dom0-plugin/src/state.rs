//! The state directory: `/run/drawbridge`, on a tmpfs, root's alone.
//!
//! Nothing in it needs to survive a reboot. Rules do not survive one either, so an old generation has nothing left to
//! overwrite; and calls signed before the boot are refused, so no forgotten nonce can be used again.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::{Code, Refusal, Result};

/// The refusal for an error on a path in the state directory.
pub(crate) fn failed(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(Code::StateIo).detail(path.display()).detail(error)
}

/// Makes sure that `path` is a directory of root's that nobody else can enter, creating it if need be.
///
/// # Errors
/// [`Code::UnsafeState`] if it is something else.
pub(crate) fn secure_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(failed(path, &e)),
    }
    // Not followed: a symbolic link is no directory.
    let metadata = fs::symlink_metadata(path).map_err(|e| failed(path, &e))?;
    let refuse =
        |problem: String| Err(Refusal::new(Code::UnsafeState).detail(path.display()).detail(problem));
    if !metadata.is_dir() {
        return refuse("not a directory".to_owned());
    }
    if metadata.uid() != 0 {
        return refuse(format!("owned by uid {}, not by root", metadata.uid()));
    }
    match metadata.mode() & 0o7777 {
        0o700 => Ok(()),
        mode => refuse(format!("mode {mode:04o}, not 0700")),
    }
}

/// The number in a file of ours; `None` if there is no such file.
pub(crate) fn read_number(path: &Path) -> Result<Option<u64>> {
    match fs::read_to_string(path) {
        Ok(text) => match text.trim_ascii_end().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Refusal::new(Code::StateIo).detail(path.display()).detail("not a number")),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(path, &e)),
    }
}

/// Replaces a file at once: readers see the old content or the new, also if this process is killed half way.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    write_and_rename(path, content, |_| Ok(())).map_err(|e| failed(path, &e))
}

/// Replaces a file at once, also for a reader after a power failure.
pub(crate) fn replace_for_good(path: &Path, content: &[u8]) -> Result<()> {
    let sync_folder = || File::open(path.parent().unwrap_or(path))?.sync_all();
    write_and_rename(path, content, File::sync_all).and_then(|()| sync_folder()).map_err(|e| failed(path, &e))
}

fn write_and_rename(
    path: &Path,
    content: &[u8],
    written: impl Fn(&File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&temporary)?;
    file.write_all(content)?;
    written(&file)?;
    fs::rename(&temporary, path)
}
