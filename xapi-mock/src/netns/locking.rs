//! VIF locking on a Linux bridge: the steps and rules of xenopsd's `setup-vif-rules`.
//!
//! Rule for rule, weaknesses included. Two matter to whoever builds on it: a packet between two locked VIFs of one
//! host is judged by the chain that was made first, and if that is the receiver's it is accepted before the sender's
//! is asked; and `FORWARD` does not see what a guest sends to dom0 itself.

use std::io;

use super::host::Host;
use super::port::{Lock, Port};
use super::process::{self, Program};

/// Makes the bridge and the rules what `port.lock` says.
pub(super) fn apply(host: &Host, port: &Port) -> io::Result<()> {
    let vif = port.vif();
    // The script takes /var/lock/ebtables.lock for the same reason.
    let mut locked = host.locked_vifs();
    host.space.ip(&[format!("link set dev {vif} down")])?;
    if locked.remove(&vif) {
        remove(host, &vif)?;
    }
    host.space.ip(&[format!("link set dev {vif} nomaster")])?;
    if port.lock != Lock::Disabled {
        host.space.ip(&[format!("link set dev {vif} master {}", port.bridge)])?;
    }
    if let Lock::Locked { ipv4, ipv6 } = &port.lock {
        locked.insert(vif.clone());
        restore(host, &rules(port, ipv4, *ipv6))?;
    }
    host.space.ip(&[format!("link set dev {vif} up")])
}

/// Removes the rules of a VIF that goes away.
pub(super) fn clear(host: &Host, vif: &str) -> io::Result<()> {
    // Held until ebtables is done.
    let mut locked = host.locked_vifs();
    if locked.remove(vif) {
        remove(host, vif)?;
    }
    Ok(())
}

fn rules(port: &Port, ipv4: &[std::net::Ipv4Addr], ipv6: bool) -> String {
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
    if ipv6 {
        text += &format!("-A {chain} -p IPv6 -i {vif} -j ACCEPT\n");
    }
    text
}

/// As in the script, a chain that somebody else has removed is not missed.
fn remove(host: &Host, vif: &str) -> io::Result<()> {
    let chain = format!("FORWARD_{vif}");
    if !host.space.program(&Program::new("ebtables-nft", &["-L", &chain]))?.status.success() {
        return Ok(());
    }
    restore(
        host,
        &format!(
            "*filter\n-D FORWARD -i {vif} -j {chain}\n-D FORWARD -o {vif} -j {chain}\n-F {chain}\n-X {chain}\n"
        ),
    )
}

/// Unlike the old `ebtables-restore`, the one for nftables can leave alone what its input does not name.
fn restore(host: &Host, text: &str) -> io::Result<()> {
    let program = Program::new("ebtables-nft-restore", &["--noflush"]).stdin(text.as_bytes());
    process::success("ebtables-nft-restore", &host.space.program(&program)?).map(drop)
}
