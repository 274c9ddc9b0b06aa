//! What the [`scenario`](crate::scenario) allows and what it refuses, going on all the time while things change.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::flow::{Flow, Report};
use crate::frame::ip::{Path, TCP, UDP, flag};
use crate::lab::{Lab, NetworkBackend, OUTSIDE, ipv4, ipv6, mac};
use crate::station::{Family, Namespace, Station};
use crate::tap::Tap;

/// Something that goes on in a thread until it is told to end.
struct Going<T> {
    over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<T>>,
}

impl<T: Send + 'static> Going<T> {
    fn start(place: &Namespace, work: impl FnOnce(&AtomicBool) -> io::Result<T> + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        Self { over, thread: place.spawn(move || work(&told)) }
    }

    fn end(self) -> Result<T> {
        self.over.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??)
    }
}

/// Somebody who sends the same frames again and again, a round every millisecond.
pub struct Shouting(Going<u64>);

impl std::fmt::Debug for Shouting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shouting")
    }
}

impl Shouting {
    /// Begins.
    #[must_use]
    pub fn start(from: &Station, frames: Vec<Vec<u8>>) -> Self {
        let interface = from.interface.clone();
        Self(Going::start(&from.namespace, move |over| {
            let tap = Tap::open(&interface)?;
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                for frame in &frames {
                    tap.send(frame)?;
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(sent)
        }))
    }

    /// Ends it; how many frames were sent.
    ///
    /// # Errors
    /// A frame could not be sent.
    pub fn stop(self) -> Result<u64> {
        self.0.end()
    }
}

/// What `outside` may not send to `web1`, sent all the time.
pub struct Refused {
    shouting: Shouting,
    ears: Going<u64>,
    leaked: Arc<AtomicU64>,
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refused").field("leaked", &self.leaked).finish_non_exhaustive()
    }
}

impl Refused {
    /// Begins.
    ///
    /// # Errors
    /// `web1` has no domain.
    pub fn start(lab: &Lab) -> Result<Self> {
        let web = lab.guest("web1")?;
        let frames = refused(11);
        let leaked = Arc::new(AtomicU64::new(0));
        let tap = web.namespace.enter(|| Tap::open("eth0"))?;
        let ears = Going::start(&web.namespace, {
            let (frames, leaked) = (frames.clone(), Arc::clone(&leaked));
            move |over| {
                let mut heard = 0;
                loop {
                    // Once more after the end, for what came before it.
                    let is_over = over.load(Ordering::Relaxed);
                    let seen = tap.drain()?;
                    let arrived =
                        seen.iter().filter(|one| !one.outgoing && frames.contains(&one.bytes)).count();
                    leaked.fetch_add(arrived as u64, Ordering::Relaxed);
                    heard += seen.len() as u64;
                    if is_over {
                        return Ok(heard);
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Ok(Self { shouting: Shouting::start(lab.outside(), frames), ears, leaked })
    }

    /// Nothing of it arrived.
    ///
    /// # Errors
    /// Something did, or nothing was sent.
    pub fn judge(self) -> Result<()> {
        let sent = self.shouting.stop()?;
        self.ears.end()?;
        let leaked = self.leaked.load(Ordering::Relaxed);
        ensure!(sent > 100, "only {sent} refused frames were sent");
        ensure!(leaked == 0, "{leaked} of {sent} refused frames arrived");
        Ok(())
    }
}

/// What `outside` may not send to the web server of this number.
#[must_use]
pub fn refused(number: u8) -> Vec<Vec<u8>> {
    let (from, to) = (mac(0, OUTSIDE), mac(0, number));
    let paths = [Path::V4(ipv4(0, OUTSIDE), ipv4(0, number)), Path::V6(ipv6(0, OUTSIDE), ipv6(0, number))];
    paths
        .into_iter()
        .flat_map(|path| {
            [
                path.frame(to, from, UDP, &path.udp(1000, 80, b"refused")),
                path.frame(to, from, TCP, &path.tcp((1000, 22), flag::SYN, (1, 0), b"refused")),
            ]
        })
        .collect()
}

/// Connections that are allowed, and what is [`Refused`].
#[derive(Debug)]
pub struct Traffic {
    flows: Vec<(String, Flow)>,
    refused: Refused,
    /// Whether a switch in user space carries them.
    by_flows: bool,
}

/// A packet that a switch in user space has taken half of its way (to connection tracking and back) is lost if its
/// cached flows change just then. A refresh that cuts would lose one each time.
const LOST_BETWEEN_FLOWS: u64 = 2;

impl Traffic {
    /// Begins.
    ///
    /// # Errors
    /// A guest has no domain, or an allowed connection does not come up.
    pub fn start(lab: &Lab) -> Result<Self> {
        let (web, db, outside) = (lab.guest("web1")?, lab.guest("db")?, lab.outside());
        let mut flows = Vec::new();
        for family in Family::BOTH {
            for probe in
                [outside.tcp(&web, 80, family), web.tcp(&db, 5432, family), web.udp(outside, 53, family)]
            {
                flows.push((probe.to_string(), Flow::start(&probe)?));
            }
        }
        let by_flows = lab.network_backend("host1")? == NetworkBackend::OpenVSwitch;
        Ok(Self { flows, refused: Refused::start(lab)?, by_flows })
    }

    /// Nothing of what is refused arrived, nothing of what is allowed was lost (by a switch in user space: next to nothing).
    ///
    /// # Errors
    /// Otherwise.
    pub fn judge(self) -> Result<()> {
        self.judge_after(0)
    }

    /// The same after so many refreshes: on a busy machine a switch in user space may lose a packet in every tenth of them. One that
    /// cuts loses one in each.
    ///
    /// # Errors
    /// Otherwise.
    pub fn judge_after(self, refreshes: u64) -> Result<()> {
        let spared = if self.by_flows { LOST_BETWEEN_FLOWS.max(refreshes / 10) } else { 0 };
        for (name, report) in self.end()? {
            ensure!(report.lost_at_most(spared), "{name} noticed: {report:?}");
        }
        Ok(())
    }

    /// Nothing of what is refused arrived, no connection was cut. One may have waited: for a busy machine, for a switch in
    /// user space that gets no time.
    ///
    /// # Errors
    /// Otherwise.
    pub fn judge_connections(self) -> Result<()> {
        self.end().map(drop)
    }

    fn end(self) -> Result<Vec<(String, Report)>> {
        self.refused.judge()?;
        let mut reports = Vec::new();
        for (name, flow) in self.flows {
            ensure!(flow.lives(), "{name} was cut");
            let report = flow.stop().context(name.clone())?;
            ensure!(report.broken.is_none(), "{name} ended: {report:?}");
            reports.push((name, report));
        }
        Ok(reports)
    }
}
