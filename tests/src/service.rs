//! What answers probes: echo over TCP and UDP, on a thread inside the station that offers it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::station::Namespace;
use crate::tap::readable;

/// How long a service takes at most to notice that it should end.
const TICK: Duration = Duration::from_millis(20);

/// How long an address in use may be in use by what has ended.
const PATIENCE: Duration = Duration::from_millis(300);

/// The transport a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A running echo service; ends when dropped.
#[derive(Debug)]
pub struct Service {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Listens at `address` inside `namespace`. When this returns, a probe may be sent. `None` if somebody listens
    /// there already: in a namespace of the Lab's that is another service, which will do as well.
    ///
    /// # Errors
    /// The address is not there.
    pub fn start(
        namespace: &Namespace,
        transport: Transport,
        address: SocketAddr,
    ) -> io::Result<Option<Self>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::listen(namespace, transport, address) {
                // A service that has just ended may live on for a moment in a child that another thread has forked and
                // that has not come to its program yet.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    thread::sleep(TICK / 4);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
                started => return started.map(Some),
            }
        }
    }

    fn listen(namespace: &Namespace, transport: Transport, address: SocketAddr) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = match transport {
            Transport::Tcp => {
                let listener = namespace.enter(move || TcpListener::bind(address))?;
                listener.set_nonblocking(true)?;
                thread::spawn(move || while_running(&stopped, &listener, || echo_connection(&listener)))
            }
            Transport::Udp => {
                let socket = namespace.enter(move || UdpSocket::bind(address))?;
                socket.set_nonblocking(true)?;
                thread::spawn(move || while_running(&stopped, &socket, || echo_datagram(&socket)))
            }
        };
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic of the service shows itself: nobody answered.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn while_running(stop: &AtomicBool, socket: &impl std::os::fd::AsFd, mut serve: impl FnMut()) {
    while !stop.load(Ordering::Relaxed) {
        match readable(socket, Instant::now() + TICK) {
            Ok(true) => serve(),
            Ok(false) => {}
            Err(_) => return,
        }
    }
}

fn echo_connection(listener: &TcpListener) {
    if let Ok((connection, _)) = listener.accept() {
        // Ends with the connection; a peer that says nothing is dropped.
        thread::spawn(move || echo_stream(connection));
    }
}

fn echo_stream(mut connection: TcpStream) {
    let mut buffer = [0; 2048];
    let _ = connection.set_nodelay(true);
    let _ = connection.set_read_timeout(Some(Duration::from_secs(30)));
    while let Ok(length @ 1..) = connection.read(&mut buffer) {
        if connection.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn echo_datagram(socket: &UdpSocket) {
    let mut buffer = [0; 16_384];
    if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        // An answer that cannot be sent is an answer that does not arrive.
        let _ = socket.send_to(&buffer[..length], peer);
    }
}
