//! Clocks of a driver and a dom0 that differ. The program `clock-off` does it.

use anyhow::Result;

use super::Lab;
use super::builder::built;

/// Where XAPI looks for the plugin.
const CALLED: &str = "/etc/xapi.d/plugins/drawbridge";
/// Where the real one is meanwhile.
pub const PLUGIN: &str = "/etc/drawbridge/plugin";
/// The driver's key.
pub const KEY: &str = "/etc/drawbridge/driver.key";
/// By how many seconds the driver's clock is ahead of dom0's.
pub const OFF: &str = "/etc/drawbridge/clock-off";

impl Lab {
    /// The clocks of whoever calls this host's plugin, and of its dom0, may differ from now on.
    ///
    /// # Errors
    /// No such host, or it has no plugin.
    pub fn loosen_clock(&self, host: &str) -> Result<()> {
        self.set_clock_off(host, 0)?;
        let dom0 = self.host(host)?;
        dom0.write(PLUGIN, 0o755, &dom0.read(CALLED)?)?;
        dom0.write(KEY, 0o600, &std::fs::read(self.private_key())?)?;
        Ok(dom0.write(CALLED, 0o755, &std::fs::read(built("clock-off")?)?)?)
    }

    /// The caller's clock is so many seconds ahead of dom0's; less than 0, behind.
    ///
    /// # Errors
    /// No such host.
    pub fn set_clock_off(&self, host: &str, seconds: i64) -> Result<()> {
        Ok(self.host(host)?.write(OFF, 0o600, seconds.to_string().as_bytes())?)
    }
}
