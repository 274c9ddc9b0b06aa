//! The program itself, at dom0's own paths, with the real iptables: each test in network and mount namespaces of its
//! own, with a private `/etc`, `/run` and `/var/lib`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use drawbridge_wire::{Family, Function, Invocation, Reply, Signer, signed_calls};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use support::{Answer, HOST_UUID, SESSION, document, now, signer};

/// Which iptables is dom0's in a test.
const VARIANTS: [&str; 2] = ["legacy", "nft"];

const JUMP: &str = "-m physdev --physdev-is-bridged -j dwb-forward";

const SWITCH: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// dom0's own rules, foreign to us: order, duplicates, and comments that name us.
const THEIRS: &str = r#"*filter
:RH-Firewall-1-INPUT - [0:0]
-A INPUT -j RH-Firewall-1-INPUT
-A FORWARD -s 192.0.2.1/32 -j ACCEPT
-A FORWARD -s 192.0.2.2/32 -j DROP
-A FORWARD -s 192.0.2.1/32 -j ACCEPT
-A FORWARD -m comment --comment "drawbridge -j dwb-forward" -j RH-Firewall-1-INPUT
-A RH-Firewall-1-INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A RH-Firewall-1-INPUT -j REJECT --reject-with icmp-host-prohibited
COMMIT
"#;

const OURS: &str = "*filter\n:dwb-forward - [0:0]\n-A dwb-forward -m physdev --physdev-in vif1.0 -j DROP\n\
                    -A dwb-forward -j ACCEPT\n-I FORWARD 1 -m physdev --physdev-is-bridged -j dwb-forward\nCOMMIT\n\
                    *raw\n:dwb-raw - [0:0]\n-A dwb-raw -i xenbr0 -j CT --zone 7\nCOMMIT\n";

#[expect(clippy::disallowed_methods, reason = "starts the plugin as XAPI does, and iptables to look at")]
fn command(program: impl AsRef<Path>) -> Command {
    Command::new(program.as_ref())
}

/// The program under test: the one cargo built, or the one that will be shipped, if it is named.
fn plugin() -> PathBuf {
    std::env::var_os("DRAWBRIDGE_DOM0_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_drawbridge-dom0").into(), PathBuf::from)
}

/// The signer whose key this dom0 has.
struct Dom0(Signer);

/// Runs `test` on a thread of its own in a private dom0.
fn in_dom0(variant: &'static str, test: impl FnOnce(&Dom0) + Send) {
    assert!(nix::unistd::geteuid().is_root(), "these tests must run as root: they make namespaces");
    thread::scope(|scope| {
        let joined = scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
                let none = None::<&str>;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
                // Everything below is seen by this thread and its children only.
                mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
                for folder in ["upper", "work"] {
                    fs::create_dir(Path::new("/run").join(folder)).unwrap();
                }
                let layers = Some("lowerdir=/etc,upperdir=/run/upper,workdir=/run/work");
                mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), layers).unwrap();
                mount(Some("tmpfs"), "/var/lib", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
                if Path::new("/dev/log").exists() {
                    mount(Some("/dev/null"), "/dev/log", none, MsFlags::MS_BIND, none).unwrap();
                }
                for program in ["iptables", "ip6tables"] {
                    for part in ["save", "restore"] {
                        choose(
                            &format!("{program}-{part}"),
                            &format!("/usr/sbin/{program}-{variant}-{part}"),
                        );
                    }
                }
                let (signer, line) = signer();
                fs::create_dir_all("/etc/drawbridge").unwrap();
                fs::write("/etc/drawbridge/authorized_keys", format!("{line}\n")).unwrap();
                let inventory = format!("PRODUCT_BRAND='XCP-ng'\nINSTALLATION_UUID='{HOST_UUID}'\n");
                fs::write("/etc/xensource-inventory", inventory).unwrap();
                restore_directly(THEIRS);
                // As dom0 ships.
                fs::write(SWITCH, "0").unwrap();
                test(&Dom0(signer));
            })
            .join();
        if let Err(panic) = joined {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Makes `/usr/sbin/<program>`, which Debian has as a link to its alternatives, lead to `target`.
fn choose(program: &str, target: &str) {
    let link = Path::new("/etc/alternatives").join(program);
    fs::remove_file(&link).unwrap();
    symlink(target, link).unwrap();
}

fn restore_directly(rules: &str) {
    let mut child =
        command("/usr/sbin/iptables-restore").arg("--noflush").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Everybody's rules in the filter table.
fn filter_table() -> Vec<String> {
    let output = command("/usr/sbin/iptables-save").args(["-t", "filter"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.starts_with("-A ")).map(str::to_owned).collect()
}

impl Dom0 {
    /// Starts the plugin as XAPI does.
    fn start(&self, function: Function, arguments: &BTreeMap<String, String>) -> Child {
        command(plugin())
            .arg0("/etc/xapi.d/plugins/drawbridge")
            .arg(document(function.as_str(), arguments))
            .env_clear()
            .env("PATH", "/sbin:/usr/sbin:/bin:/usr/bin")
            .current_dir("/")
            .stdin(fs::File::options().write(true).open("/dev/null").unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs the plugin in so many MiB of memory.
    fn within(&self, mebibytes: u64, function: Function, arguments: &BTreeMap<String, String>) -> Output {
        let limit = format!("--as={}", mebibytes * 1024 * 1024);
        let document = document(function.as_str(), arguments);
        command("prlimit").arg(limit).arg(plugin()).arg(document).output().unwrap()
    }

    fn calls(&self, function: Function, args: &[&str], stdin: Option<&str>) -> Vec<BTreeMap<String, String>> {
        let invocation = Invocation {
            function,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            family: Family::Ipv4,
            stdin: stdin.map(|text| text.as_bytes().to_vec()),
            generation: stdin.map(|_| 1),
        };
        signed_calls(&invocation, &self.0, HOST_UUID, now()).unwrap()
    }

    fn call(&self, function: Function, args: &[&str], stdin: Option<&str>) -> Answer {
        let mut answer = None;
        for arguments in self.calls(function, args, stdin) {
            let output = self.start(function, &arguments).wait_with_output().unwrap();
            let (printed, audit) =
                (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
            assert_eq!(output.status.code(), Some(0), "{printed} {audit}");
            assert!(audit.contains(&format!("function={function}")), "no audit line: {audit}");
            assert!(!audit.contains(SESSION));
            answer = Some(Answer::read(&printed));
        }
        answer.unwrap()
    }

    fn save(&self) -> Reply {
        self.call(Function::IptablesSave, &[], None).reply()
    }

    fn restore(&self, rules: &str) -> Answer {
        self.call(Function::IptablesRestore, &[], Some(rules))
    }
}

/// An answer without the line that counts dom0's connections.
fn without_conntrack(answer: &str) -> String {
    let lines = answer.lines().filter(|line| !line.starts_with("# drawbridge conntrack="));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Writes ours, reads them back, removes them: nobody else's rule moves.
fn write_and_remove(dom0: &Dom0) {
    let before = filter_table();
    let empty = dom0.save();
    assert_eq!(
        (empty.exit_code, without_conntrack(&empty.stdout).as_str()),
        (0, "# drawbridge bridge-nf-call=0\n# drawbridge boundary=missing\n*filter\nCOMMIT\n*raw\nCOMMIT\n")
    );

    let reply = dom0.restore(OURS).reply();
    assert_eq!(reply.exit_code, 0, "{}", reply.stderr);
    assert_eq!(fs::read_to_string(SWITCH).unwrap().trim(), "1");
    let saved = dom0.save().stdout;
    let expected = format!(
        "# drawbridge bridge-nf-call=1\n# drawbridge boundary=stands\n*filter\n:dwb-forward - [0:0]\n-I FORWARD 1 {JUMP}\n\
         -A dwb-forward -m physdev --physdev-in vif1.0 -j DROP\n-A dwb-forward -j ACCEPT\nCOMMIT\n*raw\n:dwb-raw - [0:0]\n\
         -A dwb-raw -i xenbr0 -j CT --zone 7\nCOMMIT\n"
    );
    assert_eq!(without_conntrack(&saved), expected);
    let (ours, rest): (Vec<_>, Vec<_>) =
        filter_table().into_iter().partition(|line| line.starts_with("-A dwb-") || line.ends_with(JUMP));
    assert_eq!((ours.len(), rest), (3, before.clone()));
    let remove = "*filter\n-D FORWARD -m physdev --physdev-is-bridged -j dwb-forward\n-F dwb-forward\n-X dwb-forward\nCOMMIT\n\
                  *raw\n-F dwb-raw\nCOMMIT\n";
    let reply = dom0.restore(remove).reply();
    assert_eq!(reply.exit_code, 0, "{}", reply.stderr);
    assert_eq!(filter_table(), before);
    // Never turned off: other people's bridges may count on it by now.
    assert_eq!(fs::read_to_string(SWITCH).unwrap().trim(), "1");
}

#[test]
fn ours_come_and_go_and_theirs_stay() {
    for variant in VARIANTS {
        in_dom0(variant, write_and_remove);
    }
}

#[test]
fn everything_the_guard_accepts_iptables_accepts() {
    for variant in VARIANTS {
        in_dom0(variant, |dom0| {
            for (name, case) in support::case::load("accept") {
                if case.get("family").is_none() && name.starts_with("restore-everything") {
                    let rules = String::from_utf8(case.stdin.unwrap()).unwrap();
                    let reply = dom0.restore(&rules).reply();
                    assert_eq!(reply.exit_code, 0, "{variant} {name}: {}", reply.stderr);
                }
            }
        });
    }
}

#[test]
fn a_ruleset_that_iptables_refuses_changes_nothing() {
    for variant in VARIANTS {
        in_dom0(variant, |dom0| {
            let before = filter_table();
            // The first lines are fine; the chain of the last one does not exist.
            let rules =
                "*filter\n:dwb-a - [0:0]\n-A dwb-a -j DROP\n-D dwb-a 7\n-A dwb-a -p 256x -j DROP\nCOMMIT\n";
            assert_eq!(dom0.restore(rules).code(), "DRAWBRIDGE_INPUT_REFUSED");
            let rules = "*filter\n:dwb-a - [0:0]\n-A dwb-a -p nosuchprotocol -j DROP\nCOMMIT\n";
            let reply = dom0.restore(rules).reply();
            assert_ne!(reply.exit_code, 0);
            assert!(reply.stderr.contains("nosuchprotocol"), "{}", reply.stderr);
            assert_eq!(filter_table(), before);
            assert_eq!(fs::read_to_string(SWITCH).unwrap().trim(), "0");
        });
    }
}

#[test]
fn staged_rules_arrive() {
    in_dom0("legacy", |dom0| {
        let mut rules = String::from("*filter\n:dwb-a - [0:0]\n");
        let mut seed = 1_u64;
        for _ in 0..12_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let [a, b, c, d, ..] = seed.to_be_bytes();
            rules += &format!("-A dwb-a -s {a}.{b}.{c}.{d}/32 -j DROP\n");
        }
        rules += "COMMIT\n";
        assert!(rules.len() > 400_000, "{}", rules.len());
        let reply = dom0.restore(&rules).reply();
        assert_eq!(reply.exit_code, 0, "{}", reply.stderr);
        assert_eq!(dom0.save().stdout.matches("-A dwb-a").count(), 12_000);
    });
}

/// dom0's kernel is 4.19: every system call that came later answers ENOSYS. (334 is rseq, of 4.18.)
#[test]
fn no_newer_system_call_is_needed() {
    for variant in VARIANTS {
        in_dom0(variant, |dom0| {
            let newer = (335..=700).map(|number| (number, vec![])).collect();
            let absent = SeccompAction::Errno(libc_enosys());
            let filter = SeccompFilter::new(
                newer,
                SeccompAction::Allow,
                absent,
                std::env::consts::ARCH.try_into().unwrap(),
            );
            let program: BpfProgram = filter.unwrap().try_into().unwrap();
            apply_filter(&program).unwrap();
            // The filter works: close_range is of 5.9.
            assert_eq!(nix::errno::Errno::result(close_range()), Err(nix::errno::Errno::ENOSYS));
            write_and_remove(dom0);
            close_at_boot(dom0);
        });
    }
}

fn libc_enosys() -> u32 {
    u32::try_from(nix::errno::Errno::ENOSYS as i32).unwrap()
}

#[expect(unsafe_code, reason = "no wrapper calls close_range without falling back")]
fn close_range() -> i64 {
    // SAFETY: closes descriptors from 4,000,000,000 up: there are none.
    unsafe { libc::syscall(libc::SYS_close_range, 4_000_000_000_u32, 4_000_000_000_u32, 0) }
}

#[test]
fn a_plugin_that_is_killed_leaves_no_lock() {
    in_dom0("legacy", |dom0| {
        fs::write("/run/hanging", "#!/bin/sh\nexec 2>/dev/null\ntouch /run/started\nexec sleep 600\n")
            .unwrap();
        support::set_mode(Path::new("/run/hanging"), 0o755);
        choose("iptables-restore", "/run/hanging");
        let arguments = dom0.calls(Function::IptablesRestore, &[], Some(OURS)).remove(0);
        let mut plugin = dom0.start(Function::IptablesRestore, &arguments);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !Path::new("/run/started").exists() {
            assert!(Instant::now() < deadline, "the program was never started");
            thread::sleep(Duration::from_millis(5));
        }
        plugin.kill().unwrap();
        plugin.wait().unwrap();
        choose("iptables-restore", "/usr/sbin/iptables-legacy-restore");
        let started = Instant::now();
        assert_eq!(dom0.restore(OURS).reply().exit_code, 0);
        assert!(started.elapsed() < Duration::from_secs(5));
    });
}

/// A write with `script` in the place of iptables-restore (but for the trial), killed when that has begun.
fn kill_in_the_middle(dom0: &Dom0, script: &str) {
    let script = format!("#!/bin/sh\ncase $* in *--test) exit ;; esac\n{script}\n");
    fs::write("/run/slow", script).unwrap();
    support::set_mode(Path::new("/run/slow"), 0o755);
    choose("iptables-restore", "/run/slow");
    let arguments = dom0.calls(Function::IptablesRestore, &[], Some(OURS_FILTER)).remove(0);
    let mut plugin = dom0.start(Function::IptablesRestore, &arguments);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !Path::new("/run/started").exists() {
        assert!(Instant::now() < deadline, "the program was never started");
        thread::sleep(Duration::from_millis(1));
    }
    plugin.kill().unwrap();
    plugin.wait().unwrap();
}

const OURS_FILTER: &str = "*filter\n:dwb-forward - [0:0]\nCOMMIT\n";

#[test]
fn a_write_does_not_outlive_its_plugin() {
    in_dom0("legacy", |dom0| {
        // Says if the one before still runs; busy for a second or two, then done.
        let slow = "if [ -e /run/started ]; then read pid </run/started\n\
                    while read key value; do case $key$value in State:[RSD]*) echo $pid >/run/overlap ;; esac; \
                    done </proc/$pid/status; fi 2>/dev/null\n\
                    echo $$ >/run/new; mv /run/new /run/started\n\
                    i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo $$ >>/run/done";
        kill_in_the_middle(dom0, slow);
        let first = fs::read_to_string("/run/started").unwrap();
        assert_eq!(dom0.restore(OURS_FILTER).reply().exit_code, 0);
        let done = fs::read_to_string("/run/done").unwrap();
        assert!(!Path::new("/run/overlap").exists());
        assert_eq!(done.lines().count(), 1);
        assert_ne!(done, first);
    });
}

/// Should the kernel be late with the kill, or the program have a way around it, the lock still says that it runs.
#[test]
fn the_program_holds_the_lock_of_its_plugin() {
    in_dom0("legacy", |dom0| {
        let started = Instant::now();
        let survives =
            "exec setpriv --pdeathsig clear sh -c 'touch /run/started; exec sleep 2 >/dev/null 2>&1'";
        kill_in_the_middle(dom0, survives);
        choose("iptables-restore", "/usr/sbin/iptables-legacy-restore");
        // Who only looks does not wait.
        dom0.save();
        assert!(started.elapsed() < Duration::from_secs(2));
        assert_eq!(dom0.restore(OURS_FILTER).reply().exit_code, 0);
        assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    });
}

/// A list of its lines took 247 MiB.
#[test]
fn sixteen_mebibytes_of_newlines_are_refused_in_little_memory() {
    in_dom0("legacy", |dom0| {
        let newlines = "\n".repeat(drawbridge_wire::limits::INPUT_BYTES);
        let [arguments] = &dom0.calls(Function::IptablesRestore, &[], Some(&newlines))[..] else { panic!() };
        let output = dom0.within(64, Function::IptablesRestore, arguments);
        let answer = Answer::read(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(answer.code(), "DRAWBRIDGE_INPUT_REFUSED", "{answer:?}");
    });
}

/// XAPI shows the caller nothing of a plugin that aborts.
#[test]
fn where_memory_ends_the_answer_is_well_formed() {
    in_dom0("legacy", |dom0| {
        let comments = "# a comment\n".repeat(drawbridge_wire::limits::INPUT_BYTES / 12);
        let mut codes = Vec::new();
        for mebibytes in [10, 16, 22, 28] {
            let arguments = dom0.calls(Function::IptablesRestore, &[], Some(&comments)).remove(0);
            let output = dom0.within(mebibytes, Function::IptablesRestore, &arguments);
            // Else it could not even be started.
            if output.status.code() == Some(0) {
                codes.push(Answer::read(&String::from_utf8(output.stdout).unwrap()).code().to_owned());
            }
        }
        assert!(codes.contains(&"DRAWBRIDGE_INTERNAL".to_owned()), "{codes:?}");
    });
}

/// A storage repository whose server is gone: whoever looks at it waits for ever.
#[test]
fn a_mount_that_does_not_answer_holds_nobody_up() {
    in_dom0("legacy", |dom0| {
        fs::create_dir("/run/dead").unwrap();
        let silent = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", silent.as_raw_fd());
        mount(Some("dead"), "/run/dead", Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
        let started = Instant::now();
        dom0.save();
        assert_eq!(dom0.restore(OURS).reply().exit_code, 0);
        assert!(started.elapsed() < Duration::from_secs(10));
        // In here it is as it was.
        assert!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(" /run/dead "));
    });
}

/// Whoever starts it may have been careless: what it learns of its children, and what they do, depends on none of it.
#[test]
fn inherited_signals_change_nothing() {
    in_dom0("legacy", |dom0| {
        let says = "#!/bin/sh\ncat /proc/self/status >/run/status\nprintf '*filter\\nCOMMIT\\n'\n";
        fs::write("/run/says", says).unwrap();
        support::set_mode(Path::new("/run/says"), 0o755);
        choose("iptables-save", "/run/says");
        let arguments = dom0.calls(Function::IptablesSave, &[], None).remove(0);
        let output = command("env")
            .args(["--ignore-signal", "--block-signal"])
            .arg(plugin())
            .arg(document("iptables-save", &arguments))
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(Answer::read(&printed).reply().exit_code, 0);
        let status = fs::read_to_string("/run/status").unwrap();
        let signals = |name: &str| {
            let set = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
            u64::from_str_radix(set, 16).unwrap()
        };
        // But for the two that are libc's own (32 and 33).
        assert_eq!((signals("SigBlk"), signals("SigIgn") & !(3 << 31)), (0, 0));
    });
}

#[test]
fn the_environment_decides_nothing() {
    in_dom0("legacy", |dom0| {
        fs::create_dir("/run/bin").unwrap();
        fs::write("/run/bin/iptables-save", "#!/bin/sh\ntouch /run/fooled\n").unwrap();
        support::set_mode(Path::new("/run/bin/iptables-save"), 0o755);
        let arguments = dom0.calls(Function::IptablesSave, &[], None).remove(0);
        let output = command(plugin())
            .arg(document("iptables-save", &arguments))
            .env("PATH", "/run/bin")
            .env("IPTABLES_SAVE", "/run/bin/iptables-save")
            .env("LD_PRELOAD", "/run/bin/nothing.so")
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(Answer::read(&printed).reply().exit_code, 0);
        assert!(!Path::new("/run/fooled").exists());
    });
}

/// The run that systemd starts, on what a boot leaves: a record, dom0's own rules, perhaps ours as they were saved.
fn close_at_boot(dom0: &Dom0) {
    let boot = || command(plugin()).arg("boot").env("PATH", "/run/bin").output().unwrap();
    let guarding = "*filter\n:dwb-forward - [0:0]\n:dwb-unknown-from - [0:0]\n:dwb-i-vif1.0 - [0:0]\n\
         -A dwb-forward -m physdev --physdev-out vif1.0 -g dwb-i-vif1.0\n\
         -A dwb-forward -m physdev --physdev-in vif+ -g dwb-unknown-from\n\
         -A dwb-unknown-from -i xapi1 -j DROP\n-A dwb-i-vif1.0 -j ACCEPT\n\
         -I FORWARD 1 -m physdev --physdev-is-bridged -j dwb-forward\nCOMMIT\n";
    let before = filter_table();
    assert_eq!(boot().status.code(), Some(0));
    assert_eq!(filter_table(), before, "nothing was guarded");
    assert_eq!(dom0.restore(guarding).reply().exit_code, 0);
    let written = filter_table();
    assert_eq!(boot().status.code(), Some(0));
    assert_eq!(filter_table(), written, "undone what the driver wrote since the boot");

    // XAPI had saved everything, and the boot has loaded it.
    fs::remove_dir_all("/run/drawbridge").unwrap();
    fs::write(SWITCH, "0").unwrap();
    let output = boot();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
    let (ours, rest): (Vec<_>, Vec<_>) =
        filter_table().into_iter().partition(|line| line.starts_with("-A dwb-") || line.ends_with(JUMP));
    assert_eq!(rest, before);
    let closed = [
        &format!("-A FORWARD {JUMP}"),
        "-A dwb-forward -m physdev --physdev-in vif+ -j dwb-unknown-from",
        "-A dwb-forward -m physdev --physdev-out vif+ -j dwb-unknown-to",
        "-A dwb-forward -m physdev --physdev-in tap+ -j dwb-unknown-from",
        "-A dwb-forward -m physdev --physdev-out tap+ -j dwb-unknown-to",
        "-A dwb-forward -j ACCEPT",
        "-A dwb-unknown-from -i xapi1 -j DROP",
        "-A dwb-unknown-to -o xapi1 -j DROP",
    ];
    assert_eq!(ours, closed);
    assert_eq!(fs::read_to_string(SWITCH).unwrap().trim(), "1");
}

#[test]
fn at_boot_guarded_bridges_are_closed() {
    for variant in VARIANTS {
        in_dom0(variant, close_at_boot);
    }
}

/// With the capabilities that its units leave it, and no right to load a module, the plugin closes and answers.
#[test]
fn the_units_leave_what_the_plugin_needs() {
    let boot = include_str!("../../packaging/dom0/drawbridge-boot.service");
    let flows = include_str!("../../packaging/dom0/drawbridge-flows.service");
    let [boot, flows] = [boot, flows].map(|unit| {
        let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
        line.split(' ').map(|name| format!(",+{}", &name["CAP_".len()..].to_lowercase())).collect::<String>()
    });
    assert!(["sys_admin", "setpcap"].iter().all(|name| flows.contains(name)), "{flows}");
    for variant in VARIANTS {
        in_dom0(variant, |_| {
            fs::create_dir("/var/lib/drawbridge").unwrap();
            support::set_mode(Path::new("/var/lib/drawbridge"), 0o700);
            fs::write("/var/lib/drawbridge/guarded-ipv4", "xapi1\n").unwrap();
            let bounded = format!("--bounding-set=-all{boot}");
            let output = command("setpriv").arg(bounded).arg(plugin()).arg("boot").output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(filter_table().iter().any(|rule| rule == "-A dwb-unknown-from -i xapi1 -j DROP"));
            // Not weaker without a word.
            let output = command("setpriv")
                .arg("--bounding-set=-all,+net_admin,+net_raw")
                .arg(plugin())
                .arg("boot")
                .output();
            let said = String::from_utf8(output.unwrap().stderr).unwrap();
            assert!(said.contains("DRAWBRIDGE_NOT_CONFINED") && said.contains("mount namespace"), "{said}");
        });
    }
}

/// A person or systemd reads this: a failure has a message and an exit code.
#[test]
fn a_failed_boot_says_so() {
    in_dom0("legacy", |_| {
        fs::create_dir("/var/lib/drawbridge").unwrap();
        support::set_mode(Path::new("/var/lib/drawbridge"), 0o700);
        fs::write("/var/lib/drawbridge/guarded-ipv4", "xapi1; reboot\n").unwrap();
        let output = command(plugin()).arg("boot").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("DRAWBRIDGE_GUARDED_RECORD") && said.contains("guarded-ipv4: line 1"),
            "{said}"
        );
        let closed = "-A dwb-unknown-from -i xapi+ -j DROP".to_owned();
        assert!(filter_table().contains(&closed), "nobody knows what was guarded: all is closed");
    });
}

#[test]
fn bad_starts_are_answered_too() {
    in_dom0("legacy", |_| {
        for arguments in
            [vec![], vec![""], vec!["hello"], vec!["<methodCall>"], vec!["a", "b"], vec!["boot", "x"]]
        {
            let output = command(plugin()).args(&arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(0));
            let printed = String::from_utf8(output.stdout).unwrap();
            assert_eq!(Answer::read(&printed).code(), "DRAWBRIDGE_MALFORMED_CALL", "{arguments:?}");
        }
    });
}
