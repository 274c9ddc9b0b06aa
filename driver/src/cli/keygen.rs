//! `drawbridge keygen`

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use drawbridge_wire::generate_keypair;

/// Writes a private key to a new file and returns the line for `authorized_keys`.
pub(super) fn keygen(out: &Path) -> anyhow::Result<String> {
    let (private, public) = generate_keypair()?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .with_context(|| format!("cannot create {}", out.display()))?;
    file.write_all(private.expose().as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", out.display()))?;
    Ok(format!("{public}\n"))
}
