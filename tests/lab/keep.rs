//! `on_rule_removal = "keep"`: connections outlive their rule, new ones do not.

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
                ensure!(from_outside.lives(), "{name}: the connection from outside was cut");
                let as_it_should = if db_keeps { between.lives() } else { between.is_cut() };
                ensure!(as_it_should, "{name}: the connection between them was not as it should");
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
