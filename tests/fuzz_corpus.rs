//! The fuzz targets' corpus, replayed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use e2e::fuzz::{LAWS, Law};

/// The folder's files hold the law. Each folder has some that are taken and some that are refused: where everything is
/// refused a law says nothing.
fn replay(target: &str, law: Law) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let (mut taken, mut refused) = (0, 0);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        match catch_unwind(|| law(&bytes)) {
            Ok(true) => taken += 1,
            Ok(false) => refused += 1,
            Err(_) => panic!("{}: breaks the law", path.display()),
        }
    }
    assert!(taken > 0 && refused > 0, "{target}: {taken} taken, {refused} refused");
}

#[test]
fn corpus() {
    for (target, law) in LAWS {
        replay(target, law);
    }
}

/// No target without a law, no law without a target.
#[test]
fn every_law_is_a_target() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let targets = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
    let targets: BTreeSet<&str> = targets.filter_map(|path| path.strip_suffix(".rs\"")).collect();
    assert_eq!(targets, LAWS.iter().map(|(name, _)| *name).collect());
}
