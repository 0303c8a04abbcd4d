//! One client of the control socket: requests in, each on a thread of its own; answers and events out through one queue.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::command::Command;
use super::event::Publisher;
use super::refusal::Refusal;
use super::{Commands, PROTOCOL, frame};

/// Frames that wait for a client that reads slowly; one more ends its connection.
const QUEUE_FRAMES: usize = 1024;
/// Requests of one client at work at the same time.
const REQUESTS: usize = 16;
/// A client that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one client until it leaves or sends what is no request.
pub fn serve(
    stream: &UnixStream,
    commands: &Arc<dyn Commands>,
    publisher: &Publisher,
) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let (outgoing, queue) = sync_channel(QUEUE_FRAMES);
    let writer = stream.try_clone()?;
    thread::Builder::new()
        .name("control-write".into())
        .spawn(move || write_all(writer, &queue))?;
    let result = read_all(stream, &outgoing, commands, publisher);
    // Answers of requests still at work go nowhere; the writer ends when the last sender is gone.
    let _ = stream.shutdown(Shutdown::Both);
    result
}

fn write_all(mut stream: UnixStream, queue: &Receiver<Vec<u8>>) {
    for body in queue {
        if let Err(fault) = frame::write(&mut stream, &body) {
            tracing::warn!(%fault, "a client of the control socket takes no answers: connection closed");
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read_all(
    stream: &UnixStream,
    outgoing: &SyncSender<Vec<u8>>,
    commands: &Arc<dyn Commands>,
    publisher: &Publisher,
) -> io::Result<()> {
    let mut reader = stream;
    let mut greeted = false;
    let at_work = Arc::new(AtomicUsize::new(0));
    while let Some(body) = frame::read(&mut reader)? {
        let (id, request) = parse(&body)?;
        if !greeted {
            let answer = greet(request);
            greeted = answer.is_ok();
            send(outgoing, id, answer)?;
            if greeted {
                publisher.add(outgoing.clone());
            }
            continue;
        }
        let command = match serde_json::from_value::<Command>(Value::Object(request)) {
            Ok(command) => command,
            Err(fault) => {
                let refusal = Refusal::new(
                    Refusal::MALFORMED,
                    format!("this request is not one I know: {fault}"),
                );
                send(outgoing, id, Err(refusal))?;
                continue;
            }
        };
        if at_work.load(Ordering::Acquire) >= REQUESTS {
            let message =
                format!("{REQUESTS} requests of this connection are at work: wait for one to end");
            send(outgoing, id, Err(Refusal::new(Refusal::BUSY, message)))?;
            continue;
        }
        at_work.fetch_add(1, Ordering::AcqRel);
        let (commands, outgoing, at_work) = (commands.clone(), outgoing.clone(), at_work.clone());
        thread::Builder::new()
            .name("control-command".into())
            .spawn(move || {
                let answer = commands.execute(command);
                at_work.fetch_sub(1, Ordering::AcqRel);
                if send(&outgoing, id, answer).is_err() {
                    tracing::debug!("the client left before its answer");
                }
            })?;
    }
    Ok(())
}

/// The id of a request and the rest of it. Anything else is no frame of this protocol.
fn parse(body: &[u8]) -> io::Result<(u64, Map<String, Value>)> {
    let invalid = |fault: String| io::Error::new(io::ErrorKind::InvalidData, fault);
    let mut request: Map<String, Value> =
        serde_json::from_slice(body).map_err(|fault| invalid(fault.to_string()))?;
    let id = request
        .remove("id")
        .and_then(|id| id.as_u64())
        .ok_or_else(|| invalid("a request without an integer id".into()))?;
    Ok((id, request))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeting {
    command: String,
    protocol: u32,
}

fn greet(request: Map<String, Value>) -> Result<Value, Refusal> {
    let greeting: Greeting = serde_json::from_value(Value::Object(request))
        .ok()
        .filter(|greeting: &Greeting| greeting.command == "hello")
        .ok_or_else(|| Refusal::new(Refusal::PROTOCOL, "say hello with a protocol first"))?;
    if greeting.protocol != PROTOCOL {
        let message = format!(
            "this replicator speaks control protocol {PROTOCOL}, not {}: install the same release of both",
            greeting.protocol
        );
        return Err(Refusal::new(Refusal::PROTOCOL, message));
    }
    Ok(
        json!({"protocol": PROTOCOL, "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id()}),
    )
}

/// Queues an answer; waits for room, for the client asked for it.
fn send(outgoing: &SyncSender<Vec<u8>>, id: u64, answer: Result<Value, Refusal>) -> io::Result<()> {
    let body = match answer {
        Ok(result) => json!({"id": id, "ok": true, "result": result}),
        Err(refusal) => json!({"id": id, "ok": false, "refusal": refusal}),
    };
    outgoing
        .send(serde_json::to_vec(&body)?)
        .map_err(|_| io::ErrorKind::BrokenPipe.into())
}
