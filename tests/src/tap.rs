//! Raw frames on one interface: a packet socket with deadlines.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket, sockopt,
};

/// `PACKET_OUTGOING` of linux/if_packet.h: a frame this machine sent.
const OUTGOING: u8 = 4;

/// The longest frame taken; a veth with large segments may carry more than the MTU.
const FRAME_BYTES: usize = 65_600;

/// How long taking off what waits may take.
const DRAIN: Duration = Duration::from_millis(500);

/// A frame as it passed the interface.
#[derive(Debug, Clone)]
pub struct Captured {
    /// From destination address to the last byte of payload.
    pub bytes: Vec<u8>,
    /// Sent by this namespace, not received by it.
    pub outgoing: bool,
    /// When it was taken off the socket.
    pub at: Instant,
}

/// One interface, opened for raw frames. Must be opened by a thread inside the interface's namespace; may be used
/// by any.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
    address: LinkAddr,
}

impl Tap {
    /// Opens `interface`.
    ///
    /// # Errors
    /// Not root, or no such interface in the calling thread's namespace.
    pub fn open(interface: &str) -> io::Result<Self> {
        // The one safe source of a link address: the interface list has one for each link.
        let address = getifaddrs()?
            .filter(|entry| entry.interface_name == interface)
            .find_map(|entry| entry.address?.as_link_addr().copied())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface {interface}")))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self { socket, address })
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// The link is down or gone, or the frame is longer than its MTU.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next frame, or `None` when `deadline` has passed.
    ///
    /// # Errors
    /// The link is gone.
    pub fn receive(&self, deadline: Instant) -> io::Result<Option<Captured>> {
        self.receive_into(&mut vec![0; FRAME_BYTES], deadline)
    }

    /// The same by way of a buffer that is used again: zeroing one for each frame takes longer than the frame.
    fn receive_into(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<Option<Captured>> {
        loop {
            if !readable(&self.socket, deadline)? {
                return Ok(None);
            }
            let (length, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer) {
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => continue,
                taken => taken?,
            };
            // Between socket() and bind() the socket hears every link of the namespace.
            let Some(from) = from.filter(|from| from.ifindex() == self.address.ifindex()) else { continue };
            return Ok(Some(Captured {
                bytes: buffer[..length].to_vec(),
                outgoing: from.pkttype() == OUTGOING,
                at: Instant::now(),
            }));
        }
    }

    /// The first received (not sent) frame that `wanted` accepts, or `None` after `wait`.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn find(&self, wait: Duration, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + wait;
        let mut buffer = vec![0; FRAME_BYTES];
        while let Some(captured) = self.receive_into(&mut buffer, deadline)? {
            if !captured.outgoing && wanted(&captured.bytes) {
                return Ok(Some(captured.bytes));
            }
        }
        Ok(None)
    }

    /// Every frame that waits already, without waiting for more. On a busy link more keep coming: it ends after half a
    /// second at the latest.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn drain(&self) -> io::Result<Vec<Captured>> {
        let now = Instant::now();
        let mut buffer = vec![0; FRAME_BYTES];
        let mut all = Vec::new();
        while let Some(captured) = self.receive_into(&mut buffer, now)? {
            all.push(captured);
            if now.elapsed() > DRAIN {
                break;
            }
        }
        Ok(all)
    }
}

/// Waits until `socket` has something to read; `false` when `deadline` passed first.
pub(crate) fn readable(socket: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the last poll does not spin through a fraction of a millisecond.
        let timeout = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, if left.is_zero() { PollTimeout::ZERO } else { timeout }) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
