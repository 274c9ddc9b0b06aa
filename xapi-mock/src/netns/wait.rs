//! Waiting for what a kernel or a program does by itself, a moment later.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Nobody tells when it is so: it is looked again and again, at next to no cost to who is waited for.
const PAUSE: Duration = Duration::from_millis(1);

/// Looks until it is so.
///
/// # Errors
/// Of the look; `TimedOut` with `complaint` if it is not so in time.
pub(super) fn until(
    patience: Duration,
    complaint: impl Into<String>,
    mut is_so: impl FnMut() -> io::Result<bool>,
) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    while !is_so()? {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, complaint.into()));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_so_at_last_is_waited_for_and_what_fails_or_never_is_says_so() {
        let mut looks = 0;
        until(Duration::from_secs(60), "late", || {
            looks += 1;
            Ok(looks == 3)
        })
        .unwrap();
        let late = until(Duration::ZERO, "late", || Ok(false)).unwrap_err();
        assert_eq!((late.kind(), late.to_string().as_str()), (io::ErrorKind::TimedOut, "late"));
        let failed =
            until(Duration::from_secs(60), "late", || Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::NotFound);
    }
}
