//! The API before a fake daemon, on a TCP port without TLS: for programs that try it out, such as schemathesis.
//!
//! `cargo run -p api --example fuzzed -- 127.0.0.1:8080`; what it holds is lost when it ends.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a program for tests")]

use std::sync::Arc;

use api::{ApiState, Limits, Server, UnixListen, router};
use store::Store;
use tokio::net::{TcpListener, UnixStream};

#[path = "../tests/api/fake.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod fake;

#[tokio::main]
async fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("api.sock");
    let store = Store::open(&format!("sqlite:{}/store.db", folder.path().display())).await.expect("a store");
    let state = ApiState { store, control: Arc::new(fake::Fake::default()) };
    let server = Server::bind(router(state), Limits::default(), Some(UnixListen::new(&socket)), None);
    tokio::spawn(server.await.expect("a socket").serve(std::future::pending()));
    let listener = TcpListener::bind(&address).await.expect("a port");
    println!("http://{}", listener.local_addr().expect("an address"));
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut daemon = UnixStream::connect(&socket).await.expect("the socket answers");
        tokio::spawn(async move {
            // Either end may go.
            tokio::io::copy_bidirectional(&mut stream, &mut daemon).await.ok();
        });
    }
}
