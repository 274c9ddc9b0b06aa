//! A host's private file system: the machine's own, with what a host changes in it kept in memory.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, umask};

use super::process::PLUGINS_DIR;
use crate::dataplane::{Content, HostFile, HostSpec, Iptables, NetworkBackend};

/// Directories a host sees its own version of. `/run` starts empty, the others as the machine's.
const PRIVATE: [&str; 5] = ["/etc", "/usr", "/opt", "/var", "/run"];

/// What a host finds in its `/dev`, besides its own `/dev/log`.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Where a switch in user space makes its links.
const TUN: &str = "net/tun";

/// A file about to be written into a host, read from the machine while its own file system is in sight.
#[derive(Debug)]
pub(super) struct Prepared {
    path: PathBuf,
    mode: u32,
    bytes: Vec<u8>,
}

/// Checks and reads the files of a host.
///
/// # Errors
/// A path outside what is private to a host, or a source that cannot be read.
pub(super) fn prepare(spec: &HostSpec) -> io::Result<Vec<Prepared>> {
    let HostSpec { uuid, network_backend, files, .. } = spec;
    let shipped = |path: &str, text: String| Prepared { path: path.into(), mode: 0o644, bytes: text.into() };
    let mut prepared = vec![
        shipped("/etc/xensource-inventory", format!("INSTALLATION_UUID='{uuid}'\n")),
        shipped("/etc/xensource/network.conf", format!("{}\n", network_backend.as_str())),
    ];
    for HostFile { path, mode, content } in files {
        private(path)?;
        let bytes = match content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::CopyOf(source) => fs::read(source)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", source.display())))?,
        };
        prepared.push(Prepared { path: path.clone(), mode: *mode, bytes });
    }
    Ok(prepared)
}

/// Refuses a path through which a host would change the machine.
pub(super) fn private(path: &Path) -> io::Result<()> {
    let plain = path.components().skip(1).all(|it| matches!(it, Component::Normal(_)));
    if path.is_absolute()
        && plain
        && PRIVATE.iter().any(|root| path != Path::new(root) && path.starts_with(root))
    {
        return Ok(());
    }
    let roots = PRIVATE.join(", ");
    let message = format!("{}: a host's own files are those in {roots}", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Makes the calling thread's mount namespace, private already, a host's.
pub(super) fn furnish(spec: &HostSpec, files: &[Prepared]) -> io::Result<()> {
    umask(Mode::from_bits_truncate(0o022));
    // Holds the layers and is then covered by the host's real /run.
    mount_at("tmpfs", "/run", "tmpfs", MsFlags::empty(), "mode=755")?;
    for root in PRIVATE.into_iter().filter(|&root| root != "/run") {
        overlay(root)?;
    }
    devices(spec.network_backend)?;
    mount_at("tmpfs", "/run", "tmpfs", MsFlags::empty(), "mode=755")?;
    fs::create_dir("/run/lock")?;
    choose_iptables(spec.iptables)?;
    fs::create_dir_all(PLUGINS_DIR)?;
    files.iter().try_for_each(|file| write(&file.path, file.mode, &file.bytes))
}

/// Puts a file in the place of whatever stood there.
pub(super) fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let context = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(context)?;
    }
    remove(path).map_err(context)?;
    let mut file = File::create_new(path).map_err(context)?;
    file.write_all(bytes).map_err(context)?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(context)
}

/// Removes a file that need not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Mounts, and says what and where if it cannot.
pub(super) fn mount_at(
    source: &str,
    target: &str,
    kind: &str,
    flags: MsFlags,
    options: &str,
) -> io::Result<()> {
    mount(Some(source), target, Some(kind), flags, Some(options)).map_err(|errno| {
        io::Error::new(io::Error::from(errno).kind(), format!("mount {kind} on {target}: {errno}"))
    })
}

fn overlay(root: &str) -> io::Result<()> {
    // A link leads into another of the directories.
    if !fs::symlink_metadata(root).is_ok_and(|it| it.is_dir()) {
        return Ok(());
    }
    let layers = format!("/run/layers{root}");
    fs::create_dir_all(format!("{layers}/upper"))?;
    fs::create_dir_all(format!("{layers}/work"))?;
    let options = format!("lowerdir={root},upperdir={layers}/upper,workdir={layers}/work");
    mount_at("overlay", root, "overlay", MsFlags::empty(), &options)
}

/// A `/dev` of its own, so that `/dev/log` can be.
fn devices(backend: NetworkBackend) -> io::Result<()> {
    fs::create_dir_all("/run/dev/shm")?;
    fs::create_dir_all("/run/dev/net")?;
    let tun = (backend == NetworkBackend::OpenVSwitch).then_some(TUN);
    for device in DEVICES.into_iter().chain(tun) {
        let (from, to) = (format!("/dev/{device}"), format!("/run/dev/{device}"));
        File::create_new(&to)?;
        mount_at(&from, &to, "", MsFlags::MS_BIND, "")?;
    }
    for (link, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(format!("/proc/self/{target}"), format!("/run/dev/{link}"))?;
    }
    mount_at("/run/dev", "/dev", "", MsFlags::MS_BIND | MsFlags::MS_REC, "")
}

/// Lets `iptables` and its kin be those of one back end, as the distribution's own links do.
fn choose_iptables(variant: Iptables) -> io::Result<()> {
    let variant = match variant {
        Iptables::Nft => "nft",
        Iptables::Legacy => "legacy",
    };
    for (family, end) in
        ["iptables", "ip6tables"].into_iter().flat_map(|it| ["", "-save", "-restore"].map(|end| (it, end)))
    {
        let target = format!("{family}-{variant}{end}");
        let directory = ["/usr/sbin", "/usr/bin", "/sbin"]
            .into_iter()
            .find(|it| Path::new(it).join(&target).exists())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{target}: no such program")))?;
        let link = Path::new(directory).join(format!("{family}{end}"));
        remove(&link)?;
        symlink(&target, &link)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_keeps_to_its_own_files() {
        let cases = [
            ("/etc/drawbridge/dom0.toml", true),
            ("/run/x", true),
            ("/usr/sbin/iptables", true),
            ("/etc", false),
            ("/etcetera/x", false),
            ("/etc/../root/x", false),
            ("/root/x", false),
            ("etc/x", false),
            ("/", false),
        ];
        for (path, accepted) in cases {
            assert_eq!(private(Path::new(path)).is_ok(), accepted, "{path}");
        }
    }
}
