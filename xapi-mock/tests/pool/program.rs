//! The program itself: its ready line, its end, its configuration file.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use xapi_mock::PoolConfig;
use xapi_mock::config::ConfigError;

const SAMPLE: &str = include_str!("../../pool.toml");

fn file(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    fs::write(&path, content).unwrap();
    path
}

fn start(config: &PathBuf) -> Child {
    #[expect(clippy::disallowed_methods, reason = "the program under test")]
    std::process::Command::new(env!("CARGO_BIN_EXE_xapi-mock"))
        .arg("--config")
        .arg(config)
        .args(["--data-plane", "none", "--iptables", "legacy", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn it_says_where_it_is_and_ends_on_sigterm() {
    let mut program = start(&file("sample.toml", SAMPLE));
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["pid"], program.id());
    assert!(ready["url"].as_str().unwrap().starts_with("https://127.0.0.1:"));
    assert_eq!(ready["fingerprint"].as_str().unwrap().len(), 64);
    assert_eq!(ready["hosts"].as_array().unwrap().len(), 2);
    assert_eq!(ready["hosts"][1]["name"], "host2");
    let address = ready["hosts"][0]["http_url"].as_str().unwrap().strip_prefix("http://").unwrap();
    assert_eq!(super::client::post(address, "/", b"<").unwrap().0, 500);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(program.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(program.wait().unwrap().success());
}

#[test]
fn a_broken_file_is_refused_with_its_line() {
    let config = file("broken.toml", &SAMPLE.replace("mtu = 1500", "mut = 1500"));
    let output = start(&config).wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    let line = SAMPLE.lines().position(|line| line == "mtu = 1500").unwrap() + 1;
    assert!(said.contains(&format!("line {line}")) && said.contains("mut"), "{said}");
}

#[test]
fn names_are_checked() {
    let cases = [
        ("", "a pool needs at least one host"),
        ("[[hosts]]\nname = 'h'\n[[hosts]]\nname = 'h'", "host \"h\": names must be unique and not empty"),
        ("[[hosts]]\nname = ''", "host \"\": names must be unique and not empty"),
        (
            "[[hosts]]\nname = 'h'\nmanagement = {network = 'n', address = '10.0.0.1/8'}",
            "host \"h\": there is no network \"n\"",
        ),
        ("[[hosts]]\nname = 'h'\n[[vms]]\nname = 'v'\naffinity = 'x'", "vm \"v\": there is no host \"x\""),
        (
            "[[hosts]]\nname = 'h'\n[[vms]]\nname = 'v'\nvifs = [{network = 'x'}]",
            "vm \"v\": there is no network \"x\"",
        ),
        (
            "[[hosts]]\nname = 'h'\n[[vms]]\nname = 'v'\ntemplate = true\nrunning = true",
            "vm \"v\": only a plain VM can run",
        ),
        (
            "[[hosts]]\nname = 'h'\n[[networks]]\nname = 'n'\n[[vms]]\nname = 'v'\nvifs = [{network = 'n'}, {network = 'n'}]",
            "vm \"v\": two VIFs have device 0",
        ),
        (
            "[[hosts]]\nname = 'h'\nfiles = [{path = 'etc/x', text = ''}]",
            "host \"h\", file etc/x: the path must be absolute",
        ),
        ("[[hosts]]\nname = 'h'\nfiles = [{path = '/x'}]", "host \"h\", file /x: give either text or source"),
        (
            "[[hosts]]\nname = 'h'\nfiles = [{path = '/x', text = '', mode = 'rw'}]",
            "host \"h\", file /x: mode is no octal number",
        ),
        (
            "[[hosts]]\nname = 'h'\n[[networks]]\nname = 'v'\nvlan = 5",
            "network \"v\": a VLAN needs a parent that is none",
        ),
        (
            "[[hosts]]\nname = 'h'\n[[networks]]\nname = 'n'\n[[networks]]\nname = 'v'\nvlan = 4095",
            "network \"v\": a VLAN's tag is one of 1 to 4094",
        ),
        (
            "[[hosts]]\nname = 'h'\n[[networks]]\nname = 'n'\n[[networks]]\nname = 'v'\nvlan = 5\nparent = 'x'",
            "network \"v\": there is no network \"x\"",
        ),
        (
            "[[hosts]]\nname = 'h'\n[[networks]]\nname = 'n'\n[[networks]]\nname = 'v'\nparent = 'n'",
            "network \"v\": a parent without vlan",
        ),
        (
            "[[hosts]]\nname = 'h'\n[[networks]]\nname = 'n'\n[[networks]]\nname = 'v'\nvlan = 5\n[[networks]]\nname = 'w'\nvlan = 5",
            "network \"w\": the tag is taken on that parent",
        ),
    ];
    for (number, (text, expected)) in cases.iter().enumerate() {
        let error = PoolConfig::load(&file(&format!("{number}.toml"), text)).unwrap_err();
        assert_eq!(error.to_string(), *expected, "{text}");
    }
}

#[test]
fn relative_paths_start_at_the_files_folder() {
    let path =
        file("relative.toml", "plugins = 'p'\n[[hosts]]\nname = 'h'\nfiles = [{path = '/x', source = 's'}]");
    let config = PoolConfig::load(&path).unwrap();
    let folder = path.parent().unwrap();
    assert_eq!(config.plugins, Some(folder.join("p")));
    assert_eq!(config.hosts[0].files[0].source, Some(folder.join("s")));
    let missing = PoolConfig::load(&folder.join("not there.toml")).unwrap_err();
    assert!(matches!(missing, ConfigError::Read { .. }));
}
