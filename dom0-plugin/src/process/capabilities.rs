//! What root in a child may do that others may not.

use std::io;

use super::check;

/// To change the kernel's rules.
pub(crate) const NET_ADMIN: u32 = 12;

/// To speak to the kernel about rules as iptables-legacy does, through a raw socket.
pub(crate) const NET_RAW: u32 = 13;

/// Numbers end well below: the kernel has had at most 41.
const NUMBERS: u32 = 64;

/// `_LINUX_CAPABILITY_VERSION_3`
const VERSION: u32 = 0x2008_0522;

/// The kernel's `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// The kernel's `struct __user_cap_data_struct`: the lower or the upper 32 capabilities.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up all capabilities but `kept`, a set of bits, for good. What root executes gets what is left in the bounding set; so
/// that goes first, and the inheritable and the ambient set stay empty.
pub(super) fn keep(kept: u64) -> io::Result<()> {
    for number in (0..NUMBERS).filter(|number| kept & 1 << number == 0) {
        // SAFETY: PR_CAPBSET_READ takes a number, and answers -1 for one that the kernel does not have.
        match unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number)) } {
            // Only who has CAP_SETPCAP may ask for more; who has nothing to drop needs none.
            1 => {
                // SAFETY: PR_CAPBSET_DROP takes a number that the kernel has.
                check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number)) })?;
            }
            0 => {}
            _ => break,
        }
    }
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes three zeros.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    let mut header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: `header` and `data` have the form of version 3, which has two of the latter, and are valid for writing.
    check_long(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    for (data, kept) in data.iter_mut().zip([kept & 0xffff_ffff, kept >> 32]) {
        let permitted = u64::from(data.permitted) & kept;
        let permitted = u32::try_from(permitted).unwrap_or_default();
        *data = Data { effective: permitted, permitted, inheritable: 0 };
    }
    // SAFETY: as above, and valid for reading.
    check_long(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })
}

fn check_long(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
