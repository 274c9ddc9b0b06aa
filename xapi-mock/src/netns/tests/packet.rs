//! Frames as they are, for guests that do not keep to what they were given.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;

/// Every frame of one link, in and out.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: OwnedFd,
    link: LinkAddr,
}

impl PacketSocket {
    /// Opens `link` of the calling thread's network namespace.
    pub(super) fn open(link: &str) -> io::Result<Self> {
        let address = getifaddrs()?
            .filter(|it| it.interface_name == link)
            .find_map(|it| it.address.and_then(|it| it.as_link_addr().copied()))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{link}: no such link")))?;
        let protocol = SockProtocol::EthAll;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self { socket, link: address })
    }

    /// The link's MAC.
    pub(super) fn mac(&self) -> [u8; 6] {
        self.link.addr().unwrap_or_default()
    }

    /// Sends one frame, Ethernet header included.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next frame, the own ones included; `None` if there was none in time.
    pub(super) fn receive(&self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        // Zero would mean to wait forever.
        let micros = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX).max(1);
        setsockopt(&self.socket, ReceiveTimeout, &TimeVal::new(micros / 1_000_000, micros % 1_000_000))?;
        let mut frame = vec![0; 65_536];
        match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}
