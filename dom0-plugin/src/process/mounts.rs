//! Which mounts a child sees, and how: read off `/proc/self/mountinfo` before the fork.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::confine::c_path;

/// File systems that answer at once. Whatever else is mounted (NFS and SMB storage repositories, FUSE, what systemd would
/// mount when somebody looks) is taken out of the child's sight: only to look at one whose server is gone may take for ever.
const LOCAL: [&str; 37] = [
    "bdev",
    "binfmt_misc",
    "bpf",
    "btrfs",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "udf",
    "vfat",
    "xenfs",
    "xfs",
];

/// What to do to the mounts of a child that has left its parent's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mounts {
    /// Folders that have to become mounts of their own, so that they stay writable.
    pub(super) bind: Vec<CString>,
    /// Where, and what.
    pub(super) changes: Vec<(CString, Change)>,
    /// Becomes read-only at last.
    pub(super) protected: CString,
}

/// What becomes of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Read-only, and these flags, which it has.
    ReadOnly(libc::c_ulong),
    /// Gone.
    Detach,
}

impl Mounts {
    pub(super) fn read(writable: &[PathBuf], protected: &Path) -> io::Result<Self> {
        Self::plan(&std::fs::read("/proc/self/mountinfo")?, writable, protected)
    }

    fn plan(mountinfo: &[u8], writable: &[PathBuf], protected: &Path) -> io::Result<Self> {
        // Several may stand at one place; the last hides the others. A folder comes before what is in it.
        let mut places = BTreeMap::<PathBuf, Place>::new();
        for line in mountinfo.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            let unparsable = || io::Error::other("a line of mountinfo that is not understood");
            let (point, options, kind) = fields(line).ok_or_else(unparsable)?;
            let place = places.entry(point).or_default();
            place.mounts += 1;
            place.remote |= !LOCAL.contains(&kind);
            place.read_only = options.split(',').any(|option| option == "ro");
            place.flags = options.split(',').map(flag).fold(0, |all, flag| all | flag);
        }
        let bind = writable.iter().filter(|path| !places.contains_key(*path)).map(|path| c_path(path));
        let bind = bind.collect::<io::Result<_>>()?;
        let mut changes = Vec::new();
        for (point, place) in places.iter().filter(|(point, _)| !writable.contains(point)) {
            let path = c_path(point)?;
            if place.remote && point != Path::new("/") {
                changes.extend(std::iter::repeat_n((path, Change::Detach), place.mounts));
            } else if !place.read_only {
                changes.push((path, Change::ReadOnly(place.flags)));
            }
        }
        Ok(Self { bind, changes, protected: c_path(protected)? })
    }
}

/// What is mounted at one place.
#[derive(Default)]
struct Place {
    mounts: usize,
    /// At least one is of no kind in [`LOCAL`]. One beneath would be seen when the one above is gone.
    remote: bool,
    /// Of the last.
    read_only: bool,
    /// Of the last.
    flags: libc::c_ulong,
}

/// `36 35 98:0 /root /mount/point rw,noatime optional:1 fields:2 - type source super,options`
fn fields(line: &[u8]) -> Option<(PathBuf, &str, &str)> {
    let mut words = line.split(|&b| b == b' ');
    let point = unescape(words.nth(4)?);
    let options = std::str::from_utf8(words.next()?).ok()?;
    words.find(|word| *word == b"-")?;
    Some((PathBuf::from(OsString::from_vec(point)), options, std::str::from_utf8(words.next()?).ok()?))
}

/// Blanks, tabs, newlines and backslashes in a path are written `\040` and so on.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match rest {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] if *first == b'\\' => {
                path.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = tail;
            }
            _ => path.push(*first),
        }
    }
    path
}

/// Flags that a remount would take away if it did not name them. (Those of access times stay.)
fn flag(option: &str) -> libc::c_ulong {
    match option {
        "nosuid" => libc::MS_NOSUID,
        "nodev" => libc::MS_NODEV,
        "noexec" => libc::MS_NOEXEC,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_local_is_read_only_and_the_rest_out_of_sight() {
        let mountinfo = b"1 0 8:1 / / rw,relatime shared:1 - nfs server:/root rw\n\
            2 1 0:5 / /proc rw,nosuid,nodev,noexec shared:9 master:3 - proc proc rw\n\
            6 2 0:9 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
            7 6 0:9 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw\n\
            3 1 0:6 / /run rw,nosuid - tmpfs tmpfs rw\n\
            4 3 0:7 / /run/sr-mount/a\\040b rw - nfs4 nas:/sr rw\n\
            5 1 0:8 / /mnt rw - ext4 /dev/sda rw\n\
            8 5 0:8 / /mnt ro,nodev - iso9660 /dev/cdrom ro\n\
            9 1 0:8 / /srv ro - iso9660 /dev/cdrom ro\n\
            10 9 0:8 / /srv rw,nodev - ext4 /dev/sda rw\n";
        let writable = [PathBuf::from("/run"), PathBuf::from("/tmp/x")];
        let plan = Mounts::plan(mountinfo, &writable, Path::new("/run/drawbridge")).unwrap();
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let expected = Mounts {
            bind: vec![c"/tmp/x".into()],
            changes: vec![
                (c"/".into(), Change::ReadOnly(0)),
                (c"/proc".into(), Change::ReadOnly(flags)),
                // Both: a look at the one beneath would have it mounted again.
                (c"/proc/sys/fs/binfmt_misc".into(), Change::Detach),
                (c"/proc/sys/fs/binfmt_misc".into(), Change::Detach),
                (c"/run/sr-mount/a b".into(), Change::Detach),
                (c"/srv".into(), Change::ReadOnly(libc::MS_NODEV)),
            ],
            protected: c"/run/drawbridge".into(),
        };
        assert_eq!(plan, expected);
        assert!(Mounts::plan(b"what\n", &writable, Path::new("/")).is_err());
    }
}
