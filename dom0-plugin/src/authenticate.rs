//! Who calls: whoever holds an authorised key, once per nonce, at about this time, for this host.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use drawbridge_wire::auth::{Auth, Signed};
use drawbridge_wire::{KeyId, PublicKey, PublicKeyLine, limits};

use crate::config::Config;
use crate::paths::Paths;
use crate::request::Request;
use crate::{Code, Refusal, Result, horizon, lock, process, state, trusted};

/// How long to wait for other calls that look at the nonces at this moment.
const NONCE_PATIENCE: Duration = Duration::from_secs(5);

/// A caller who proved to hold an authorised key. Only this module makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    key_id: KeyId,
}

impl Caller {
    /// Which key.
    pub(crate) fn key_id(self) -> KeyId {
        self.key_id
    }
}

/// Seconds since 1970 by dom0's clock.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Checks the call's signature, time and nonce, and remembers the nonce.
///
/// # Errors
/// A refusal with the code of what is wrong.
pub(crate) fn authenticate(request: &Request, config: &Config, paths: &Paths) -> Result<Caller> {
    let auth = &request.arguments.auth;
    let key = authorized(&paths.authorized_keys, auth.key_id)?;
    let host_uuid = host_uuid(&paths.inventory)?;
    let pairs = request.pairs();
    let signed = Signed { host_uuid: &host_uuid, function: request.function, arguments: &pairs };
    if !signed.verify(auth, &key) {
        return Err(Code::BadSignature.into());
    }
    let now = now();
    if auth.unix_seconds.abs_diff(now) > config.time_window {
        let skew = i128::from(auth.unix_seconds) - i128::from(now);
        return Err(Refusal::new(Code::ClockSkew).detail(skew).detail(config.time_window));
    }
    remember(auth, now, config.time_window, paths)?;
    Ok(Caller { key_id: auth.key_id })
}

fn authorized(path: &Path, wanted: KeyId) -> Result<PublicKey> {
    let text = trusted::read(path)?.unwrap_or_default();
    let mut keys = Vec::new();
    let refuse = |at: usize, problem: &dyn std::fmt::Display| {
        let refusal = Refusal::new(Code::BadKeysFile).detail(path.display());
        refusal.detail(format!("line {}", at + 1)).detail(problem)
    };
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parsed: PublicKeyLine = line.parse().map_err(|e| refuse(at, &e))?;
        if keys.len() == limits::KEYS {
            return Err(refuse(at, &format!("more than {} keys", limits::KEYS)));
        }
        keys.push(parsed.key);
    }
    if keys.is_empty() {
        return Err(Refusal::new(Code::NoAuthorizedKey).detail(path.display()));
    }
    let found = keys.into_iter().find(|key| key.id() == wanted);
    found.ok_or_else(|| Refusal::new(Code::UnknownSigner).detail(wanted))
}

/// `INSTALLATION_UUID` of XenServer's inventory: XAPI's `host.uuid`.
fn host_uuid(path: &Path) -> Result<String> {
    let refuse = |problem: &str| Refusal::new(Code::NoHostUuid).detail(path.display()).detail(problem);
    let text = trusted::read(path)?.ok_or_else(|| refuse("no such file"))?;
    let mut found = text.lines().filter_map(|line| line.strip_prefix("INSTALLATION_UUID="));
    let (Some(quoted), None) = (found.next(), found.next()) else {
        return Err(refuse("expected exactly one INSTALLATION_UUID"));
    };
    let uuid = quoted.trim_ascii_end().trim_matches('\'');
    let is_uuid = uuid.len() == 36 && uuid.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    if is_uuid { Ok(uuid.to_owned()) } else { Err(refuse("INSTALLATION_UUID is not a uuid")) }
}

/// Refuses a nonce that this key used before, and remembers this one.
///
/// Forgetting is what makes replays possible, so everything below a *floor* is refused: the boot (what was remembered before it
/// is gone), the newest call before it (the clock may be set back while dom0 is down), and the latest time up to which nonces
/// were forgotten (or while it runs).
fn remember(auth: &Auth, now: u64, window: u64, paths: &Paths) -> Result<()> {
    let all = paths.in_state("nonces");
    // Each key its own: how often one calls is not another's business.
    let folder = all.join(auth.key_id.to_string());
    for folder in [&paths.state, &all, &folder] {
        state::secure_dir(folder)?;
    }
    let _lock = lock::acquire(&paths.in_state("nonces.lock"), NONCE_PATIENCE)?;

    let floor_path = paths.in_state("floor");
    let mut floor = state::read_number(&floor_path)?.unwrap_or_default();
    let remembered = Remembered::list(&folder)?;
    let forget_below = now.saturating_sub(window);
    if remembered.iter().any(|nonce| nonce.unix_seconds < forget_below) && forget_below > floor {
        floor = forget_below;
        state::replace(&floor_path, format!("{floor}\n").as_bytes())?;
    }
    let before = horizon::before(paths)?;
    let floor = floor.max(now.saturating_sub(process::since_boot().as_secs()));
    let floor = floor.max(before.newest.saturating_add(u64::from(before.newest > 0)));
    if auth.unix_seconds < floor {
        return Err(Refusal::new(Code::SignedTooEarly).detail(floor - auth.unix_seconds));
    }

    let (forgotten, kept): (Vec<_>, Vec<_>) = remembered.into_iter().partition(|n| n.unix_seconds < floor);
    for nonce in forgotten {
        let path = folder.join(nonce.name);
        fs::remove_file(&path).map_err(|e| state::failed(&path, &e))?;
    }
    if kept.len() >= limits::NONCES {
        return Err(Refusal::new(Code::TooManyCalls).detail(limits::NONCES));
    }
    horizon::reach(paths, auth.unix_seconds)?;
    let path = folder.join(format!("{}-{}", auth.unix_seconds, auth.nonce));
    match File::options().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(Code::Replayed.into()),
        Err(e) => Err(state::failed(&path, &e)),
    }
}

/// A nonce of an earlier call: a file's name.
struct Remembered {
    unix_seconds: u64,
    name: String,
}

impl Remembered {
    fn list(folder: &Path) -> Result<Vec<Self>> {
        let entries = fs::read_dir(folder).map_err(|e| state::failed(folder, &e))?;
        entries
            .map(|entry| {
                let name = entry.map_err(|e| state::failed(folder, &e))?.file_name();
                let name = name.to_string_lossy().into_owned();
                let unix_seconds = name.split('-').next().and_then(|seconds| seconds.parse().ok());
                let unix_seconds = unix_seconds.ok_or_else(|| {
                    Refusal::new(Code::StateIo).detail(folder.display()).detail("a file that is not ours")
                })?;
                Ok(Self { unix_seconds, name })
            })
            .collect()
    }
}
