//! What a reboot takes from a dom0 whose namespaces stay: everything its kernel and `/run` held.

use std::fs;
use std::io;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use std::os::fd::AsRawFd;

use super::process::{self, Program};
use super::space::Space;

/// iptables' tables besides `filter`, which is loaded as shipped.
const TABLES: &str = "*raw\nCOMMIT\n*mangle\nCOMMIT\n*nat\nCOMMIT\n";

/// Kills every program that runs in the host's file system.
pub(super) fn kill_programs(space: &Space) -> io::Result<()> {
    // Seen from inside: whoever has the same mount namespace.
    let own = run(space, "readlink", &["/proc/self/ns/mnt"])?;
    let pids = space.inside(|| {
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().into_string() else { continue };
            // It may have ended by now.
            let theirs = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
            let inside = theirs.is_some_and(|it| it.to_str() == Some(own.trim()));
            if inside && pid.bytes().all(|byte| byte.is_ascii_digit()) {
                pids.push(pid);
            }
        }
        Ok(pids)
    })?;
    if !pids.is_empty() {
        let args: Vec<_> = ["-KILL"].into_iter().chain(pids.iter().map(String::as_str)).collect();
        // Some may have ended in the meantime; that is all `kill` complains about.
        let _killed = space.program(&Program::new("kill", &args))?;
    }
    Ok(())
}

/// Empties `/run`.
pub(super) fn clear_run(space: &Space) -> io::Result<()> {
    space.inside(|| {
        for entry in fs::read_dir("/run")? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::create_dir("/run/lock")
    })
}

/// Empties the tables that are not loaded at boot.
pub(super) fn clear_tables(space: &Space) -> io::Result<()> {
    for restore in ["iptables-restore", "ip6tables-restore"] {
        let output = space.program(&Program::new(restore, &[]).stdin(TABLES.as_bytes()))?;
        process::success(restore, &output)?;
    }
    for table in ["filter", "nat"] {
        run(space, "ebtables-nft", &["-t", table, "-F"])?;
        run(space, "ebtables-nft", &["-t", table, "-X"])?;
    }
    Ok(())
}

/// Makes the kernel forget the connections it tracks in the network namespace.
pub(super) fn forget_connections(space: &Space) -> io::Result<()> {
    /// `IPCTNL_MSG_CT_DELETE` of `NFNL_SUBSYS_CTNETLINK`, for any family and any connection, to be acknowledged
    /// (linux/netfilter/nfnetlink_conntrack.h).
    const FLUSH: [u8; 20] = [20, 0, 0, 0, 2, 1, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    space.in_network(|| {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        send(socket.as_raw_fd(), &FLUSH, MsgFlags::empty())?;
        let mut answer = [0; 64];
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let error = answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok());
        match error.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None => Err(io::Error::other("conntrack: an answer that is none")),
        }
    })
}

fn run(space: &Space, program: &str, args: &[&str]) -> io::Result<String> {
    let output = space.program(&Program::new(program, args))?;
    process::success(program, &output).map(|said| String::from_utf8_lossy(said).into_owned())
}
