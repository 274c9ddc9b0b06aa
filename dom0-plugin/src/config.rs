//! `/etc/drawbridge/dom0.toml`: a strict subset of TOML, `key = number`, `#` comments, nothing else.

use std::path::Path;
use std::time::Duration;

use drawbridge_wire::limits;

use crate::{Code, Refusal, Result, trusted};

/// The settings. A file that is absent, or a key that is, means the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// `time_window_seconds`: how far a call's time may differ from dom0's clock.
    pub(crate) time_window: u64,
    /// `program_seconds`: how long a program may run before it is killed.
    pub(crate) program: Duration,
    /// `lock_seconds`: how long to wait for another write, and for the xtables lock.
    pub(crate) lock: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            time_window: limits::TIME_WINDOW_SECONDS,
            program: Duration::from_secs(30),
            lock: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Reads the file.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let Some(text) = trusted::read(path)? else { return Ok(Self::default()) };
        Self::parse(&text).map_err(|(line, problem)| {
            Refusal::new(Code::BadConfig)
                .detail(path.display())
                .detail(format!("line {line}"))
                .detail(problem)
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut config = Self::default();
        let mut seen = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let fail = |problem: String| (at + 1, problem);
            // No value holds a `#`, so the first one starts a comment.
            let line = line.split('#').next().unwrap_or_default().trim_ascii();
            if line.is_empty() {
                continue;
            }
            let (key, value) =
                line.split_once('=').ok_or_else(|| fail("expected `key = number`".to_owned()))?;
            let (key, value) = (key.trim_ascii(), value.trim_ascii());
            if seen.contains(&key) {
                return Err(fail(format!("{key} stands twice")));
            }
            seen.push(key);
            let within = |low: u64, high: u64| match value.parse::<u64>() {
                Ok(number) if (low..=high).contains(&number) => Ok(number),
                _ => Err(fail(format!("{key}: expected a number from {low} to {high}"))),
            };
            match key {
                "time_window_seconds" => config.time_window = within(1, 3600)?,
                "program_seconds" => config.program = Duration::from_secs(within(1, 600)?),
                "lock_seconds" => config.lock = Duration::from_secs(within(1, 600)?),
                _ => return Err(fail(format!("unknown key {key}"))),
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        assert_eq!(Config::parse(""), Ok(Config::default()));
        let text = "# drawbridge\n\ntime_window_seconds = 5 # tight\nprogram_seconds=7\n lock_seconds = 9\n";
        let expected =
            Config { time_window: 5, program: Duration::from_secs(7), lock: Duration::from_secs(9) };
        assert_eq!(Config::parse(text), Ok(expected));
    }

    /// The sample says what holds without it.
    #[test]
    fn the_sample() {
        let sample = include_str!("../../packaging/dom0/dom0.toml");
        assert_eq!(Config::parse(sample), Ok(Config::default()));
        assert_eq!(sample.lines().filter(|line| line.contains(" = ")).count(), 3);
    }

    #[test]
    fn refused() {
        for (text, line) in [
            ("time_window_seconds = 0", 1),
            ("\ntime_window_seconds = 3601", 2),
            ("time_window_seconds = \"5\"", 1),
            ("time_window_seconds = -5", 1),
            ("time_window_seconds =", 1),
            ("time_window_seconds", 1),
            ("time_window_seconds = 5\ntime_window_seconds = 5", 2),
            ("[auth]\n", 1),
            ("window = 5", 1),
            ("program_seconds = 5 7", 1),
        ] {
            assert_eq!(Config::parse(text).map_err(|(at, _)| at), Err(line), "{text}");
        }
    }
}
