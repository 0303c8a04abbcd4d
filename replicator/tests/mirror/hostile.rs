//! What strangers and broken peers get: a logged refusal, and nothing changes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::cluster::{Authority, Cluster};

#[test]
fn wrong_certificates_and_garbage_change_nothing() {
    let mut cluster = Cluster::live(&json!({}));
    let before = cluster.n1.status()["lineage"].clone();
    let address = cluster.n1.configuration()["listen"][0]
        .as_str()
        .unwrap()
        .to_owned();

    let long = vec![0xff; 100_000];
    for garbage in [
        b"GET / HTTP/1.0\r\n\r\n".as_slice(),
        &long,
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        // The replicator may close before everything is written.
        let _ = stream.write_all(garbage);
        let _ = stream.read(&mut [0; 1000]);
    }
    // A node of another cluster, and a node of this cluster that is not the peer, both with the whole protocol.
    for (authority, name) in [(&Authority::new(), "n2"), (&cluster.authority, "n3")] {
        let home = tempfile::tempdir_in("/var/tmp").unwrap();
        let tls = authority.issue(name, home.path());
        let paths = telamon_replicator::link::tls::CredentialPaths {
            authority: cluster.n1.home.join("ca.crt"),
            certificate: tls["certificate"].as_str().unwrap().into(),
            key: tls["key"].as_str().unwrap().into(),
        };
        let credentials = telamon_replicator::link::tls::Credentials::load(&paths, "n1").unwrap();
        let stream = TcpStream::connect(&address).unwrap();
        let refused = telamon_replicator::link::channel::Channel::dial(stream, &credentials)
            .and_then(|channel| {
                // TLS 1.3 lets the client finish before the server judged its certificate.
                telamon_replicator::link::channel::Inbox::default().control(&channel)
            });
        assert!(refused.is_err(), "{name} was let in");
    }
    // Silence: connections that never speak do not keep the peer out.
    let silent: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    cluster
        .n1
        .until("still live", |status| status["link"] == "live");
    drop(silent);
    let status = cluster.n1.status();
    assert_eq!(status["lineage"], before);
    assert_eq!(status["link"], "live");
    assert!(
        cluster.n1.log().contains("refused a connection"),
        "nothing was logged"
    );
}
