//! How each kind of probe is sent, and how its answer is told from others'.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv, send, socket,
};

use super::{Probe, Seen, What};
use crate::frame::ip::{Path, TCP, UDP};
use crate::frame::read::{Flow, Headers};
use crate::tap::{Tap, readable};

/// Told apart by their identifiers, echo requests may be under way at the same time.
static NEXT_IDENTIFIER: AtomicU16 = AtomicU16::new(1);

/// Sends the probe and waits for what comes of it.
pub(super) fn ask(probe: &Probe, wait: Duration) -> io::Result<Seen> {
    let interface = probe.to.interface.clone();
    let watch = probe.to.namespace.enter(move || Tap::open(&interface))?;
    if let What::Frame { bytes, .. } = &probe.what {
        let (interface, frame) = (probe.from.interface.clone(), bytes.clone());
        probe.from.namespace.enter(move || Tap::open(&interface)?.send(&frame))?;
        // The kernel takes a VLAN tag off before anybody sees the frame.
        let untagged = match bytes.get(12..14) {
            Some([0x81, 0x00]) => [&bytes[..12], bytes.get(16..).unwrap_or_default()].concat(),
            _ => bytes.clone(),
        };
        let arrived = watch.find(wait, |seen| seen == bytes || seen == untagged)?;
        return Ok(if arrived.is_some() { Seen::Answered } else { Seen::Silent });
    }

    let nothing = || io::Error::new(ErrorKind::AddrNotAvailable, format!("no {} address", probe.family));
    let from = probe.from.address(probe.family).ok_or_else(nothing)?;
    let to = probe.to.address(probe.family).ok_or_else(nothing)?;
    let path = Path::between(from, to).ok_or_else(nothing)?;
    let identifier = NEXT_IDENTIFIER.fetch_add(1, Ordering::Relaxed);
    let seen = probe.from.namespace.enter({
        let what = probe.what.clone();
        move || match what {
            What::Tcp(port) => tcp(SocketAddr::new(to, port), wait),
            What::Udp(port) => udp(from, SocketAddr::new(to, port), identifier, 2, wait),
            What::LongUdp(port) => udp(from, SocketAddr::new(to, port), identifier, 4000, wait),
            What::Echo => echo(path, to, identifier, wait),
            What::Frame { .. } => Ok(Seen::Silent),
        }
    })?;
    if seen == Seen::Answered {
        return Ok(seen);
    }
    let ours = |headers: Headers| {
        headers.source == from
            && headers.destination == to
            && match (&probe.what, headers.flow) {
                (What::Tcp(port), Flow::Ports(_, to)) => headers.protocol == TCP && to == *port,
                (What::Udp(port) | What::LongUdp(port), Flow::Ports(_, to)) => {
                    headers.protocol == UDP && to == *port
                }
                (What::Echo, Flow::Icmp { identifier: seen, .. }) => seen == identifier,
                _ => false,
            }
    };
    let arrived = watch
        .drain()?
        .iter()
        .any(|captured| !captured.outgoing && Headers::of_frame(&captured.bytes).is_some_and(ours));
    Ok(match seen {
        Seen::Silent if arrived => Seen::Arrived,
        seen => seen,
    })
}

/// What an error of a socket says about the network: an ICMP error or a reset is an answer of a kind.
fn said(error: io::Error) -> io::Result<Seen> {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Ok(Seen::Silent),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::HostUnreachable => {
            Ok(Seen::Refused(error.to_string()))
        }
        _ => Err(error),
    }
}

fn tcp(to: SocketAddr, wait: Duration) -> io::Result<Seen> {
    let talk = || {
        let mut connection = TcpStream::connect_timeout(&to, wait)?;
        connection.set_read_timeout(Some(wait))?;
        connection.write_all(b"knock")?;
        let mut echo = [0; 5];
        connection.read_exact(&mut echo)
    };
    talk().map_or_else(said, |()| Ok(Seen::Answered))
}

fn udp(from: IpAddr, to: SocketAddr, identifier: u16, length: usize, wait: Duration) -> io::Result<Seen> {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(wait))?;
    let sent: Vec<_> = identifier.to_be_bytes().into_iter().cycle().take(length).collect();
    let mut echo = vec![0; length + 1];
    let talk = || {
        socket.send(&sent)?;
        socket.recv(&mut echo)
    };
    match { talk }() {
        Ok(received) if echo[..received] == sent => Ok(Seen::Answered),
        Ok(_) => Err(io::Error::new(ErrorKind::InvalidData, "another datagram came back")),
        Err(error) => said(error),
    }
}

fn echo(path: Path, to: IpAddr, identifier: u16, wait: Duration) -> io::Result<Seen> {
    let (family, protocol) = match path {
        Path::V4(..) => (AddressFamily::Inet, SockProtocol::Icmp),
        Path::V6(..) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(to, 0)))?;
    send(socket.as_raw_fd(), &path.echo_request(identifier, 1), MsgFlags::empty())?;
    match answered(&socket, path, identifier, Instant::now() + wait) {
        Ok(true) => Ok(Seen::Answered),
        Ok(false) => Ok(Seen::Silent),
        Err(error) => said(error),
    }
}

/// Waits for the echo reply with this identifier.
fn answered(socket: &OwnedFd, path: Path, identifier: u16, deadline: Instant) -> io::Result<bool> {
    let mut buffer = [0; 2048];
    while readable(socket, deadline)? {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
        // A raw IPv4 socket hands over the IP header, an IPv6 one does not.
        let (reply, header) = match path {
            Path::V4(..) => (0, usize::from(buffer[0] & 0x0f) * 4),
            Path::V6(..) => (129, 0),
        };
        if let Some(&[kind, _, _, _, a, b, ..]) = buffer[..length].get(header..)
            && kind == reply
            && [a, b] == identifier.to_be_bytes()
        {
            return Ok(true);
        }
    }
    Ok(false)
}
