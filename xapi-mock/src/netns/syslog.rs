//! A host's `/dev/log`: keeps what programs in dom0 report.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

const SOCKET: &str = "/dev/log";

/// Lines kept; older ones are forgotten.
const KEPT: usize = 10_000;

/// Listens until dropped.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: UnixDatagram,
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Syslog {
    /// The socket, made in the calling thread's file system.
    pub(super) fn bind() -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::bind(SOCKET)?;
        fs::set_permissions(SOCKET, Permissions::from_mode(0o666))?;
        Ok(socket)
    }

    pub(super) fn listen(socket: UnixDatagram) -> io::Result<Self> {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (receiver, kept) = (socket.try_clone()?, Arc::clone(&lines));
        thread::Builder::new().name("syslog".into()).spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            // After the shutdown in `drop` every receive says 0 bytes.
            while let Ok(length @ 1..) = receiver.recv(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_back(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned());
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
        })?;
        Ok(Self { socket, lines })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        // Fails only if nobody listens any more.
        let _ended = self.socket.shutdown(Shutdown::Both);
    }
}
