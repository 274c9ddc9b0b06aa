//! Reading files that the plugin believes: only if nobody but root can have written them.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::{Code, Refusal, Result};

/// Far above any real size.
const MAX_BYTES: u64 = 256 * 1024;

/// The text of `path`; `None` if there is no such file.
///
/// # Errors
/// [`Code::UnsafeFile`] if others than root could write it or its folder, if it is not a regular file, not UTF-8, or
/// cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<String>> {
    let refuse = |problem: String| Refusal::new(Code::UnsafeFile).detail(path.display()).detail(problem);
    // A link could lead anywhere, and to open a FIFO would wait for somebody to write.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(refuse(e.to_string())),
    };
    let metadata = file.metadata().map_err(|e| refuse(e.to_string()))?;
    if !metadata.is_file() {
        return Err(refuse("not a regular file".to_owned()));
    }
    if let Some(problem) = writable_by_others(&metadata) {
        return Err(refuse(problem));
    }
    if let Some(folder) = path.parent() {
        let metadata = std::fs::metadata(folder).map_err(|e| refuse(e.to_string()))?;
        if let Some(problem) = writable_by_others(&metadata) {
            return Err(refuse(format!("its folder: {problem}")));
        }
    }
    if metadata.len() > MAX_BYTES {
        return Err(refuse(format!("larger than {MAX_BYTES} bytes")));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|e| refuse(e.to_string()))?;
    Ok(Some(text))
}

fn writable_by_others(metadata: &Metadata) -> Option<String> {
    if metadata.uid() != 0 {
        return Some(format!("owned by uid {}, not by root", metadata.uid()));
    }
    let mode = metadata.mode() & 0o7777;
    (mode & 0o022 != 0).then(|| format!("mode {mode:04o} lets others write"))
}
