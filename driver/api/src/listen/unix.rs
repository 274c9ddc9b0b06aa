//! The unix socket: the kernel says who is at the other end.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::{ListenError, Shared, accept_failed};
use crate::caller::Caller;
use crate::problem::{Code, Problem};

/// So many connections of users who may not use the API, who hear why; further ones are closed without a word.
const STRANGERS: usize = 16;

/// A unix socket to listen on.
#[derive(Clone, Debug)]
pub struct UnixListen {
    /// Where.
    pub path: PathBuf,
    /// Users who may use the API; root and the daemon's own user always may.
    pub uids: BTreeSet<u32>,
    /// Groups whose members may use the API.
    pub gids: BTreeSet<u32>,
}

#[derive(Debug)]
pub(super) struct Bound {
    listener: UnixListener,
    listen: UnixListen,
    own_uid: u32,
}

impl UnixListen {
    /// For root and the daemon's own user only.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), uids: BTreeSet::new(), gids: BTreeSet::new() }
    }

    pub(super) fn bind(self) -> Result<Bound, ListenError> {
        let path = &self.path;
        let failed = |source| ListenError::Unix { path: path.clone(), source };
        if let Ok(metadata) = std::fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                return Err(ListenError::NotASocket { path: path.clone() });
            }
            // A daemon that was killed leaves its socket behind; nobody answers on that.
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(ListenError::InUse { path: path.clone() });
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Anybody may connect, and hears what is wrong if he may not do more.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
        Ok(Bound { listener, own_uid: nix::unistd::geteuid().as_raw(), listen: self })
    }
}

impl Bound {
    pub(super) async fn accept_all(&self, shared: &Shared) {
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        loop {
            let Some(place) = shared.place().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (shared, caller) = (shared.clone(), self.caller(&stream));
                    let place = match &caller {
                        Ok(_) => place,
                        Err(_) => match strangers.clone().try_acquire_owned() {
                            Ok(place) => place,
                            Err(_) => continue,
                        },
                    };
                    tokio::spawn(async move {
                        shared.connection(stream, caller).await;
                        drop(place);
                    });
                }
                Err(error) => accept_failed(error).await,
            }
        }
    }

    fn caller(&self, stream: &UnixStream) -> Result<Caller, Problem> {
        let peer = stream.peer_cred().map_err(|error| Problem::new(Code::NotAllowed, error.to_string()))?;
        let UnixListen { path: _, uids, gids } = &self.listen;
        let uid = peer.uid();
        if uid != 0 && uid != self.own_uid && !uids.contains(&uid) && !is_member(uid, peer.gid(), gids) {
            let detail = format!(
                "user {uid} may not use the API: add the user or a group to the daemon's configuration"
            );
            return Err(Problem::new(Code::NotAllowed, detail));
        }
        let pid = peer.pid().map(|pid| format!(" pid {pid}")).unwrap_or_default();
        Ok(Caller { actor: format!("uid {uid}"), origin: format!("unix{pid}") })
    }
}

/// Whether a user is in one of the groups, his supplementary ones included; the kernel tells the primary one only.
fn is_member(uid: u32, gid: u32, gids: &BTreeSet<u32>) -> bool {
    if gids.is_empty() || gids.contains(&gid) {
        return gids.contains(&gid);
    }
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    let groups = user.and_then(|user| {
        let name = std::ffi::CString::new(user.name).ok()?;
        nix::unistd::getgrouplist(&name, user.gid).ok()
    });
    groups.unwrap_or_default().iter().any(|group| gids.contains(&group.as_raw()))
}
