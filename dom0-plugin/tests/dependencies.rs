//! What runs as root in dom0 is a list that somebody agreed to.

use std::collections::BTreeSet;

const AGREED: [&str; 11] = [
    "adler2",
    "base64",
    "dom0-plugin",
    "drawbridge-wire",
    "ed25519-compact",
    "hmac-sha256",
    "libc",
    "memchr",
    "miniz_oxide",
    "quick-xml",
    "shell-words",
];

#[test]
fn the_tree_is_the_agreed_one() {
    #[expect(clippy::disallowed_methods, reason = "asks cargo for the tree")]
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-p",
            "dom0-plugin",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let found: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(found, BTreeSet::from(AGREED));
}
