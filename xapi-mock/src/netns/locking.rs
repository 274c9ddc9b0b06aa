//! VIF locking on a Linux bridge: the steps and rules of xenopsd's `setup-vif-rules`.
//!
//! Rule for rule, weaknesses included. Two matter to whoever builds on it: a packet between two locked VIFs of one
//! host is judged by the chain that was made first, and if that is the receiver's it is accepted before the sender's
//! is asked; and `FORWARD` does not see what a guest sends to dom0 itself.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::port::{Lock, Port};
use super::process::{self, Program};
use super::space::Space;

/// Names of the VIFs that have rules in ebtables. Whoever changes those holds it.
#[derive(Debug, Default)]
pub(super) struct LockedVifs(Mutex<BTreeSet<String>>);

impl LockedVifs {
    fn hold(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the bridge and the rules what `port.lock` says.
pub(super) fn apply(dom0: &Space, vifs: &LockedVifs, port: &Port) -> io::Result<()> {
    let vif = port.vif();
    // The script takes /var/lock/ebtables.lock for the same reason.
    let mut locked = vifs.hold();
    dom0.ip(&[format!("link set dev {vif} down")])?;
    if locked.remove(&vif) {
        remove(dom0, &vif)?;
    }
    dom0.ip(&[format!("link set dev {vif} nomaster")])?;
    if port.lock != Lock::Disabled {
        dom0.ip(&[format!("link set dev {vif} master {}", port.bridge)])?;
    }
    if let Lock::Locked { ipv4, ipv6 } = &port.lock {
        locked.insert(vif.clone());
        restore(dom0, &rules(port, ipv4, ipv6))?;
    }
    dom0.ip(&[format!("link set dev {vif} up")])
}

/// Removes the rules of a VIF that goes away.
pub(super) fn clear(dom0: &Space, vifs: &LockedVifs, vif: &str) -> io::Result<()> {
    // Held until ebtables is done.
    let mut locked = vifs.hold();
    if locked.remove(vif) {
        remove(dom0, vif)?;
    }
    Ok(())
}

fn rules(port: &Port, ipv4: &[Ipv4Addr], ipv6: &[Ipv6Addr]) -> String {
    let (vif, mac) = (port.vif(), port.mac);
    let chain = format!("FORWARD_{vif}");
    let mut text = format!(
        "*filter\n:{chain} DROP\n\
         -A FORWARD -i {vif} -j {chain}\n\
         -A FORWARD -o {vif} -j {chain}\n\
         -A {chain} -o {vif} -j ACCEPT\n\
         -A {chain} -s ! {mac} -i {vif} -j DROP\n\
         -A {chain} -p IPv4 -i {vif} --ip-protocol UDP --ip-dport 67 -j ACCEPT\n"
    );
    for address in ipv4 {
        text += &format!(
            "-A {chain} -p ARP -i {vif} --arp-opcode Request --arp-ip-src {address} -j ACCEPT\n\
             -A {chain} -p ARP -i {vif} --arp-opcode Reply --arp-ip-src {address} --arp-mac-src {mac} -j ACCEPT\n\
             -A {chain} -p IPv4 -i {vif} --ip-src {address} -j ACCEPT\n"
        );
    }
    // Addresses of this family are not told apart: all of it passes or nothing.
    if !ipv6.is_empty() {
        text += &format!("-A {chain} -p IPv6 -i {vif} -j ACCEPT\n");
    }
    text
}

/// As in the script, a chain that somebody else has removed is not missed.
fn remove(dom0: &Space, vif: &str) -> io::Result<()> {
    let chain = format!("FORWARD_{vif}");
    if !dom0.program(&Program::new("ebtables-nft", &["-L", &chain]))?.status.success() {
        return Ok(());
    }
    restore(
        dom0,
        &format!(
            "*filter\n-D FORWARD -i {vif} -j {chain}\n-D FORWARD -o {vif} -j {chain}\n-F {chain}\n-X {chain}\n"
        ),
    )
}

/// Unlike the old `ebtables-restore`, the one for nftables can leave alone what its input does not name.
fn restore(dom0: &Space, text: &str) -> io::Result<()> {
    let program = Program::new("ebtables-nft-restore", &["--noflush"]).stdin(text.as_bytes());
    process::success("ebtables-nft-restore", &dom0.program(&program)?).map(drop)
}
