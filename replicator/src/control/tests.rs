use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// Answers `status` at once, and `grant` when the test says so.
struct Double {
    release: Mutex<Receiver<()>>,
}

impl Commands for Double {
    fn execute(&self, command: Command) -> Result<Value, Refusal> {
        match command {
            Command::Grant {} => {
                self.release.lock().unwrap().recv().unwrap();
                Ok(json!({"granted": true}))
            }
            Command::Status {} => Ok(json!({"role": "idle"})),
            _ => Err(Refusal::new(Refusal::ROLE, "not now: configure first")),
        }
    }
}

struct Bench {
    directory: tempfile::TempDir,
    publisher: Publisher,
    release: Sender<()>,
}

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let (release, receiver) = channel();
        let publisher = Publisher::default();
        Server::bind(&directory.path().join("s"))
            .unwrap()
            .start(
                Arc::new(Double {
                    release: Mutex::new(receiver),
                }),
                publisher.clone(),
            )
            .unwrap();
        Bench {
            directory,
            publisher,
            release,
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.directory.path().join("s")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    fn greeted(&self) -> UnixStream {
        let mut stream = self.connect();
        ask(
            &mut stream,
            &json!({"id": 1, "command": "hello", "protocol": 1}),
        );
        assert_eq!(answer(&mut stream)["result"]["protocol"], 1);
        stream
    }
}

fn ask(stream: &mut UnixStream, request: &Value) {
    frame::write(stream, request.to_string().as_bytes()).unwrap();
}

fn answer(stream: &mut UnixStream) -> Value {
    serde_json::from_slice(&frame::read(stream).unwrap().unwrap()).unwrap()
}

fn is_closed(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_))
}

#[test]
fn status_is_answered_while_another_command_is_at_work() {
    let bench = Bench::new();
    let mut stream = bench.greeted();
    ask(&mut stream, &json!({"id": 2, "command": "grant"}));
    ask(&mut stream, &json!({"id": 3, "command": "status"}));
    assert_eq!(answer(&mut stream)["id"], 3);
    bench.release.send(()).unwrap();
    assert_eq!(
        answer(&mut stream),
        json!({"id": 2, "ok": true, "result": {"granted": true}})
    );
}

#[test]
fn a_refusal_carries_its_sentence() {
    let bench = Bench::new();
    let mut stream = bench.greeted();
    ask(&mut stream, &json!({"id": 2, "command": "disconnect"}));
    assert_eq!(
        answer(&mut stream)["refusal"]["message"],
        "not now: configure first"
    );
    for wrong in [
        json!({"id": 4, "command": "explode"}),
        json!({"id": 4, "command": "status", "extra": 1}),
        json!({"id": 4, "command": "demote"}),
        json!({"id": 4, "command": "outdate", "by": "xyz"}),
    ] {
        ask(&mut stream, &wrong);
        assert_eq!(
            answer(&mut stream)["refusal"]["code"],
            "malformed",
            "{wrong}"
        );
    }
}

#[test]
fn events_reach_everyone_who_said_hello() {
    let bench = Bench::new();
    let mut silent = bench.connect();
    let mut clients = [bench.greeted(), bench.greeted()];
    // The answer to a second request proves that the connection is registered.
    for client in &mut clients {
        ask(client, &json!({"id": 2, "command": "status"}));
        answer(client);
    }
    bench.publisher.publish(&Event::Waiting {
        reason: "peer lost".into(),
    });
    for client in &mut clients {
        assert_eq!(
            answer(client),
            json!({"event": "waiting", "reason": "peer lost"})
        );
    }
    ask(&mut silent, &json!({"id": 9, "command": "status"}));
    assert_eq!(answer(&mut silent)["refusal"]["code"], "protocol");
}

#[test]
fn hostile_bytes_end_their_connection_only() {
    let bench = Bench::new();
    let mut good = bench.greeted();
    for hostile in [
        b"\xff\xff\xff\xff".as_slice(),
        b"\x05\x00\x00\x00nope!",
        b"\x02\x00\x00\x00[]",
        b"\x02\x00\x00\x00{}",
        b"\x0b\x00\x00\x00{\"id\":\"x\"}",
    ] {
        let mut stream = bench.connect();
        stream.write_all(hostile).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(is_closed(&mut stream), "{hostile:?}");
    }
    ask(&mut good, &json!({"id": 2, "command": "status"}));
    assert_eq!(answer(&mut good)["ok"], true);
}

#[test]
fn a_second_replicator_is_kept_away_and_a_dead_one_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let first = Server::bind(&path).unwrap();
    assert!(matches!(
        Server::bind(&path),
        Err(ControlError::Taken { .. })
    ));
    drop(first);
    Server::bind(&path).unwrap();
}

#[test]
fn the_configuration_of_the_specification_is_understood() {
    let specification = include_str!("../../CONTROL.md");
    let block = specification
        .split("```json")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let mut request: Value = serde_json::from_str(&block.replace('…', "")).unwrap();
    request.as_object_mut().unwrap().remove("id");
    request["directories"][0]["path"] = json!({"bytes": "L2H/"});
    let Command::Configure(configuration) = serde_json::from_value(request).unwrap() else {
        panic!("not a configuration");
    };
    assert_eq!(configuration.directories[0].path, Text(b"/a\xff".to_vec()));
    assert_eq!(configuration.acknowledge, Acknowledge::Disk);
}
