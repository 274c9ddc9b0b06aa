//! Traffic that goes on while rules change, to see whether anything noticed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::probe::{PATIENCE, Probe, What};
use crate::service::{Service, Transport};
use crate::station::{Family, Namespace, Station};

/// One exchange every so often.
const EVERY: Duration = Duration::from_millis(2);
/// Long enough for one that lives to show it: TCP asks again by itself, ever more rarely, at last as long after something
/// was mended as it was broken.
const PATIENT: Duration = Duration::from_secs(40);
/// Long enough for one that is cut to be found so.
const CUT: Duration = Duration::from_millis(400);
/// No flow is without an echo for so long unless something is wrong, however busy the machine.
const STALLED: Duration = Duration::from_secs(2);
/// How long a sender waits for an echo before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(20);

/// What both ends of a flow share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    answered: AtomicU64,
}

/// What a flow met from its start to its end.
#[derive(Debug, Clone)]
pub struct Report {
    /// Messages sent.
    pub sent: u64,
    /// Echoes received.
    pub answered: u64,
    /// The longest time between two echoes, the end of the flow included.
    pub longest_gap: Duration,
    /// Segments that TCP lost meanwhile in the sender's or the receiver's namespace, whatever connection they belong to: those
    /// sent again, but for those of which the other side said that it had them already (RFC 2883), and which were merely
    /// slow: the Lab's Open vSwitch has one thread for packets, and a busy machine may keep it waiting.
    pub lost: u64,
    /// How the connection ended, if not by us.
    pub broken: Option<String>,
}

impl Report {
    /// Whether it met nothing: no packet was lost and nobody ended it.
    #[must_use]
    pub const fn undisturbed(&self) -> bool {
        self.lost_at_most(0)
    }

    /// Whether it stood still for a while.
    #[must_use]
    pub fn stalled(&self) -> bool {
        self.longest_gap >= STALLED
    }

    /// Whether no more packets than that were lost and nobody ended it.
    #[must_use]
    pub const fn lost_at_most(&self, packets: u64) -> bool {
        self.sent <= self.answered + 1 + packets && self.lost <= packets && self.broken.is_none()
    }
}

/// A flow under way: numbered messages and their echoes, over one UDP socket or one TCP connection.
#[derive(Debug)]
pub struct Flow {
    shared: Arc<Shared>,
    client: JoinHandle<Result<Report, String>>,
    ends: [Namespace; 2],
    lost: u64,
    _service: Option<Service>,
}

impl Flow {
    /// Starts one over the way `probe` describes, and waits for its first echo.
    ///
    /// # Errors
    /// The probe is no TCP or UDP probe, an address is missing, or no echo came within two seconds.
    pub fn start(probe: &Probe) -> io::Result<Self> {
        let address = |station: &Station, family: Family| {
            station.address(family).ok_or_else(|| io::Error::from(ErrorKind::AddrNotAvailable))
        };
        let (transport, port) = match probe.what {
            What::Tcp(port) => (Transport::Tcp, port),
            What::Udp(port) => (Transport::Udp, port),
            What::LongUdp(_) | What::Echo | What::Frame { .. } => return Err(ErrorKind::Unsupported.into()),
        };
        let from = address(&probe.from, probe.family)?;
        let to = SocketAddr::new(address(&probe.to, probe.family)?, port);
        let service = Service::start(&probe.to.namespace, transport, to)?;
        let shared = Arc::new(Shared::default());
        let client = probe.from.namespace.spawn({
            let shared = Arc::clone(&shared);
            move || {
                match transport {
                    Transport::Tcp => TcpStream::connect_timeout(&to, PATIENCE).and_then(|stream| {
                        stream.set_nodelay(true)?;
                        stream.set_read_timeout(Some(TICK))?;
                        talk_tcp(stream, &shared)
                    }),
                    Transport::Udp => UdpSocket::bind(SocketAddr::new(from, 0)).and_then(|socket| {
                        socket.connect(to)?;
                        socket.set_read_timeout(Some(TICK))?;
                        talk_udp(&socket, &shared)
                    }),
                }
                .map_err(|error| error.to_string())
            }
        });
        let ends = [probe.from.namespace.clone(), probe.to.namespace.clone()];
        let lost = lost(&ends)?;
        let flow = Self { shared, client, ends, lost, _service: service };
        let deadline = Instant::now() + PATIENCE;
        while flow.answered() == 0 {
            if Instant::now() > deadline || flow.client.is_finished() {
                let reason =
                    flow.stop().err().map_or_else(|| "no echo".to_owned(), |error| error.to_string());
                return Err(io::Error::new(ErrorKind::TimedOut, format!("{probe}: {reason}")));
            }
            std::thread::sleep(EVERY);
        }
        Ok(flow)
    }

    /// Echoes so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Messages sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Whether it goes on, now or when what keeps it waiting has passed.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.alive(PATIENT)
    }

    /// Whether nothing is answered any more.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        !self.alive(CUT)
    }

    /// Whether any echo comes within `wait`, counted from now.
    #[must_use]
    pub fn alive(&self, wait: Duration) -> bool {
        let (before, deadline) = (self.answered(), Instant::now() + wait);
        // One echo may have been under way already.
        while self.answered() < before + 2 {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(EVERY);
        }
        true
    }

    /// Ends it.
    ///
    /// # Errors
    /// It never came up.
    pub fn stop(self) -> io::Result<Report> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let report = self.client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let report = report.map_err(|error| io::Error::new(ErrorKind::NotConnected, error))?;
        let now = lost(&self.ends)?;
        Ok(Report { lost: now.saturating_sub(self.lost), ..report })
    }
}

/// Segments lost so far, by the namespaces' own counters.
fn lost(namespaces: &[Namespace; 2]) -> io::Result<u64> {
    let (mut again, mut needlessly) = (0, 0);
    for namespace in namespaces {
        let read = |file: &'static str| namespace.enter(move || std::fs::read_to_string(file));
        let (tcp, more) = (read("/proc/thread-self/net/snmp")?, read("/proc/thread-self/net/netstat")?);
        again += counter(&tcp, "Tcp: ", "RetransSegs")?;
        needlessly +=
            counter(&more, "TcpExt: ", "TCPDSACKRecv")? + counter(&more, "TcpExt: ", "TCPDSACKOfoRecv")?;
    }
    Ok(again.saturating_sub(needlessly))
}

/// One of the kernel's counters: a line of names, and one of values.
fn counter(counters: &str, group: &str, name: &str) -> io::Result<u64> {
    let mut lines = counters.lines().filter(|line| line.starts_with(group));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let found = names.split(' ').zip(values.split(' ')).find(|(known, _)| *known == name);
    let value = found.and_then(|(_, value)| value.parse().ok());
    value.ok_or_else(|| {
        io::Error::new(ErrorKind::InvalidData, format!("no {name} among the kernel's counters"))
    })
}

/// Notes when echoes come.
struct Clock {
    last: Instant,
    longest: Duration,
}

impl Clock {
    fn new() -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO }
    }

    fn echo(&mut self) {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
    }

    fn report(mut self, shared: &Shared, broken: Option<String>) -> Report {
        self.echo();
        Report {
            sent: shared.sent.load(Ordering::Relaxed),
            answered: shared.answered.load(Ordering::Relaxed),
            longest_gap: self.longest,
            lost: 0,
            broken,
        }
    }
}

/// One message at a time; the next is sent when the last has been echoed, as TCP will repeat it by itself.
fn talk_tcp(mut stream: TcpStream, shared: &Shared) -> io::Result<Report> {
    let mut clock = Clock::new();
    let mut echo = [0; 8];
    let mut filled = echo.len();
    while !shared.stop.load(Ordering::Relaxed) {
        if filled == echo.len() {
            let number = shared.sent.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = stream.write_all(&number.to_be_bytes()) {
                return Ok(clock.report(shared, Some(error.to_string())));
            }
            filled = 0;
        }
        match stream.read(&mut echo[filled..]) {
            Ok(0) => return Ok(clock.report(shared, Some("closed by the peer".to_owned()))),
            Ok(length) => filled += length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Ok(clock.report(shared, Some(error.to_string()))),
        }
        if filled == echo.len() {
            clock.echo();
            shared.answered.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(EVERY);
        }
    }
    Ok(clock.report(shared, None))
}

/// Messages at a steady pace, whether echoed or not: what is lost shows as the difference.
fn talk_udp(socket: &UdpSocket, shared: &Shared) -> io::Result<Report> {
    let mut clock = Clock::new();
    let mut echo = [0; 8];
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.sent.fetch_add(1, Ordering::Relaxed);
        // Refusals (ICMP errors) surface on the next call of either kind; they count as lost.
        let _ = socket.send(&number.to_be_bytes());
        while let Ok(length) = socket.recv(&mut echo) {
            if length == echo.len() {
                clock.echo();
                shared.answered.fetch_add(1, Ordering::Relaxed);
            }
            if echo == number.to_be_bytes() {
                break;
            }
        }
        std::thread::sleep(EVERY);
    }
    // What is late is not lost.
    let deadline = Instant::now() + 10 * TICK;
    while shared.answered.load(Ordering::Relaxed) < shared.sent.load(Ordering::Relaxed)
        && Instant::now() < deadline
    {
        if socket.recv(&mut echo).is_ok_and(|length| length == echo.len()) {
            clock.echo();
            shared.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(clock.report(shared, None))
}

#[cfg(test)]
mod tests;
