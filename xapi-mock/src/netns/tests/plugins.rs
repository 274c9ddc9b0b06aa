//! Plugins, run as xapi runs them.

use std::fs::File;
use std::sync::mpsc;
use std::thread;

use nix::unistd::dup;

use super::*;
use crate::dataplane::{Exit, PluginRun};

fn plugin(name: &str, text: &str) -> HostFile {
    file(&format!("/etc/xapi.d/plugins/{name}"), 0o755, text)
}

fn run(plane: &Netns, name: &str) -> PluginRun {
    plane.run_plugin("one", name, "<methodCall/>").unwrap()
}

const SHOW: &str = r#"#!/bin/sh
echo "argv $# $0 $1"
echo "cwd $(pwd)"
tr '\0' '\n' </proc/$$/environ | sed 's/^/env /'
echo "fds" $(ls /proc/self/fd)
echo "stdin $(readlink /proc/$$/fd/0) $(sed -n 's/flags:\s*//p' /proc/$$/fdinfo/0)"
echo "stdout $(stat -L -c '%F %a' /proc/$$/fd/1)"
sed -n '/^Umask\|^SigIgn\|^SigBlk/p' /proc/self/status
test "$(cut -d' ' -f6 /proc/$$/stat)" = $$ && echo own session
echo unseen >&2
"#;

#[test]
fn a_plugin_finds_what_xapi_gives_it() {
    let plane = pool_with(Iptables::Nft, &[plugin("show", SHOW)]);
    // Survives an exec, as what this process was started with may.
    let _inherited = [(); 3].map(|()| dup(File::open("/dev/zero").unwrap()).unwrap());
    let PluginRun { exit, stdout, stderr } = run(&plane, "show");
    // posix_spawn leaves the C library's own signal 32 ignored.
    let stdout =
        String::from_utf8(stdout).unwrap().replace("SigIgn:\t0000000080001000", "SigIgn:\t0000000000001000");
    let expected = "argv 1 /etc/xapi.d/plugins/show <methodCall/>\n\
        cwd /\n\
        env PATH=/sbin:/usr/sbin:/bin:/usr/bin\n\
        fds 0 1 2 3\n\
        stdin /dev/null 0100001\n\
        stdout regular file 600\n\
        Umask:\t0022\n\
        SigBlk:\t0000000000000000\n\
        SigIgn:\t0000000000001000\n\
        own session\n";
    assert_eq!(stdout, expected);
    assert_eq!((exit, stderr), (Exit::Code(0), b"unseen\n".to_vec()));
}

#[test]
fn ends_are_told_apart() {
    let files = [
        plugin("three", "#!/bin/sh\necho out; exit 3\n"),
        plugin("killed", "#!/bin/sh\nkill -KILL $$\n"),
        plugin("shell-only", "echo a shell ran me\n"),
        plugin("no-interpreter", "#!/nowhere/sh\n"),
        plugin("a=b", "#!/bin/sh\necho equal\n"),
        file("/etc/xapi.d/plugins/data", 0o644, "#!/bin/sh\n"),
        file("/etc/xapi.d/plugins/directory/x", 0o644, ""),
    ];
    let plane = pool_with(Iptables::Nft, &files);
    let listed = plane.plugins("one").unwrap();
    assert_eq!(listed, ["a=b", "data", "directory", "killed", "no-interpreter", "shell-only", "three"]);
    let cases = [
        ("three", Exit::Code(3), "out\n"),
        ("killed", Exit::Signal("SIGKILL".into()), ""),
        ("shell-only", Exit::Code(126), ""),
        ("no-interpreter", Exit::Code(127), ""),
        ("a=b", Exit::Code(0), "equal\n"),
        ("data", Exit::Code(126), ""),
        ("directory", Exit::Code(126), ""),
        ("gone", Exit::Code(127), ""),
    ];
    for (name, exit, stdout) in cases {
        let expected = PluginRun { exit, stdout: stdout.into(), stderr: Vec::new() };
        assert_eq!(run(&plane, name), expected, "{name}");
    }
}

#[test]
fn much_output_and_long_input_arrive_whole() {
    let flood = "#!/bin/sh\nhead -c 3000000 /dev/zero; printf %s \"$1\" | wc -c >&2\n";
    let plane = pool_with(Iptables::Nft, &[plugin("flood", flood)]);
    let call = "x".repeat(131_071);
    let run = plane.run_plugin("one", "flood", &call).unwrap();
    assert_eq!((run.exit, run.stdout.len(), run.stderr), (Exit::Code(0), 3_000_000, b"131071\n".to_vec()));
}

/// Two that wait for each other end only if they run at the same time.
#[test]
fn plugins_run_side_by_side() {
    let meet = "#!/bin/sh\nmkfifo /run/meet 2>/dev/null\nif mkdir /run/first 2>/dev/null; then echo hello >/run/meet; else cat /run/meet; fi\n";
    let plane = pool_with(Iptables::Nft, &[plugin("meet", meet)]);
    let outputs = thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| run(&plane, "meet").stdout));
        runs.map(|it| it.join().unwrap()).concat()
    });
    assert_eq!(outputs, b"hello\n");
}

#[test]
fn shutting_down_kills_a_plugin_that_hangs_and_its_daemon() {
    let hang = "#!/bin/sh\nsetsid sleep 600 & echo started >/run/started; exec sleep 600\n";
    let plane = pool_with(Iptables::Nft, &[plugin("hang", hang)]);
    let dom0 = host(&plane, "one");
    thread::scope(|scope| {
        let (sender, ended) = mpsc::channel();
        let plane = &plane;
        scope.spawn(move || sender.send(run(plane, "hang").exit).unwrap());
        while dom0.read("/run/started").is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        plane.shut_down();
        let exit = ended.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(exit, Exit::Signal("SIGKILL".into()));
    });
    assert!(dom0.command("true", &[], b"").is_err(), "nothing starts any more");
}
