//! Invariants of docs/architecture.md that are about what code may exist where.

use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Invariant 1: the crate that decides cannot do I/O, because nothing it depends on can.
#[test]
fn ruleset_depends_on_no_io_crate() {
    #[expect(clippy::disallowed_methods, reason = "asks cargo for the tree")]
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "ruleset", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let agreed = [
        "hmac-sha256",
        "ipnet",
        "itoa",
        "memchr",
        "serde_json",
        "zmij",
        "proc-macro2",
        "quote",
        "ruleset",
        "serde",
        "serde_core",
        "serde_derive",
        "shell-words",
        "similar",
        "syn",
        "thiserror",
        "thiserror-impl",
        "unicode-ident",
    ];
    for package in tree.lines().filter_map(|line| line.split(' ').next()) {
        assert!(agreed.contains(&package), "ruleset has come to depend on {package}");
    }
}

/// Invariant 1, the other half: it does not use the standard library's I/O either.
#[test]
fn ruleset_uses_no_io_of_the_standard_library() {
    for (path, text) in sources(&workspace().join("driver/ruleset/src")) {
        for word in [
            "std::fs",
            "std::net::Tcp",
            "std::net::Udp",
            "std::process",
            "std::env",
            "std::time::SystemTime",
            "std::io",
        ] {
            assert!(!text.contains(word), "{} uses {word}", path.display());
        }
    }
}

/// Invariant 2: clippy refuses `Command::new` everywhere; these are the places that may.
#[test]
fn programs_are_started_in_these_places_only() {
    let may = [
        "dom0-plugin/src/exec.rs",
        "xapi-mock/src/netns/process.rs",
        "xapi-mock/src/plain.rs",
        "tests/src/process.rs",
    ];
    for crate_folder in [
        "dom0-plugin",
        "dom0-plugin/wire",
        "driver",
        "driver/api",
        "driver/ruleset",
        "driver/store",
        "driver/xenapi",
        "xapi-mock",
        "tests",
    ] {
        for (path, text) in sources(&workspace().join(crate_folder).join("src")) {
            // What tests start does not count.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            if code.contains("disallowed_methods") && !path.ends_with("tests.rs") {
                assert!(may.iter().any(|place| path.ends_with(place)), "{} starts programs", path.display());
            }
        }
    }
}

/// Invariant 6: what becomes of a packet that nothing admits is said in one place.
#[test]
fn the_default_verdict_stands_once() {
    let said: Vec<PathBuf> = sources(&workspace().join("driver/ruleset/src"))
        .into_iter()
        .filter(|(_, text)| text.contains("DEFAULT_VERDICT: model::Action ="))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
}

/// All Rust files below a folder, with their text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect(folder, &mut found).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    assert!(!found.is_empty(), "no sources under {}", folder.display());
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path)?;
            found.push((path, text));
        }
    }
    Ok(())
}
