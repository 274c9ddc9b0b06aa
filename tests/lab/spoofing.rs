//! A guest speaks for itself only, and is no server of what the network's owner provides.

use e2e::probe::check;
use e2e::scenario::{pool, spoofing};

use crate::on_each;

on_each! {
    /// To a guest of the same host, to one elsewhere, and to the world outside.
    fn a_guest_speaks_for_itself_only(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        let web = lab.guest("web1")?;
        check(spoofing(&web, lab.outside()));
        check(spoofing(&web, &lab.guest("plain")?));
    }
}
