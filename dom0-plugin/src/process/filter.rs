//! The system calls that no program of ours makes, and that a hijacked one must not make: they reach other processes, the kernel
//! itself, mounts, namespaces, keys or the clock. A list of what is denied, not of what is allowed: that would differ between
//! each two versions of iptables, Open vSwitch and libc. What it leaves is bounded by capabilities and read-only mounts.

use std::io;

use super::check;

/// Denied with EPERM.
const DENIED: &[libc::c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    SYS_PIDFD_GETFD,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    SYS_OPEN_TREE,
    SYS_MOVE_MOUNT,
    SYS_FSOPEN,
    SYS_FSCONFIG,
    SYS_FSMOUNT,
    SYS_FSPICK,
    SYS_MOUNT_SETATTR,
    // Files by other ways than their names.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_mknodat,
    libc::SYS_quotactl,
    // The kernel itself. Modules are loaded by the kernel's own helper, which this does not concern, or before (see the unit).
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    SYS_KEXEC_FILE_LOAD,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    SYS_IO_URING_SETUP,
    SYS_IO_URING_ENTER,
    SYS_IO_URING_REGISTER,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The clock.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
];

// Newer than some libc headers, and numbered alike everywhere.
const SYS_IO_URING_SETUP: libc::c_long = 425;
const SYS_IO_URING_ENTER: libc::c_long = 426;
const SYS_IO_URING_REGISTER: libc::c_long = 427;
const SYS_OPEN_TREE: libc::c_long = 428;
const SYS_MOVE_MOUNT: libc::c_long = 429;
const SYS_FSOPEN: libc::c_long = 430;
const SYS_FSCONFIG: libc::c_long = 431;
const SYS_FSMOUNT: libc::c_long = 432;
const SYS_FSPICK: libc::c_long = 433;
const SYS_CLONE3: libc::c_long = 435;
const SYS_PIDFD_GETFD: libc::c_long = 438;
const SYS_MOUNT_SETATTR: libc::c_long = 442;

#[cfg(target_arch = "x86_64")]
const SYS_KEXEC_FILE_LOAD: libc::c_long = 320;
#[cfg(not(target_arch = "x86_64"))]
const SYS_KEXEC_FILE_LOAD: libc::c_long = 294;

/// A child of the child with namespaces of its own.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// `AUDIT_ARCH_*` of what this was built for: numbers mean something else to other kinds of programs.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(not(target_arch = "x86_64"))]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Numbers from here on are x86-64's second set (x32).
const SECOND_SET: u32 = 0x4000_0000;

/// Offsets in the kernel's `struct seccomp_data`.
mod offset {
    pub(super) const NUMBER: u32 = 0;
    pub(super) const ARCHITECTURE: u32 = 4;
    /// The first argument's lower half, on little-endian machines.
    pub(super) const FIRST_ARGUMENT: u32 = 16;
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const IF_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// The call fails with this error.
const fn error(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.unsigned_abs()
}

/// One instruction; `yes` and `no` count those that a test skips.
fn instruction(code: u32, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: yes, jf: no, k }
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

/// The filter as the kernel reads it.
pub(super) fn program() -> Vec<libc::sock_filter> {
    let deny = |call| [instruction(IF_EQUAL, call, 0, 1), instruction(RETURN, error(libc::EPERM), 0, 0)];
    let mut program = vec![
        instruction(LOAD, offset::ARCHITECTURE, 0, 0),
        instruction(IF_EQUAL, ARCHITECTURE, 1, 0),
        instruction(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        instruction(LOAD, offset::NUMBER, 0, 0),
        instruction(IF_AT_LEAST, SECOND_SET, 0, 1),
        instruction(RETURN, error(libc::ENOSYS), 0, 0),
        // Its flags are in memory, where no filter can look. libc goes back to `clone`.
        instruction(IF_EQUAL, number(SYS_CLONE3), 0, 1),
        instruction(RETURN, error(libc::ENOSYS), 0, 0),
    ];
    program.extend(DENIED.iter().flat_map(|call| deny(number(*call))));
    program.extend([
        instruction(IF_EQUAL, number(libc::SYS_clone), 1, 0),
        instruction(RETURN, ALLOW, 0, 0),
        instruction(LOAD, offset::FIRST_ARGUMENT, 0, 0),
        instruction(IF_ANY_BIT, NEW_NAMESPACES, 0, 1),
        instruction(RETURN, error(libc::EPERM), 0, 0),
        instruction(RETURN, ALLOW, 0, 0),
    ]);
    program
}

/// From here on it holds for the calling process and all it starts.
pub(super) fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    super::no_new_privileges()?;
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `filter` names `len` instructions that live until the call is over; the kernel only reads them.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) })
}
