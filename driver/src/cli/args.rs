//! What may be typed, from the top. What a noun takes stands beside it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::daemon::DaemonArguments;
use super::{group, host, network, port, project, provider_rule, rule, set};
use crate::explain::Probe;

/// Where help puts the options that every command has.
pub(super) const EVERYWHERE: &str = "Options of every command";

/// Security groups for XenServer and XCP-ng, enforced in dom0.
///
/// The configuration file says which way a command goes. With [store] in it there is a daemon, `drawbridge serve`, that keeps
/// what should hold and sees to it: every command is a call of its API. Without [store] there is none: `plan`, `apply`, `explain`
/// and `hook` read a policy file and do the work themselves.
///
/// Exit codes: 0 done, and everything is as it should be; 1 refused, or something could not be brought there: it says what;
/// 2 nothing was attempted: usage, configuration, policy, a VM or host that the pool does not have, or nobody to ask.
#[derive(Debug, Parser)]
#[command(name = "drawbridge", version)]
pub(super) struct Arguments {
    /// How to reach XAPI and sign calls to dom0, and whether there is a daemon.
    #[arg(long, global = true, help_heading = EVERYWHERE, default_value = "/etc/drawbridge/driver.toml")]
    pub config: PathBuf,
    /// Print JSON for programs.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
    /// What to log to stderr: a level, or filters like `xenapi=debug`.
    #[arg(long, global = true, help_heading = EVERYWHERE, default_value = "warn")]
    pub log: String,
    #[command(flatten)]
    pub daemon: DaemonArguments,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say what would change; change nothing.
    ///
    /// With a daemon: what the file would change in the store. Without: what would change on each host.
    Plan(Policy),
    /// Make what the policy file says hold.
    ///
    /// With a daemon: bring the store to it, in one transaction; the daemon brings the hosts there. Without: bring every host there,
    /// and read back that it is so.
    Apply(Policy),
    /// Print the store as a policy file.
    Export,
    /// Say whether a packet passes, by which rule, or why not.
    Explain(Explain),
    /// What a compute driver calls when something happens to an instance or a host; returns when it is enforced.
    Hook {
        #[command(subcommand)]
        event: HookEvent,
    },
    /// How everything stands: a verdict, the hosts, the ports in trouble.
    Status,
    /// The same, told anew whenever it changes.
    Watch {
        /// End after telling it so often.
        #[arg(long)]
        count: Option<u64>,
    },
    /// Projects (tenants).
    #[command(subcommand)]
    Project(project::Command),
    /// Security groups.
    #[command(subcommand)]
    Group(group::Command),
    /// The rules of groups.
    #[command(subcommand)]
    Rule(rule::Command),
    /// Address sets, for rules to refer to.
    #[command(subcommand)]
    Set(set::Command),
    /// Ports: one VIF each, with its addresses and groups.
    #[command(subcommand)]
    Port(port::Command),
    /// The operator's rules, for every port, before the groups' rules.
    #[command(subcommand)]
    ProviderRule(provider_rule::Command),
    /// Guarded networks: a VIF without rules passes nothing there.
    #[command(subcommand)]
    Network(network::Command),
    /// The pool's hosts, as the daemon sees them.
    #[command(subcommand)]
    Host(host::Command),
    /// Look again at the hosts that a group concerns, and at no others.
    Refresh {
        /// Hosts with ports of the group, or hosts whose rules name its members.
        #[arg(value_enum)]
        what: Refresh,
        /// Id or name.
        group: String,
    },
    /// Say that the store is what should be: what it does not hold may be taken away from hosts.
    Adopt,
    /// Who did what to the store, when, from where.
    Audit {
        /// Begin behind this generation.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// At most so many lines, up to 10,000.
        #[arg(long, default_value_t = 1000)]
        limit: u32,
    },
    /// Run as a daemon: keep every host as the store says.
    Serve,
    /// Make the key pair that dom0 knows the driver by; prints the line for dom0's authorized_keys.
    Keygen {
        /// Where to write the private key; must not exist.
        #[arg(long, default_value = "/etc/drawbridge/driver.key")]
        out: PathBuf,
    },
    /// Make one signed call of the plugin by hand, to look for a fault.
    Call(ManualCall),
    /// Print what a shell needs to complete this program's arguments.
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages into a folder.
    Man {
        /// It has to exist.
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Policy {
    /// The policy file.
    #[arg(short = 'f', long = "policy", default_value = "/etc/drawbridge/policy.toml")]
    pub file: PathBuf,
    /// With a daemon: remove from the store whatever the file does not name.
    #[arg(long)]
    pub prune: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum HookEvent {
    /// The VM was started paused; unpause it when this returns.
    Create(OnVm),
    /// The VM was rebooted: it has a new domain.
    Reboot(OnVm),
    /// The VM was suspended.
    Suspend(OnVm),
    /// The VM was resumed paused; unpause it when this returns.
    Resume(OnVm),
    /// The VM was shut down or destroyed.
    Terminate(OnVm),
    /// A VIF was plugged into the running VM.
    Plug(OnVm),
    /// A VIF was unplugged from the running VM.
    Unplug(OnVm),
    /// The VM is about to migrate; begin when this returns.
    PreMigrate {
        #[command(flatten)]
        on: OnVm,
        /// Name or uuid of the destination.
        host: String,
    },
    /// The VM has migrated, or stays for good.
    PostMigrate(OnVm),
    /// The host came up, or its toolstack was restarted.
    HostInit {
        /// Name or uuid of the host.
        host: String,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Debug, Args)]
pub(super) struct OnVm {
    /// Name or uuid of the VM.
    pub vm: String,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
pub(super) struct How {
    /// Without a daemon: the policy file, /etc/drawbridge/policy.toml if not given.
    #[arg(short = 'f', long)]
    pub policy: Option<PathBuf>,
    /// With a daemon: longest time to wait, in seconds; 30 if not given. The work goes on after it.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub deadline: Option<u16>,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The sender: a VM (name or uuid, `#N` for its VIF of device N), or an address.
    #[arg(long)]
    pub from: String,
    /// The receiver.
    #[arg(long)]
    pub to: String,
    /// The packet: tcp/22, udp/53, icmp, icmp/3/4, gre, 47.
    pub packet: Probe,
    /// Ask the hosts' installed rules, too, and say whether they agree with the policy.
    #[arg(long)]
    pub live: bool,
    /// The policy file; if not given, what the daemon's store says, without a daemon /etc/drawbridge/policy.toml.
    #[arg(short = 'f', long)]
    pub policy: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Refresh {
    /// The group's rules changed: hosts with its ports.
    Rules,
    /// The group's members changed: hosts whose rules name them.
    Members,
}

#[derive(Debug, Args)]
pub(super) struct ManualCall {
    /// Name or uuid of the host.
    pub host: String,
    /// iptables-save, iptables-restore, ovs-ofctl or ovs-vsctl.
    pub function: String,
    /// Address family of an iptables call.
    #[arg(long, value_enum, default_value_t = FamilyArgument::Ipv4)]
    pub family: FamilyArgument,
    /// Send what stands on stdin to the program.
    #[arg(long)]
    pub stdin: bool,
    /// Arguments of the program, after `--`.
    #[arg(last = true)]
    pub args: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum FamilyArgument {
    Ipv4,
    Ipv6,
}

#[cfg(test)]
mod tests;
