//! What a process takes of the machine, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// Of one process, all of its threads.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time so far, in steps of the kernel's clock tick (mostly 10 ms).
    pub processor: Duration,
    /// Memory it has now, KiB.
    pub memory: u64,
    /// The most it ever had, KiB.
    pub peak: u64,
}

impl Usage {
    /// As of now.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            value.with_context(|| format!("no {name} in /proc/{pid}/status"))
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The program's name, in parentheses, may hold anything; user and system time are the 14th and 15th field.
        let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        let a_second = sysconf(SysconfVar::CLK_TCK)?.context("the clock has no ticks")?;
        let processor = Duration::from_millis(ticks * 1000 / u64::try_from(a_second)?);
        Ok(Self { processor, memory: kib("VmRSS")?, peak: kib("VmHWM")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_time_are_counted() {
        let pid = std::process::id();
        let before = Usage::of(pid).unwrap();
        let taken = vec![1_u8; 64 << 20];
        while Usage::of(pid).unwrap().processor == before.processor {}
        let after = Usage::of(pid).unwrap();
        assert!(after.memory > before.memory + 60 * 1024, "{before:?} {after:?}");
        drop(std::hint::black_box(taken));
        assert!(after.peak >= after.memory);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
