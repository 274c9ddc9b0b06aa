//! What the daemon counts, for Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Engine;

/// A host, told apart by its uuid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHost {
    host: String,
    uuid: String,
}

type Number = Gauge<u64, AtomicU64>;

/// Prometheus' text format, as things are now.
pub(super) fn text(engine: &Engine) -> String {
    let mut registry = Registry::with_prefix("drawbridge");
    of_the_daemon(engine, &mut registry);
    of_the_hosts(engine, &mut registry);
    let mut text = String::new();
    // A string takes everything.
    match encode(&mut text, &registry) {
        Ok(()) => text,
        Err(error) => format!("# {error}\n"),
    }
}

fn of_the_daemon(engine: &Engine, registry: &mut Registry) {
    let mut tell = |name: &str, help: &str, value: u64| {
        let number = Number::default();
        number.set(value);
        registry.register(name, help, number);
    };
    let plan = engine.plans.borrow().clone();
    let problems = plan.as_ref().map_or(0, |plan| plan.problems.len());
    tell("plan_number", "Plans made since the daemon started", plan.as_ref().map_or(0, |plan| plan.number));
    tell(
        "plan_generation",
        "Generation of the store the newest plan was made from",
        plan.map_or(0, |plan| plan.generation),
    );
    tell(
        "problems",
        "Ports and networks of the store that fit nothing in the pool",
        u64::try_from(problems).unwrap_or(u64::MAX),
    );
    tell("xapi_up", "Whether XAPI can be asked", u64::from(engine.xapi.borrow().is_none()));
    tell("store_up", "Whether the store can save", u64::from(engine.store.trouble().is_none()));
    tell("active", "Whether this driver writes to the pool", u64::from(engine.duty.borrow().is_active()));
}

fn of_the_hosts(engine: &Engine, registry: &mut Registry) {
    let enforced = Family::<OfHost, Number>::default();
    let failing = Family::<OfHost, Number>::default();
    let ports = Family::<OfHost, Number>::default();
    let closed = Family::<OfHost, Number>::default();
    let reconciles = Family::<OfHost, Counter>::default();
    let writes = Family::<OfHost, Counter>::default();
    let drifts = Family::<OfHost, Counter>::default();
    let tracked = Family::<OfHost, Number>::default();
    let most_tracked = Family::<OfHost, Number>::default();
    for worker in engine.hosts.all().values() {
        let (task, health) = (worker.task(), worker.health());
        let host = OfHost { host: task.name, uuid: task.uuid };
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        enforced.get_or_create(&host).set(health.enforced.map_or(0, |enforced| enforced.generation));
        failing.get_or_create(&host).set(health.failing.map_or(0, |failing| failing.times.into()));
        ports.get_or_create(&host).set(count(task.wanted.policy.attachments.len()));
        closed.get_or_create(&host).set(count(health.quarantined.len()));
        reconciles.get_or_create(&host).inc_by(health.attempts);
        writes.get_or_create(&host).inc_by(health.writes);
        drifts.get_or_create(&host).inc_by(health.drifts);
        if let Some(fill) = health.conntrack {
            tracked.get_or_create(&host).set(fill.tracked);
            most_tracked.get_or_create(&host).set(fill.most);
        }
    }
    registry.register(
        "host_generation",
        "Generation of the store that stands on the host; 0 if none does",
        enforced,
    );
    registry.register(
        "host_failing",
        "How often in a row the host could not be brought to its plan",
        failing,
    );
    registry.register("host_ports", "Guests' ports on the host", ports);
    registry.register(
        "host_ports_closed",
        "Ports that are closed: dom0 refuses their rules, or the switch does not have them",
        closed,
    );
    registry.register("host_conntrack_entries", "Connections that dom0 tracks, its own and guests'", tracked);
    registry.register(
        "host_conntrack_max",
        "Connections that dom0 can track; where they come near it, neither guests nor dom0 can begin new ones",
        most_tracked,
    );
    registry.register("host_reconciles", "Reads and comparisons of the host", reconciles);
    registry.register("host_writes", "Reconciles that wrote", writes);
    registry.register("host_drifts", "Times another hand's changes were repaired", drifts);
}
