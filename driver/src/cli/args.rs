//! What may be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::explain::Probe;

/// Security groups for XenServer and XCP-ng, enforced in dom0.
///
/// Exit codes: 0 everything is as the policy wants it; 1 something could not be brought there, see the report; 2 nothing was
/// attempted.
#[derive(Debug, Parser)]
#[command(name = "drawbridge", version)]
pub(super) struct Arguments {
    /// How to reach XAPI and sign calls to dom0.
    #[arg(long, global = true, default_value = "/etc/drawbridge/driver.toml")]
    pub config: PathBuf,
    /// Print JSON for programs.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to log to stderr: a level, or filters like `xenapi=debug`.
    #[arg(long, global = true, default_value = "warn")]
    pub log: String,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say what would change on each host; change nothing.
    Plan {
        /// The policy file.
        #[arg(short = 'f', long, default_value = "/etc/drawbridge/policy.toml")]
        policy: PathBuf,
    },
    /// Bring every host to what the policy says, and read back that it is so.
    Apply {
        /// The policy file.
        #[arg(short = 'f', long, default_value = "/etc/drawbridge/policy.toml")]
        policy: PathBuf,
    },
    /// Say whether a packet passes, by which rule, or why not.
    Explain(Explain),
    /// What a compute driver calls when something happens to an instance or a host; returns when it is enforced.
    Hook {
        #[command(subcommand)]
        event: HookEvent,
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
    /// The host came up, or its toolstack was restarted.
    HostInit {
        /// Name or uuid of the host.
        host: String,
        /// The policy file.
        #[arg(short = 'f', long, default_value = "/etc/drawbridge/policy.toml")]
        policy: PathBuf,
    },
}

impl HookEvent {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Reboot(_) => "reboot",
            Self::Suspend(_) => "suspend",
            Self::Resume(_) => "resume",
            Self::Terminate(_) => "terminate",
            Self::Plug(_) => "plug",
            Self::Unplug(_) => "unplug",
            Self::HostInit { .. } => "host-init",
        }
    }
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
    /// The policy file.
    #[arg(short = 'f', long, default_value = "/etc/drawbridge/policy.toml")]
    pub policy: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct OnVm {
    /// Name or uuid of the VM.
    pub vm: String,
    /// The policy file.
    #[arg(short = 'f', long, default_value = "/etc/drawbridge/policy.toml")]
    pub policy: PathBuf,
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
