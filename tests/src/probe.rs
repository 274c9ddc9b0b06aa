//! One question to the network with a bounded wait, and what was seen.
//!
//! A probe that should be answered waits up to two seconds and returns at once when it is; one that should be
//! blocked waits a quarter of a second. The destination's link is watched too, so that "blocked" means that the
//! packet did not arrive, not that its answer got lost.

mod ask;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::service::{Service, Transport};
use crate::station::{Family, Station};

/// How long an answer that should come may take.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for an answer that should not come.
pub const SILENCE: Duration = Duration::from_millis(280);

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A TCP connection to this port, and a few bytes there and back.
    Tcp(u16),
    /// A datagram to this port, and its echo.
    Udp(u16),
    /// A datagram to this port that is too long for one packet, and its echo.
    LongUdp(u16),
    /// An ICMP or `ICMPv6` echo request.
    Echo,
    /// This frame, as it is; it passes when the destination's link sees the same bytes.
    Frame {
        /// What the frame is, for people.
        name: Cow<'static, str>,
        /// From destination address on.
        bytes: Vec<u8>,
    },
}

/// A question: does this get from here to there?
#[derive(Debug, Clone)]
pub struct Probe {
    /// Who sends.
    pub from: Station,
    /// Who should (not) receive.
    pub to: Station,
    /// Over which family.
    pub family: Family,
    /// What is sent.
    pub what: What,
}

/// What should happen to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It arrives and is answered.
    Passes,
    /// Nothing arrives and nothing comes back: dropped in silence.
    Blocked,
}

/// What happened to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It was answered (a frame: it arrived).
    Answered,
    /// It arrived; the answer did not come back.
    Arrived,
    /// Somebody said no.
    Refused(String),
    /// Nothing arrived, nothing came back.
    Silent,
    /// The probe itself could not be made; says nothing about rules.
    Failed(String),
}

/// A probe with what should happen to it.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The probe.
    pub probe: Probe,
    /// What should happen.
    pub expected: Expected,
}

/// An expectation with what did happen.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The probe.
    pub probe: Probe,
    /// What should have happened.
    pub expected: Expected,
    /// What did.
    pub seen: Seen,
}

impl Station {
    fn probe(&self, to: &Self, family: Family, what: What) -> Probe {
        Probe { from: self.clone(), to: to.clone(), family, what }
    }

    /// A TCP connection from here.
    #[must_use]
    pub fn tcp(&self, to: &Self, port: u16, family: Family) -> Probe {
        self.probe(to, family, What::Tcp(port))
    }

    /// A UDP datagram from here.
    #[must_use]
    pub fn udp(&self, to: &Self, port: u16, family: Family) -> Probe {
        self.probe(to, family, What::Udp(port))
    }

    /// A datagram of several fragments from here.
    #[must_use]
    pub fn long_udp(&self, to: &Self, port: u16, family: Family) -> Probe {
        self.probe(to, family, What::LongUdp(port))
    }

    /// An echo request from here.
    #[must_use]
    pub fn echo(&self, to: &Self, family: Family) -> Probe {
        self.probe(to, family, What::Echo)
    }

    /// A frame from here.
    #[must_use]
    pub fn frame(&self, to: &Self, name: impl Into<Cow<'static, str>>, bytes: Vec<u8>) -> Probe {
        let family = match crate::frame::ether_type(&bytes) {
            Some(crate::frame::IPV6) => Family::V6,
            _ => Family::V4,
        };
        self.probe(to, family, What::Frame { name: name.into(), bytes })
    }
}

impl Probe {
    /// Expects an answer.
    #[must_use]
    pub const fn passes(self) -> Expectation {
        Expectation { probe: self, expected: Expected::Passes }
    }

    /// Expects silence.
    #[must_use]
    pub const fn blocked(self) -> Expectation {
        Expectation { probe: self, expected: Expected::Blocked }
    }

    /// The service at the destination that must stand before this is sent.
    fn service(&self) -> Option<(Transport, SocketAddr)> {
        let address = self.to.address(self.family)?;
        match self.what {
            What::Tcp(port) => Some((Transport::Tcp, SocketAddr::new(address, port))),
            What::Udp(port) | What::LongUdp(port) => Some((Transport::Udp, SocketAddr::new(address, port))),
            What::Echo | What::Frame { .. } => None,
        }
    }
}

impl Outcome {
    /// Whether what should have happened did.
    #[must_use]
    pub const fn ok(&self) -> bool {
        matches!(
            (self.expected, &self.seen),
            (Expected::Passes, Seen::Answered) | (Expected::Blocked, Seen::Silent)
        )
    }
}

/// Sends all probes at the same time and tells what was seen, in the same order.
#[must_use]
pub fn run(expectations: Vec<Expectation>) -> Vec<Outcome> {
    let mut services = BTreeMap::new();
    for Expectation { probe, .. } in &expectations {
        if let Some((transport, address)) = probe.service() {
            services.entry((probe.to.name.clone(), transport, address)).or_insert_with(|| {
                Service::start(&probe.to.namespace, transport, address).map_err(|error| {
                    format!("no {transport:?} service at {} {address}: {error}", probe.to.name)
                })
            });
        }
    }
    let missing = |probe: &Probe| {
        let (transport, address) = probe.service()?;
        services.get(&(probe.to.name.clone(), transport, address))?.as_ref().err().cloned()
    };
    let asked: Vec<_> = expectations
        .into_iter()
        .map(|Expectation { probe, expected }| {
            let missing = missing(&probe);
            thread::spawn(move || {
                let wait = match expected {
                    Expected::Passes => PATIENCE,
                    Expected::Blocked => SILENCE,
                };
                let seen = missing.map_or_else(
                    || ask::ask(&probe, wait).unwrap_or_else(|error| Seen::Failed(error.to_string())),
                    Seen::Failed,
                );
                Outcome { probe, expected, seen }
            })
        })
        .collect();
    asked
        .into_iter()
        .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect()
}

/// As [`run`], and fails the test with one line per surprise.
///
/// # Panics
/// Any probe saw something else than it should.
#[track_caller]
pub fn check(expectations: impl IntoIterator<Item = Expectation>) {
    let outcomes = run(expectations.into_iter().collect());
    let wrong: Vec<_> = outcomes.iter().filter(|outcome| !outcome.ok()).map(ToString::to_string).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} probes saw something else:\n  {}",
        wrong.len(),
        outcomes.len(),
        wrong.join("\n  ")
    );
}

/// Each probe must be answered.
#[macro_export]
macro_rules! assert_passes {
    ($($probe:expr),+ $(,)?) => { $crate::probe::check([$($probe.passes()),+]) };
}

/// Each probe must meet silence.
#[macro_export]
macro_rules! assert_blocked {
    ($($probe:expr),+ $(,)?) => { $crate::probe::check([$($probe.blocked()),+]) };
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp {port}"),
            Self::Udp(port) => write!(f, "udp {port}"),
            Self::LongUdp(port) => write!(f, "udp {port}, in fragments"),
            Self::Echo => f.write_str("ping"),
            Self::Frame { name, .. } => f.write_str(name),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {} {} {}", self.from.name, self.to.name, self.what, self.family)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passes => "passes",
            Self::Blocked => "blocked",
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("passes"),
            Self::Silent => f.write_str("blocked"),
            Self::Arrived => f.write_str("arrived, no answer came back"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Failed(reason) => write!(f, "probe failed: {reason}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, seen {}", self.probe, self.expected, self.seen)
    }
}

#[cfg(test)]
mod tests;
