//! What a program can do that the plugin starts: only what it needs.
mod support;

use std::collections::BTreeMap;
use std::fs;

use drawbridge_wire::Function;
use support::{Answer, Dom0};

/// Runs `script` in the place of a program.
fn run(dom0: &Dom0, program: &str, script: &str) {
    dom0.fake(program, &format!("cat >/dev/null\n{script}"));
    match program {
        "iptables-restore" => drop(dom0.restore(1, "*filter\n:dwb-x - [0:0]\nCOMMIT\n").reply()),
        "ovs-vsctl" => drop(dom0.call(Function::OvsVsctl, &[("args", "list-br")]).reply()),
        _ => unreachable!(),
    }
}

/// What `/proc/self/status` says in it.
fn status(program: &str) -> BTreeMap<String, String> {
    let dom0 = Dom0::new();
    run(&dom0, program, &format!("cat /proc/self/status >{}/status", dom0.dir.display()));
    let line =
        |line: &str| line.split_once(":\t").map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
    dom0.read("status").lines().filter_map(line).collect()
}

#[test]
fn capabilities_are_what_the_program_needs() {
    // CAP_NET_ADMIN is 12, CAP_NET_RAW 13.
    for (program, kept) in [("iptables-restore", "0000000000003000"), ("ovs-vsctl", "0000000000000000")] {
        let status = status(program);
        for set in ["CapBnd", "CapPrm", "CapEff"] {
            assert_eq!(status[set], kept, "{program} {set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{program} {set}");
        }
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"), "{program}");
    }
}

#[test]
fn nothing_can_be_written_but_what_must_be() {
    for program in ["iptables-restore", "ovs-vsctl"] {
        let dom0 = Dom0::new();
        let dir = dom0.dir.display().to_string();
        // Of everything that is mounted, and with each mount's own name: what the child can reach, it may not write to.
        let script = format!(
            "for folder in / /etc /tmp /var /usr {dir}/state; do (: >$folder/drawbridge-was-here) 2>/dev/null && echo $folder >>{dir}/wrote; done\n\
             (echo 0 >/proc/sys/net/ipv4/ip_forward) 2>/dev/null && echo sysctl >>{dir}/wrote\n\
             : >{dir}/allowed; cat /proc/self/mountinfo >{dir}/mounts; echo x >/dev/null && : >{dir}/null"
        );
        run(&dom0, program, &script);
        assert_eq!(fs::read_to_string(dom0.dir.join("wrote")).unwrap_or_default(), "", "{program}");
        assert!(dom0.dir.join("allowed").exists() && dom0.dir.join("null").exists(), "{program}");
        // Where several stand at one place, the last hides the others.
        let mounts = dom0.read("mounts");
        let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        for (place, options) in mounts.map(|fields| (fields[4], fields[5])).collect::<BTreeMap<_, _>>() {
            assert!(options.split(',').any(|option| option == "ro") || place == dir, "{place} {options}");
        }
        // Ours are as they were.
        fs::write("/tmp/drawbridge-still-writable", "").unwrap();
        fs::remove_file("/tmp/drawbridge-still-writable").unwrap();
    }
}

#[test]
fn the_kernel_itself_is_out_of_reach() {
    let dom0 = Dom0::new();
    let dir = dom0.dir.display().to_string();
    let attempts = [
        "unshare -n true",
        "unshare -U true",
        "mount -t tmpfs none /mnt",
        "mount -o remount,rw /",
        "umount /proc",
        "nsenter -t 1 -n true",
        "chroot / true",
        "modprobe dummy",
        "date -s 2020-01-01",
        "hostname elsewhere",
        "dmesg",
        "strace -o /dev/null true",
        "ip netns add drawbridge-test",
    ];
    let script: String = attempts
        .iter()
        .map(|attempt| format!("({attempt}) >/dev/null 2>&1 && echo '{attempt}' >>{dir}/worked\n"))
        .collect();
    run(&dom0, "iptables-restore", &script);
    assert_eq!(fs::read_to_string(dom0.dir.join("worked")).unwrap_or_default(), "");
}

/// The plugin's own file: a caller's program may be hijacked by what it reads, and must not forget nonces for it.
#[test]
fn input_cannot_be_changed_while_it_is_read() {
    let dom0 = Dom0::new();
    let dir = dom0.dir.display().to_string();
    // Not by `run`, which reads it.
    dom0.fake(
        "iptables-restore",
        &format!("case $* in *--test) ;; *) (echo x >/proc/self/fd/0) 2>/dev/null && echo changed >{dir}/changed; cat >{dir}/got ;; esac"),
    );
    let rules = "*filter\n:dwb-x - [0:0]\nCOMMIT\n";
    dom0.restore(1, rules).reply();
    assert!(!dom0.dir.join("changed").exists());
    assert_eq!(dom0.read("got"), rules);
}

#[test]
fn time_and_memory_are_bounded() {
    let dom0 = Dom0::new();
    let dir = dom0.dir.display().to_string();
    run(&dom0, "ovs-vsctl", &format!("cat /proc/self/limits >{dir}/limits"));
    let limits = dom0.read("limits");
    let hard = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!((hard("Max cpu time").as_str(), hard("Max address space").as_str()), ("31", "1073741824"));
}

/// Where the kernel does not let us, nothing runs with more than it needs.
#[test]
fn what_cannot_be_confined_is_not_started() {
    let dom0 = Dom0::new();
    let mut paths = dom0.paths.clone();
    paths.writable = vec![dom0.dir.join("nowhere")];
    let Answer::Failure(texts) = dom0.call_with(&paths, Function::OvsVsctl, &[("args", "list-br")]) else {
        panic!("it ran")
    };
    assert_eq!(texts[..3], ["DRAWBRIDGE_NOT_CONFINED", "ovs-vsctl", "read-only mounts"]);
    assert!(dom0.started().is_empty());
}
