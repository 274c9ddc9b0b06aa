//! Random lives of a pool with random traps: at rest the cache is what a full read says, and what was told to have
//! changed is all that did.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use xapi_mock::faults::{EventTrap, Fault};
use xenapi::{Before, Class, Ref, Table, Vm};

use crate::*;

/// Something done to the pool. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Act {
    Start(usize),
    Reboot(usize),
    Shutdown(usize),
    Migrate(usize, usize),
    Destroy(usize),
    AddVif(usize),
    RemoveVif(usize),
    Describe(usize, u8),
    Guard(usize, u8),
    Trap(EventTrap),
    DropSessions,
    RestartToolstack,
    NewMaster(usize),
    /// The count goes back, and as after a real restore no session is left.
    Restore(u64),
    CutEvents,
    GuestReboots(usize),
    HostReboots(usize),
    /// Turns the watch makes in between.
    Look,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let any = || any::<prop::sample::Index>().prop_map(|index| index.index(64));
    let trap = prop::sample::select(
        &[EventTrap::DropDeletions, EventTrap::Duplicate, EventTrap::Reverse, EventTrap::TokenBack][..],
    );
    let act = prop_oneof![
        3 => any().prop_map(Act::Start),
        1 => any().prop_map(Act::Reboot),
        1 => any().prop_map(Act::Shutdown),
        2 => (any(), any()).prop_map(|(vm, host)| Act::Migrate(vm, host)),
        2 => any().prop_map(Act::Destroy),
        2 => any().prop_map(Act::AddVif),
        3 => any().prop_map(Act::RemoveVif),
        2 => (any(), 0..3u8).prop_map(|(vm, value)| Act::Describe(vm, value)),
        1 => (any(), 0..3u8).prop_map(|(network, value)| Act::Guard(network, value)),
        4 => trap.prop_map(Act::Trap),
        1 => Just(Act::DropSessions),
        1 => Just(Act::RestartToolstack),
        1 => any().prop_map(Act::NewMaster),
        1 => (1..60u64).prop_map(Act::Restore),
        1 => Just(Act::CutEvents),
        1 => any().prop_map(Act::GuestReboots),
        1 => any().prop_map(Act::HostReboots),
        8 => Just(Act::Look),
    ];
    prop::collection::vec(act, 1..30)
}

/// What a reader knows who is told of changes only.
#[derive(Default)]
struct Told(Cache);

impl Told {
    fn hear(&mut self, changed: Changed, now: &Cache) -> Result<(), TestCaseError> {
        hear(&mut self.0.hosts, changed.hosts, &now.hosts)?;
        hear(&mut self.0.networks, changed.networks, &now.networks)?;
        hear(&mut self.0.pifs, changed.pifs, &now.pifs)?;
        hear(&mut self.0.pools, changed.pools, &now.pools)?;
        hear(&mut self.0.vifs, changed.vifs, &now.vifs)?;
        hear(&mut self.0.vms, changed.vms, &now.vms)?;
        prop_assert_eq!(&self.0, now, "changed and not told");
        Ok(())
    }
}

fn hear<R: Class + Clone + PartialEq + std::fmt::Debug>(
    known: &mut Table<R>,
    changed: Before<R>,
    now: &Table<R>,
) -> Result<(), TestCaseError> {
    for (object, before) in changed {
        prop_assert_eq!(known.get(&object), before.as_ref(), "what was before");
        prop_assert_ne!(now.get(&object), before.as_ref(), "told and not changed");
        match now.get(&object) {
            Some(record) => known.insert(object, record.clone()),
            None => known.remove(&object),
        };
    }
    Ok(())
}

/// Does it; what XAPI refuses is not done.
async fn act(mock: &Mock, client: &Client, act: &Act) {
    let vms: Vec<_> = client.vms().await.unwrap().into_iter().filter(|(_, vm)| vm.is_guest()).collect();
    let chosen = |n: usize| vms.get(n % vms.len().max(1)).map(|(object, vm)| (object.clone(), vm.clone()));
    let vm = |n: usize| chosen(n).map_or_else(Ref::<Vm>::null, |(object, _)| object);
    let host = |n: usize| ["host1", "host2"][n % 2];
    let refused = match act {
        Act::Start(n) => client.start(&vm(*n), n % 2 == 0).await.err(),
        Act::Reboot(n) => client.hard_reboot(&vm(*n)).await.err(),
        Act::Shutdown(n) => client.hard_shutdown(&vm(*n)).await.err(),
        Act::Migrate(n, to) => {
            let hosts = client.hosts().await.unwrap();
            client.pool_migrate(&vm(*n), hosts.keys().nth(to % 2).unwrap()).await.err()
        }
        Act::Destroy(n) => client.destroy(&vm(*n)).await.err(),
        Act::AddVif(n) => {
            let network = client.networks().await.unwrap().into_keys().next().unwrap();
            let device = n.to_string();
            let fields = [("device", device.as_str()), ("network", network.as_str())];
            let mac = format!("02:00:00:00:00:{n:02x}");
            let more = [("VM", vm(*n).as_str().to_owned()), ("MAC", mac)];
            let members = fields.map(|(name, value)| (name, value.to_owned())).into_iter().chain(more);
            let members = members.map(|(name, value)| (name.to_owned(), value.into())).collect();
            let record = drawbridge_wire::xmlrpc::Value::Struct(members);
            client.call("VIF.create", vec![record]).await.err()
        }
        Act::RemoveVif(n) => {
            let vifs = client.vifs().await.unwrap();
            let vif = vifs.keys().nth(n % vifs.len().max(1)).cloned().unwrap_or_else(Ref::null);
            client.call("VIF.destroy", vec![(&vif).into()]).await.err()
        }
        Act::Describe(n, value) => {
            let name = format!("{}-{value}", n % 4);
            client.call("VM.set_name_label", vec![(&vm(*n)).into(), name.into()]).await.err()
        }
        Act::Guard(n, value) => {
            let network = client.networks().await.unwrap().into_keys().nth(n % 2).unwrap();
            let config = vec![("drawbridge:guarded".to_owned(), value.to_string().into())];
            let config = drawbridge_wire::xmlrpc::Value::Struct(config);
            client.call("network.set_other_config", vec![(&network).into(), config]).await.err()
        }
        Act::Trap(trap) => {
            mock.faults().inject(Fault::Events { trap: *trap, times: 1 });
            None
        }
        Act::DropSessions => {
            mock.faults().inject(Fault::DropSessions);
            None
        }
        Act::RestartToolstack => {
            mock.restart_toolstack("host1").unwrap();
            None
        }
        Act::NewMaster(n) => {
            mock.change_master(host(*n)).unwrap();
            None
        }
        Act::Restore(by) => {
            mock.set_back_events(*by);
            mock.faults().inject(Fault::DropSessions);
            None
        }
        Act::CutEvents => {
            mock.faults().inject(Fault::Cut { method: Some("event.from".to_owned()), times: 1 });
            None
        }
        Act::GuestReboots(n) => {
            if let Some((_, vm)) = chosen(*n) {
                // It may not run.
                let _refused = mock.guest_reboots(&vm.uuid.to_string()).await;
            }
            None
        }
        Act::HostReboots(n) => {
            mock.reboot_host(host(*n)).await.unwrap();
            None
        }
        Act::Look => None,
    };
    if let Some(error) = refused {
        assert!(matches!(error, xenapi::CallError::Api(_)), "{error:?}");
    }
}

async fn live(acts: &[Act]) -> Result<(), TestCaseError> {
    let mock = pool().await;
    let (mut watch, mut told) = (Watch::with_config(client(&mock), QUICK), Told::default());
    for one in acts {
        // A client of its own each time: what it meets is not what the watch meets.
        act(&mock, &client(&mock), one).await;
        if let Act::Look = one {
            // Dropped at any moment, as in a `select!`.
            let turn = tokio::time::timeout(Duration::from_millis(60), watch.next()).await;
            if let Ok(Ok(changed)) = turn {
                told.hear(changed, watch.cache())?;
            }
        }
    }
    loop {
        let changed = next(&mut watch).await;
        let quiet = changed.is_empty();
        told.hear(changed, watch.cache())?;
        if quiet {
            break;
        }
    }
    prop_assert_eq!(&**watch.cache(), &full_read(&client(&mock)).await);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn at_rest_the_cache_is_a_full_read(acts in acts()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(live(&acts))?;
    }
}
