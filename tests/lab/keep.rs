//! `on_rule_removal = "keep"`: connections outlive their rule, new ones do not.

use std::time::Duration;

use anyhow::ensure;
use e2e::flow::Flow;
use e2e::probe::check;
use e2e::scenario::{POLICY, pool};
use e2e::station::Family;

use crate::on_both;

/// The scenario's policy with `web` (and, if asked, `db`) keeping connections.
fn keeping(db: bool) -> String {
    let keep = |text: String, id: &str| {
        text.replace(&format!("id = \"{id}\"\n"), &format!("id = \"{id}\"\non_rule_removal = \"keep\"\n"))
    };
    let text = keep(POLICY.to_owned(), "web");
    if db { keep(text, "db") } else { text }
}

/// Long enough for a cut connection to be found dead.
const DEAD: Duration = Duration::from_millis(400);
/// Long enough for one that lives to show it.
const ALIVE: Duration = Duration::from_secs(2);

on_both! {
    /// From outside: the receiver's group decides. Between two groups: both have to keep.
    fn a_kept_connection_outlives_its_rule(backend) {
        for (db_keeps, name) in [(true, "both groups keep"), (false, "only the sender's group keeps")] {
            let before = keeping(db_keeps);
            let lab = pool(backend).policy(&before).start()?;
            lab.apply()?.success()?;
            let (web, db, outside) = (lab.guest("web1")?, lab.guest("db")?, lab.outside());
            let mut flows = Vec::new();
            for family in Family::BOTH {
                flows.push((
                    Flow::start(&outside.tcp(&web, 80, family))?,
                    Flow::start(&web.tcp(&db, 5432, family))?,
                ));
            }
            let after = before.replace("ports = 80\n", "ports = 81\n").replace("ports = 5432", "ports = 5433");
            ensure!(after != before, "the scenario's policy has changed its form");
            lab.set_policy(&after)?;
            lab.apply()?.success()?;
            // Another epoch, from somebody else's change, does not concern them either.
            lab.set_policy(&after.replace("ports = 5433", "ports = 5434"))?;
            lab.apply()?.success()?;
            for (from_outside, between) in flows {
                ensure!(from_outside.alive(ALIVE), "{name}: the connection from outside was cut");
                let wait = if db_keeps { ALIVE } else { DEAD };
                ensure!(between.alive(wait) == db_keeps, "{name}: the connection between them was not as it should");
                // A probe takes whatever arrives at its port for its own.
                from_outside.stop()?;
                between.stop()?;
            }
            for family in Family::BOTH {
                check([outside.tcp(&web, 80, family).blocked(), web.tcp(&db, 5432, family).blocked()]);
            }
        }
    }
}
