//! What happens, step by step.

use anyhow::Result;
use e2e::lab::{Backend, Lab};
use e2e::probe::{Expectation, Expected};
use e2e::scenario::{dom0_boots, expectations};
use e2e::station::Family;

/// Who takes part.
pub(crate) fn cast(backend: Backend) -> String {
    let enforcer = match backend {
        Backend::Nft | Backend::Legacy => "the real iptables",
        Backend::OpenVSwitch => "a real Open vSwitch",
    };
    format!("Two hosts, one network, and a mock XAPI in front of the real plugin and {enforcer}:\n{CAST}")
}

const CAST: &str = "

  outside        a machine that is no guest of the pool
  web1, host1    group web: TCP 80 and ping from everybody; may reach everybody
  web2, host2    group web, too
  db,   host1    group db: TCP 5432 from members of web; may reach nobody
  plain, host2   not in the policy: left alone

The policy is tests/src/scenario/policy.toml. Every probe is a real packet.
";

/// One step of the walk.
pub(crate) struct Step {
    /// Short, for the table.
    pub(crate) name: &'static str,
    /// Makes it happen.
    pub(crate) act: fn(&Lab) -> Result<Scene>,
}

/// How things stand after a step.
pub(crate) struct Scene {
    /// What happened, for people.
    pub(crate) what: String,
    /// Interfaces that are gone from these hosts: no rule may speak of them.
    pub(crate) gone: Vec<(&'static str, String)>,
    /// What must hold for packets.
    pub(crate) probes: Vec<Expectation>,
}

/// The walk.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "before", act: before },
    Step { name: "apply", act: apply },
    Step { name: "create", act: create },
    Step { name: "reboot", act: reboot },
    Step { name: "suspend", act: suspend },
    Step { name: "resume", act: resume },
    Step { name: "terminate", act: terminate },
    Step { name: "host boots", act: host_boots },
];

fn scene(lab: &Lab, what: String, gone: Vec<(&'static str, String)>) -> Result<Scene> {
    let mut probes = expectations(lab)?;
    // web2 does the same as web1; that it reaches the database from another host is worth a line.
    probes.retain(|one| {
        let (from, to) = (one.probe.from.name.as_str(), one.probe.to.name.as_str());
        to != "web2" && (from != "web2" || one.expected == Expected::Passes && to == "db")
    });
    Ok(Scene { what, gone, probes })
}

fn before(lab: &Lab) -> Result<Scene> {
    let mut scene = scene(lab, "no rules yet: everything passes".to_owned(), Vec::new())?;
    for probe in &mut scene.probes {
        probe.expected = Expected::Passes;
    }
    Ok(scene)
}

fn apply(lab: &Lab) -> Result<Scene> {
    lab.apply()?.success()?;
    scene(lab, "drawbridge apply".to_owned(), Vec::new())
}

fn create(lab: &Lab) -> Result<Scene> {
    lab.hard_shutdown("db")?;
    lab.hook("terminate", "db")?.success()?;
    lab.start("db", true)?;
    lab.hook("create", "db")?.success()?;
    lab.unpause("db")?;
    scene(lab, "db: started paused, hook create, unpaused".to_owned(), Vec::new())
}

fn reboot(lab: &Lab) -> Result<Scene> {
    let old = lab.vif_names("web1")?.concat();
    lab.clean_reboot("web1")?;
    lab.hook("reboot", "web1")?.success()?;
    let new = lab.vif_names("web1")?.concat();
    scene(lab, format!("web1: {old} became {new}, hook reboot"), vec![("host1", old)])
}

fn suspend(lab: &Lab) -> Result<Scene> {
    let old = lab.vif_names("web1")?.concat();
    lab.suspend("web1")?;
    lab.hook("suspend", "web1")?.success()?;
    scene(lab, format!("web1: {old} is gone, hook suspend"), vec![("host1", old)])
}

fn resume(lab: &Lab) -> Result<Scene> {
    lab.resume("web1", true)?;
    lab.hook("resume", "web1")?.success()?;
    lab.unpause("web1")?;
    let new = lab.vif_names("web1")?.concat();
    scene(lab, format!("web1: back as {new}, hook resume, unpaused"), Vec::new())
}

fn terminate(lab: &Lab) -> Result<Scene> {
    let old = lab.vif_names("web2")?.concat();
    lab.hard_shutdown("web2")?;
    lab.hook("terminate", "web2")?.success()?;
    let mut scene =
        scene(lab, "web2: shut down; `thief` takes its address".to_owned(), vec![("host2", old)])?;
    let (thief, db) = (lab.add_station("thief", 13)?, lab.guest("db")?);
    scene.probes.extend(Family::BOTH.map(|family| thief.tcp(&db, 5432, family).blocked()));
    Ok(scene)
}

fn host_boots(lab: &Lab) -> Result<Scene> {
    dom0_boots(lab, "host1")?;
    lab.hook("host-init", "host1")?.success()?;
    scene(lab, "host1: all our rules were lost, hook host-init".to_owned(), Vec::new())
}
