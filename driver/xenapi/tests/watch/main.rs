//! Watching a pool: whatever events leave out, the cache is what a full read says.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod laws;
mod traps;

use std::time::Duration;

use xapi_mock::config::{DataPlaneKind, HostConfig, NetworkConfig, UserConfig, VifConfig, VmConfig};
use xapi_mock::{Mock, PoolConfig};
use xenapi::{Cache, Changed, Client, ClientConfig, Fingerprint, Tls, Watch, WatchConfig};

/// Two hosts, two networks, four VMs with a VIF on each.
async fn pool() -> Mock {
    let named = |kind: &'static str, numbers: u32| (1..=numbers).map(move |n| format!("{kind}{n}"));
    let vif =
        |device, network: &str| VifConfig { device, network: network.to_owned(), ..VifConfig::default() };
    let config = PoolConfig {
        data_plane: DataPlaneKind::None,
        hosts: named("host", 2).map(|name| HostConfig { name, ..HostConfig::default() }).collect(),
        networks: named("net", 2).map(|name| NetworkConfig { name, ..NetworkConfig::default() }).collect(),
        users: vec![UserConfig {
            name: "root".to_owned(),
            password: "secret".to_owned(),
            role: xapi_mock::config::Role::PoolAdmin,
        }],
        vms: named("vm", 4)
            .map(|name| VmConfig { name, vifs: vec![vif(0, "net1"), vif(1, "net2")], ..VmConfig::default() })
            .collect(),
        ..PoolConfig::default()
    };
    Mock::start(config).await.unwrap()
}

/// A client that starts at host number `host`.
fn client_at(mock: &Mock, host: usize) -> Client {
    let pins = mock.hosts().iter().map(|host| host.fingerprint.parse::<Fingerprint>().unwrap()).collect();
    let url = &mock.hosts()[host].url;
    let config = ClientConfig {
        call_timeout: Duration::from_secs(10),
        ..ClientConfig::new(url, "root", "secret".into(), Tls::PinnedSha256(pins))
    };
    Client::new(config).unwrap()
}

fn client(mock: &Mock) -> Client {
    client_at(mock, 0)
}

/// Returns soon, and reads everything only if it has to.
const QUICK: WatchConfig = WatchConfig {
    wait: Duration::from_millis(100),
    grace: Duration::from_secs(10),
    full_read: Duration::from_secs(3600),
};

/// What a full read says, class by class.
async fn full_read(client: &Client) -> Cache {
    Cache {
        hosts: client.hosts().await.unwrap(),
        networks: client.networks().await.unwrap(),
        pifs: client.pifs().await.unwrap(),
        pools: client.pools().await.unwrap(),
        vifs: client.vifs().await.unwrap(),
        vms: client.vms().await.unwrap(),
    }
}

/// The next change; errors are waited out.
async fn next(watch: &mut Watch) -> Changed {
    for _ in 0..100 {
        match watch.next().await {
            Ok(changed) => return changed,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("the pool does not answer any more")
}
