//! Two replicator processes of one module on this machine, driven over their control sockets as an agent would.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// No single step of a test takes longer on the slowest machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Credentials of a throw-away cluster.
pub struct Authority {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Authority {
    pub fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        Authority { certificate, key }
    }

    /// Writes a node's credentials and returns their `tls` object.
    pub fn issue(&self, node: &str, directory: &Path) -> Value {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec![node.to_owned()]).unwrap();
        let certificate = parameters
            .signed_by(&key, &self.certificate, &self.key)
            .unwrap();
        let write = |name: &str, content: String| {
            let path = directory.join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        json!({
            "ca": write("ca.crt", self.certificate.pem()),
            "certificate": write("node.crt", certificate.pem()),
            "key": write("node.key", key.serialize_pem()),
        })
    }
}

/// One replicator process and its control connection.
pub struct Node {
    pub name: &'static str,
    pub home: PathBuf,
    /// The replicated directory.
    pub data: PathBuf,
    configuration: Value,
    process: Option<Child>,
    control: Option<Control>,
}

struct Control {
    stream: UnixStream,
    next_id: u64,
    events: VecDeque<Value>,
}

impl Node {
    fn new(name: &'static str, home: PathBuf, configuration: Value) -> Node {
        let data = home.join("data");
        Node {
            name,
            home,
            data,
            configuration,
            process: None,
            control: None,
        }
    }

    /// Starts the process with `faults` (see `fault.rs`) and configures it.
    pub fn start_with(&mut self, faults: &str) {
        let socket = self.home.join("control.sock");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.home.join("log"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_telamon-replicator"))
            .arg("--control")
            .arg(&socket)
            .env("TELAMON_FAULT", faults)
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        self.process = Some(child);
        let deadline = Instant::now() + DEADLINE;
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "{}: no control socket: {error}",
                    self.name
                ),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        self.control = Some(Control {
            stream,
            next_id: 1,
            events: VecDeque::new(),
        });
        self.call("hello", json!({"protocol": 1}));
        self.call("configure", self.configuration.clone());
    }

    pub fn start(&mut self) {
        self.start_with("");
    }

    /// Carries out a command; a refusal fails the test.
    pub fn call(&mut self, command: &str, arguments: Value) -> Value {
        let answer = self.ask(command, arguments);
        assert_eq!(
            answer["ok"],
            json!(true),
            "{}: {command}: {answer}",
            self.name
        );
        answer["result"].clone()
    }

    /// Sends a command without waiting for its answer, and returns its id.
    pub fn send(&mut self, command: &str, arguments: Value) -> u64 {
        let control = self.control.as_mut().expect("started");
        let id = control.next_id;
        control.next_id += 1;
        let mut request = arguments;
        request["id"] = json!(id);
        request["command"] = json!(command);
        control.write(&request);
        id
    }

    /// Carries out a command and returns the whole answer.
    pub fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let id = self.send(command, arguments);
        let control = self.control.as_mut().expect("started");
        loop {
            let frame = control.read();
            if frame["id"] == json!(id) {
                return frame;
            }
            control.events.push_back(frame);
        }
    }

    pub fn status(&mut self) -> Value {
        self.call("status", json!({}))
    }

    /// Waits until the status is as wanted, and returns it.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{}: not {what} in {DEADLINE:?}: {status:#}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for an event of this kind, those that came before included.
    pub fn event(&mut self, kind: &str) -> Value {
        let control = self.control.as_mut().expect("started");
        loop {
            if let Some(at) = control
                .events
                .iter()
                .position(|event| event["event"] == kind)
            {
                return control.events.remove(at).unwrap();
            }
            let frame = control.read();
            control.events.push_back(frame);
        }
    }

    pub fn until_link(&mut self, link: &str) -> Value {
        self.until(&format!("link {link}"), |status| status["link"] == link)
    }

    pub fn until_commits(&mut self, commits: &str) -> Value {
        self.until(&format!("commits {commits}"), |status| {
            status["commits"] == commits
        })
    }

    /// Waits until the log holds `text` so many times.
    pub fn until_log(&self, text: &str, times: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.log().matches(text).count() < times {
            assert!(
                Instant::now() < deadline,
                "{}: {text:?} is not in the log",
                self.name
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = self.process.as_ref().expect("started").id();
        let pid = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends the process at once.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        self.control = None;
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) {
        let mut process = self.process.take().expect("started");
        let deadline = Instant::now() + DEADLINE;
        while process.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
        self.control = None;
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// Replaces a part of the configuration, before the start.
    pub fn configure(&mut self, key: &str, value: Value) {
        self.configuration[key] = value;
    }

    pub fn configuration(&self) -> &Value {
        &self.configuration
    }
}

impl Control {
    fn write(&mut self, frame: &Value) {
        let body = frame.to_string();
        self.stream
            .write_all(&u32::try_from(body.len()).unwrap().to_le_bytes())
            .unwrap();
        self.stream.write_all(body.as_bytes()).unwrap();
    }

    fn read(&mut self) -> Value {
        let mut length = [0; 4];
        self.stream
            .read_exact(&mut length)
            .expect("an answer in time");
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        self.stream.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}

/// Two nodes, n1 and n2; what they left mounted is removed with them.
pub struct Cluster {
    pub n1: Node,
    pub n2: Node,
    pub authority: Authority,
    _home: tempfile::TempDir,
}

impl Cluster {
    /// Both nodes configured alike; `settings` replace parts of the configuration.
    pub fn new(settings: &Value) -> Cluster {
        let home = tempfile::Builder::new()
            .prefix("telamon-mirror.")
            .tempdir_in("/var/tmp")
            .unwrap();
        let authority = Authority::new();
        let ports = free_ports();
        let mut nodes = [("n1", "n2"), ("n2", "n1")].into_iter().enumerate().map(
            |(index, (name, peer))| {
                let node_home = home.path().join(name);
                std::fs::create_dir_all(node_home.join("data")).unwrap();
                let mut configuration = json!({
                    "cluster": "c1", "module": format!("m{}", ports[0]), "node": name, "peer": peer,
                    "listen": [format!("127.0.0.1:{}", ports[index])],
                    "dial": [format!("127.0.0.1:{}", ports[1 - index])],
                    "tls": authority.issue(name, &node_home),
                    "state_directory": node_home.join("state"),
                    "directories": [{"path": node_home.join("data")}],
                    "sync": "fsync", "acknowledge": "disk", "capture": null,
                    "peer_timeout_ms": 2000, "queue_bytes": 67_108_864u64, "resync_bandwidth": 0,
                    "async_lag_bytes": 67_108_864u64,
                });
                for (key, value) in settings.as_object().into_iter().flatten() {
                    configuration[key] = value.clone();
                }
                Node::new(name, node_home, configuration)
            },
        );
        let (n1, n2) = (nodes.next().unwrap(), nodes.next().unwrap());
        drop(nodes);
        Cluster {
            n1,
            n2,
            authority,
            _home: home,
        }
    }

    /// n1 primary, n2 brought up and live.
    pub fn live(settings: &Value) -> Cluster {
        let mut cluster = Cluster::new(settings);
        cluster.bring_up();
        cluster
    }

    /// Starts both: n1 primary, n2 brought up and live.
    pub fn bring_up(&mut self) {
        self.n1.start();
        self.n2.start();
        self.n1.call("promote", json!({"force": true}));
        self.n1.call("grant", json!({}));
        self.n2.call("connect", json!({}));
        self.n1.until_link("live");
        self.n2.until_link("live");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in [&mut self.n1, &mut self.n2] {
            if std::thread::panicking() {
                eprintln!("--- log of {}\n{}", node.name, node.log());
            }
            node.kill();
            uncover(&node.data);
        }
    }
}

/// Removes every mount over a directory.
fn uncover(path: &Path) {
    use rustix::mount::{UnmountFlags, unmount};
    while unmount(path, UnmountFlags::DETACH).is_ok() {}
}

/// Two ports that nobody listens on.
fn free_ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}
