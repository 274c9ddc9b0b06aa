//! A packet every millisecond from outside to a guest, and when it comes through.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::crowd::{Opening, group, place};
use e2e::lab::{Lab, ipv4};

const PAUSE: Duration = Duration::from_millis(1);
/// What is not enforced by then never will be.
const PATIENCE: Duration = Duration::from_secs(30);

/// Times are counted from the start.
pub(super) struct Wire {
    began: Instant,
    heard: Arc<Heard>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

/// When packets arrived, nanoseconds; 0 if none did.
#[derive(Default)]
struct Heard {
    first: AtomicU64,
    last: AtomicU64,
    over: AtomicBool,
}

impl Wire {
    pub(super) fn start(lab: &Lab, opening: Opening) -> Result<Self> {
        let (network, number) = place(opening.guest);
        let address = SocketAddr::from((ipv4(network, number), opening.port));
        let ears = lab.guest(&group(opening.guest))?.namespace;
        let (began, heard) = (Instant::now(), Arc::new(Heard::default()));
        let listening = {
            let heard = Arc::clone(&heard);
            ears.spawn(move || {
                let socket = UdpSocket::bind(address)?;
                socket.set_read_timeout(Some(Duration::from_millis(100)))?;
                while !heard.over.load(Ordering::Relaxed) {
                    if socket.recv(&mut [0; 16]).is_ok() {
                        let now = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        heard.last.store(now, Ordering::Release);
                        let _ = heard.first.compare_exchange(0, now, Ordering::Release, Ordering::Relaxed);
                    }
                }
                Ok(())
            })
        };
        let speaking = {
            let heard = Arc::clone(&heard);
            lab.outside().namespace.spawn(move || {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                while !heard.over.load(Ordering::Relaxed) {
                    socket.send_to(b"knock", address)?;
                    std::thread::sleep(PAUSE);
                }
                Ok(())
            })
        };
        Ok(Self { began, heard, threads: vec![listening, speaking] })
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// What has arrived so far counts no more.
    pub(super) fn forget(&self) {
        self.heard.first.store(0, Ordering::Release);
        self.heard.last.store(0, Ordering::Release);
    }

    /// Whether no packet arrives for a while.
    pub(super) fn is_silent(&self) -> bool {
        std::thread::sleep(20 * PAUSE);
        let before = self.heard.last.load(Ordering::Acquire);
        std::thread::sleep(60 * PAUSE);
        self.heard.last.load(Ordering::Acquire) == before
    }

    /// Waits for the first packet.
    pub(super) fn first(&self) -> Result<Duration> {
        let waiting = Instant::now();
        loop {
            if let Some(first) = at(&self.heard.first) {
                return Ok(first);
            }
            ensure!(waiting.elapsed() < PATIENCE, "no packet has passed for {} s", PATIENCE.as_secs());
            std::thread::sleep(PAUSE);
        }
    }

    /// When the last packet arrived.
    pub(super) fn last(&self) -> Option<Duration> {
        at(&self.heard.last)
    }
}

fn at(nanoseconds: &AtomicU64) -> Option<Duration> {
    let at = nanoseconds.load(Ordering::Acquire);
    (at > 0).then(|| Duration::from_nanos(at))
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.heard.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What a thread could not do has shown in what was measured.
            let _ = thread.join();
        }
    }
}
