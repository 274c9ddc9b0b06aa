//! A dom0 in a temporary folder: keys, inventory, state, and stand-ins for the four programs that write down each
//! start. Signs calls, and makes them through the library as the program does.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod case;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use dom0_plugin::authorise::RestorePlan;
use dom0_plugin::authorise::boundary::Boundary;
use dom0_plugin::paths::Paths;
use drawbridge_wire::auth::Nonce;
use drawbridge_wire::xmlrpc::{MethodCall, Response, Value, decode_response, encode_call};
use drawbridge_wire::{Family, Function, Reply, Signer, generate_keypair};

pub(crate) const HOST_UUID: &str = "6a0b7a3e-6a51-4d5c-8f7e-2f9f5b1c0d11";

/// The session as it would come from XAPI; it must never show up anywhere.
pub(crate) const SESSION: &str = "OpaqueRef:7a1d1c55-1e55-4ec2-a5a5-5e551040f5ec";

/// A bridge with a card, dom0's interface and a guest on its untagged network and on VLAN 100 each, as `ovs-vsctl` says it.
pub(crate) const SWITCH: &str = "xenbr0\nxapi1\nname,ports\nxenbr0,p1 p2 p3 p4 p5\n\n\
    _uuid,name,tag,interfaces\np1,eth0,,i1\np2,xenbr0,,i2\np3,xapi1,100,i3\np4,vif1.0,100,i4\np5,vif1.1,,i5\n\n\
    _uuid,name,ofport,type,mac_in_use\ni1,eth0,1,,02:00:00:00:00:01\ni2,xenbr0,65534,internal,02:00:00:00:00:01\n\
    i3,xapi1,2,internal,02:00:00:00:00:02\ni4,vif1.0,3,,fe:ff:ff:ff:ff:ff\ni5,vif1.1,4,,fe:ff:ff:ff:ff:ff\n";

/// What the plugin printed.
#[derive(Debug)]
pub(crate) enum Answer {
    Success(Reply),
    Failure(Vec<String>),
}

impl Answer {
    pub(crate) fn read(document: &str) -> Self {
        let Ok(Response::Value(value)) = decode_response(document) else {
            panic!("not a response: {document}")
        };
        match value.member("Status").and_then(Value::as_str) {
            Some("Success") => {
                Self::Success(Reply::parse(value.member("Value").and_then(Value::as_str).unwrap()).unwrap())
            }
            Some("Failure") => {
                let Some(Value::Array(texts)) = value.member("ErrorDescription") else {
                    panic!("{document}")
                };
                Self::Failure(texts.iter().map(|text| text.as_str().unwrap().to_owned()).collect())
            }
            _ => panic!("no Status: {document}"),
        }
    }

    /// The code of a refusal.
    #[track_caller]
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Failure(texts) => &texts[0],
            Self::Success(reply) => panic!("was not refused: {reply:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn reply(self) -> Reply {
        match self {
            Self::Success(reply) => reply,
            Self::Failure(texts) => panic!("was refused: {texts:?}"),
        }
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A nonce that no other call has.
pub(crate) fn nonce() -> Nonce {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes[4..8].copy_from_slice(&std::process::id().to_be_bytes());
    Nonce(bytes)
}

pub(crate) fn signer() -> (Signer, String) {
    let (private, line) = generate_keypair().unwrap();
    (Signer::from_private_key(private.expose()).unwrap(), line.to_string())
}

pub(crate) fn arguments(members: &[(&str, &str)]) -> BTreeMap<String, String> {
    members.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// `argv[1]` as XAPI writes it.
pub(crate) fn document(function: &str, members: &BTreeMap<String, String>) -> String {
    let members = members.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
    encode_call(&MethodCall {
        name: function.to_owned(),
        params: vec![SESSION.into(), Value::Struct(members)],
    })
}

/// The table `raw` as `iptables-save` shows it where the boundary stands.
pub(crate) fn boundary(family: Family) -> String {
    let found = Boundary::read("", family, &BTreeSet::new());
    let repair = RestorePlan::mending(&found, family).run(false, None);
    String::from_utf8(repair.stdin().to_vec()).unwrap().replace("-I PREROUTING 1 ", "-A PREROUTING ")
}

/// A script for a stand-in of `iptables-restore`: what it got last for each table is in `file` then, as `iptables-save` would
/// show it.
pub(crate) fn keeps(file: &Path) -> String {
    let file = file.display();
    format!(
        "case $* in *--test) cat >/dev/null; exit ;; esac\n\
         sed 's/^-I FORWARD 1/-A FORWARD/; s/^-I PREROUTING 1/-A PREROUTING/; /^-[DF]/d' >{file}.new\n\
         for table in raw filter; do\n\
         from={file}.new; grep -q \"^.$table\" $from || from={file}\n\
         sed -n \"/^.$table/,/^COMMIT/p\" $from 2>/dev/null | awk '/^[*]/ {{ if (seen++) next }} \
         /^COMMIT/ {{ next }} /^:dwb-raw/ {{ if (chain++) next }} {{ print }} END {{ if (seen) print \"COMMIT\" }}'\n\
         done >{file}.both; mv {file}.both {file}"
    )
}

/// See the module.
pub(crate) struct Dom0 {
    pub(crate) dir: PathBuf,
    pub(crate) paths: Paths,
    pub(crate) signer: Signer,
    syslog: UnixDatagram,
    audit: RefCell<Vec<String>>,
}

impl Dom0 {
    #[track_caller]
    pub(crate) fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests must run as root: the plugin trusts only root's files"
        );
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("drawbridge-plugin-{}-{number}", std::process::id()));
        for folder in ["bin", "etc", "bridge", "lib"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        set_mode(&dir.join("etc"), 0o755);
        let (signer, line) = signer();
        let paths = Paths {
            authorized_keys: dir.join("etc/authorized_keys"),
            config: dir.join("etc/dom0.toml"),
            inventory: dir.join("etc/xensource-inventory"),
            state: dir.join("state"),
            lasting: dir.join("lib/drawbridge"),
            boot_id: dir.join("boot_id"),
            syslog: dir.join("log"),
            bridge_nf: dir.join("bridge"),
            net: dir.join("net"),
            interfaces: dir.join("interfaces"),
            xtables_lock: dir.join("xtables.lock"),
            writable: vec![dir.clone()],
            iptables: vec![dir.join("bin")],
            openvswitch: vec![dir.join("bin")],
        };
        let syslog = UnixDatagram::bind(&paths.syslog).unwrap();
        syslog.set_nonblocking(true).unwrap();
        let dom0 = Self { dir, paths, signer, syslog, audit: RefCell::default() };
        dom0.write("boot_id", "1de6f8b2-0f0b-4c51-a4d3-0d4d5f0f5b11\n");
        dom0.write("etc/authorized_keys", &format!("# who may call\n\n{line}\n"));
        dom0.write(
            "etc/xensource-inventory",
            &format!("PRODUCT_BRAND='XCP-ng'\nINSTALLATION_UUID='{HOST_UUID}'\nCONTROL_DOMAIN_UUID='x'\n"),
        );
        for family in ["iptables", "ip6tables"] {
            dom0.write(&format!("bridge/bridge-nf-call-{family}"), "0\n");
            dom0.fake(&format!("{family}-save"), "printf '*filter\\n:INPUT ACCEPT [0:0]\\nCOMMIT\\n'");
            dom0.fake(&format!("{family}-restore"), "cat >/dev/null");
        }
        dom0.fake("ovs-ofctl", "case $* in *flows*-) cat >/dev/null ;; esac");
        dom0.write("switch", SWITCH);
        let csv = format!("*csv*) cat {}/switch ;;", dom0.dir.display());
        dom0.fake(
            "ovs-vsctl",
            &format!("case $* in 'br-exists xenbr0') ;; br-exists*) exit 2 ;; {csv} *) echo xenbr0 ;; esac"),
        );
        dom0
    }

    /// Writes a file of the given mode 0644.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
        set_mode(&self.dir.join(name), 0o644);
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap()
    }

    /// A second key that may call.
    pub(crate) fn second_signer(&self) -> Signer {
        let (other, line) = signer();
        self.write("etc/authorized_keys", &format!("{}{line}\n", self.read("etc/authorized_keys")));
        other
    }

    /// Puts a shell script in a program's place. It writes down that it was started.
    #[expect(clippy::disallowed_methods, reason = "a test may start programs")]
    pub(crate) fn fake(&self, program: &str, script: &str) {
        let started = self.dir.join("started");
        let path = self.dir.join("bin").join(program);
        let text = format!("#!/bin/sh\necho \"{program} $*\" >>{}\n{script}\n", started.display());
        // By a process of its own: what this one has open for writing, a child that another test just forked has open, too,
        // and until that has executed its program nobody can execute the file (`ETXTBSY`).
        let mut install = Command::new("install")
            .args(["-m", "755", "/dev/stdin"])
            .arg(path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(install.wait().unwrap().success());
    }

    /// Every start of a program so far, as `name arguments`.
    pub(crate) fn started(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("started")).unwrap_or_default();
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// A document to the plugin, its answer back.
    pub(crate) fn serve(&self, document: &str) -> Answer {
        self.serve_with(&self.paths, document)
    }

    fn serve_with(&self, paths: &Paths, document: &str) -> Answer {
        let argv = [OsString::from("drawbridge"), OsString::from(document)];
        let printed = dom0_plugin::serve(argv.into_iter(), paths);
        assert!(!printed.contains(SESSION), "the session came back: {printed}");
        let mut line = [0; 8192];
        let length = self.syslog.recv(&mut line).expect("one audit line per call");
        let line = String::from_utf8(line[..length].to_vec()).unwrap();
        assert!(!line.contains(SESSION) && !line.contains('\n'), "{line}");
        assert!(self.syslog.recv(&mut [0; 1]).is_err(), "two audit lines for one call");
        self.audit.borrow_mut().push(line);
        Answer::read(&printed)
    }

    /// The audit lines so far.
    pub(crate) fn audit(&self) -> Vec<String> {
        self.audit.borrow().clone()
    }

    /// A signed call.
    pub(crate) fn call(&self, function: Function, members: &[(&str, &str)]) -> Answer {
        self.call_with(&self.paths, function, members)
    }

    /// A signed call where some paths are others.
    pub(crate) fn call_with(&self, paths: &Paths, function: Function, members: &[(&str, &str)]) -> Answer {
        let mut arguments = arguments(members);
        self.signer.sign(HOST_UUID, function, &mut arguments, now(), nonce());
        self.serve_with(paths, &document(function.as_str(), &arguments))
    }

    /// What a stand-in of `iptables-restore` that [`keeps`] got for the table `filter`.
    pub(crate) fn filter(&self, name: &str) -> String {
        let text = self.read(name);
        text[text.find("*filter\n").unwrap()..].to_owned()
    }

    /// A write of plain input.
    pub(crate) fn restore(&self, generation: u64, stdin: &str) -> Answer {
        let generation = generation.to_string();
        let members =
            [("args", ""), ("stdin", stdin), ("stdin_encoding", "plain"), ("generation", &generation)];
        self.call(Function::IptablesRestore, &members)
    }
}

impl Drop for Dom0 {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
