//! Peers no one here wrote, each a process of its own that ends with its handle.
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// No single step of a test takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const PYTHON_ADVICE: &str = "it needs PyPI's `websockets`, `aiohttp` and `requests` (pip install \
                             websockets aiohttp requests); WORKERMAN_PYTHON names the Python that has it";
const NODE_ADVICE: &str = "it needs Node.js and npm's `ws` (npm install ws); \
                           WORKERMAN_NODE_MODULES names the folder node_modules that holds it";
const NGINX_ADVICE: &str = "it needs nginx (apt-get install nginx-light)";

/// A child process whose lines are read as they come. Killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Arc<Mutex<String>>,
}

impl Process {
    pub(crate) fn start(name: &str, mut command: Command, advice: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(e) => panic!("{name} does not start: {e}; {advice}"),
        };
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped above"));
        thread::spawn(move || stdout.lines().map_while(Result::ok).all(|l| sender.send(l).is_ok()));
        let errors = Arc::new(Mutex::new(String::new()));
        let (mut stderr, sink) = (child.stderr.take().expect("piped above"), errors.clone());
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..n]);
                sink.lock().expect("nobody panics with it").push_str(&text);
            }
        });
        let stdin = child.stdin.take();
        Process { name: name.into(), child, stdin, lines, errors }
    }

    /// The next line; `None` at the end of its output.
    #[track_caller]
    pub(crate) fn next(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} says nothing more; its errors: {}", self.name, self.errors())
            }
        }
    }

    #[track_caller]
    pub(crate) fn line(&self) -> String {
        match self.next() {
            Some(line) => line,
            None => panic!("{} has ended; its errors: {}", self.name, self.errors()),
        }
    }

    /// Lines up to the first one that begins with `wanted`, and that one.
    #[track_caller]
    pub(crate) fn until(&self, wanted: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            lines.push(self.line());
            if lines.last().is_some_and(|line| line.starts_with(wanted)) {
                return lines;
            }
            assert!(lines.len() < 10_000, "{} never said {wanted:?}: {lines:?}", self.name);
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("open until the process is dropped");
        writeln!(stdin, "{line}").expect("it reads its input");
    }

    pub(crate) fn errors(&self) -> String {
        thread::sleep(Duration::from_millis(50)); // What it wrote as it ended is on its way.
        self.errors.lock().expect("nobody panics with it").clone()
    }

    /// As a crash, or an impatient administrator.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{} is gone", self.name);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(&mut self, within: Duration) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            let name = &self.name;
            assert!(begin.elapsed() < within, "{name} still runs after {within:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

// ------------------------------------------------------------------------------------ programs

/// One of this crate's examples, as built from the present source.
pub(crate) fn example(name: &str, arguments: &[&str]) -> Process {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
        cargo.args(["build", "--quiet", "--examples", "--features", "interop"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.is_ok_and(|status| status.success()), "the examples do not build");
    });
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let mut command = Command::new(folder.join("examples").join(name));
    command.args(arguments);
    Process::start(name, command, "cargo builds it with the tests")
}

fn script(name: &str) -> String {
    format!("{}/tests/interop/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn python() -> Command {
    Command::new(std::env::var("WORKERMAN_PYTHON").unwrap_or("python3".into()))
}

fn node() -> Command {
    let mut command = Command::new("node");
    if let Ok(modules) = std::env::var("WORKERMAN_NODE_MODULES") {
        command.env("NODE_PATH", modules);
    }
    command
}

/// One of our programs for Node.js.
pub(crate) fn node_script(program: &str, arguments: &[&str]) -> Process {
    Peer::Node.run(program, arguments)
}

/// Which of the two languages a peer is written in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Python,
    Node,
}

impl Peer {
    pub(crate) fn run(self, program: &str, arguments: &[&str]) -> Process {
        let (mut command, file, advice) = match self {
            Peer::Python => (python(), format!("{program}.py"), PYTHON_ADVICE),
            Peer::Node => (node(), format!("{program}.js"), NODE_ADVICE),
        };
        command.arg(script(&file)).args(arguments);
        Process::start(&file, command, advice)
    }

    fn advice(self) -> &'static str {
        match self {
            Peer::Python => PYTHON_ADVICE,
            Peer::Node => NODE_ADVICE,
        }
    }

    /// Its server, listening.
    pub(crate) fn server(self, arguments: &[&str]) -> PeerServer {
        let process = self.run("server", &[&["0"], arguments].concat());
        PeerServer::listening(process, self.advice())
    }

    /// Somebody who sends the lines that are told and prints what comes; Python's.
    #[track_caller]
    pub(crate) fn talker(url: &str) -> Process {
        let process = Peer::Python.run("talk", &[url]);
        let line = process.next().unwrap_or_default();
        assert_eq!(line, "open", "{}\n{PYTHON_ADVICE}", process.errors());
        process
    }

    /// Its client, driven to its end against an echo server.
    #[track_caller]
    pub(crate) fn drive(self, url: &str, ca: Option<&Path>) {
        self.drive_with("client", url, ca);
    }

    /// The same with another of its programs.
    #[track_caller]
    pub(crate) fn drive_with(self, program: &str, url: &str, ca: Option<&Path>) {
        let ca = ca.map(|path| path.to_string_lossy());
        let arguments: Vec<&str> = [Some(url), ca.as_deref()].into_iter().flatten().collect();
        let mut process = self.run(program, &arguments);
        let said = process.next();
        let status = process.end(PATIENCE);
        let (errors, advice) = (process.errors(), self.advice());
        let fine = status.success() && said.as_deref() == Some("ok");
        assert!(fine, "{self:?} against {url}: {status}, {said:?}, {errors}\n({advice})");
    }
}

/// Python's raw sockets against one of the examples, to their end.
#[track_caller]
pub(crate) fn raw_sockets(arguments: &[&str]) {
    let mut process = Peer::Python.run("sockets", arguments);
    let (said, status) = (process.next(), process.end(PATIENCE));
    let fine = status.success() && said.as_deref() == Some("ok");
    assert!(fine, "sockets.py {arguments:?}: {status}, {said:?}, {}", process.errors());
}

/// Python's own HTTP server, handing out what lies in the folder.
pub(crate) fn http_server(folder: &Folder) -> (Process, u16) {
    let (mut command, port) = (python(), free_port());
    command.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory"]);
    command.arg(folder.path(""));
    let process = Process::start("http.server", command, "it is part of Python");
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < PATIENCE, "it does not listen: {}", process.errors());
        thread::sleep(Duration::from_millis(5));
    }
    (process, port)
}

/// What curl prints, and with `-v` its log.
#[track_caller]
pub(crate) fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    // An old system's settings, and a proxy for others, are not for loopback.
    command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "15"]).args(arguments);
    let output = match command.output() {
        Ok(output) => output,
        Err(e) => panic!("curl does not start: {e}; it needs curl (apt-get install curl)"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?}: {}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned() + &errors
}

/// A server of Python or Node.
pub(crate) struct PeerServer {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

impl PeerServer {
    #[track_caller]
    fn listening(process: Process, advice: &str) -> Self {
        let line = process.next().unwrap_or_default();
        let port = line.strip_prefix("listening ").and_then(|port| port.parse().ok());
        let Some(port) = port else {
            panic!("{} does not listen: {line}{}\n{advice}", process.name, process.errors())
        };
        PeerServer { process, port }
    }

    /// A Python server that has loaded all it needs and binds `port` when told so.
    pub(crate) fn spare(port: u16) -> Process {
        let process = Peer::Python.run("server", &[&port.to_string(), "wait"]);
        let line = process.next().unwrap_or_default();
        assert_eq!(line, "waiting", "{}\n{PYTHON_ADVICE}", process.errors());
        process
    }

    pub(crate) fn wake(mut spare: Process) -> Self {
        spare.tell("now");
        PeerServer::listening(spare, PYTHON_ADVICE)
    }

    /// The next connection's request, then its headers as they were written.
    #[track_caller]
    pub(crate) fn request(&self) -> Vec<String> {
        let mut lines = self.process.until("request ");
        lines.extend(self.process.until("end of request"));
        lines.retain(|line| line.starts_with("request ") || line.starts_with("header "));
        lines
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }
}

// ----------------------------------------------------------------------------------- the world

/// A folder that goes with its handle.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, n) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("workerman-interop-{pid}-{n}"));
        fs::create_dir(&path).expect("a new folder among the temporary ones");
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("our own folder can be written");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate authority with one server (localhost, 127.0.0.1) and one client:
/// `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`.
pub(crate) struct Authority {
    pub(crate) folder: Folder,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let key = KeyPair::generate().expect("a key");
        let mut params = named("workerman test authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a certificate of its own");
        folder.write("ca.pem", &certificate.pem());
        let issuer = Issuer::new(params, key);
        let server = ("server", ExtendedKeyUsagePurpose::ServerAuth, &["localhost", "127.0.0.1"]);
        let client = ("client", ExtendedKeyUsagePurpose::ClientAuth, &["client", "client.test"]);
        for (name, usage, names) in [server, client] {
            let key = KeyPair::generate().expect("a key");
            let mut params = named(name, names);
            params.extended_key_usages = vec![usage];
            params.use_authority_key_identifier_extension = true;
            let certificate = params.signed_by(&key, &issuer).expect("a signed certificate");
            folder.write(&format!("{name}.pem"), &certificate.pem());
            folder.write(&format!("{name}.key"), &key.serialize_pem());
        }
        Authority { folder }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path(name).to_string_lossy().into_owned()
    }

    /// What a peer's server is to be told.
    pub(crate) fn server_arguments(&self) -> [String; 3] {
        ["tls".into(), self.file("server.pem"), self.file("server.key")]
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.into()).collect();
    let mut params = CertificateParams::new(hosts).expect("names that a certificate may have");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// nginx in front of a WebSocket server, with TLS.
pub(crate) struct Nginx {
    _process: Process,
    _folder: Folder,
    pub(crate) port: u16,
}

impl Nginx {
    /// `client_certificates`: it refuses clients that show none of this authority's.
    pub(crate) fn start(authority: &Authority, backend: u16, client_certificates: bool) -> Self {
        let (folder, port) = (Folder::new(), free_port());
        let verify = match client_certificates {
            true => format!(
                "ssl_verify_client on; ssl_client_certificate {};",
                authority.file("ca.pem")
            ),
            false => String::new(),
        };
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};", folder.path(kind).display()))
            .join("\n");
        let config = format!(
            "daemon off; master_process off; pid {pid};
            error_log stderr error;
            events {{ worker_connections 256; }}
            http {{
                access_log off;
                {temp}
                server {{
                    listen 127.0.0.1:{port} ssl;
                    ssl_certificate {certificate};
                    ssl_certificate_key {key};
                    {verify}
                    location / {{
                        proxy_pass http://127.0.0.1:{backend};
                        proxy_http_version 1.1;
                        proxy_set_header Host $http_host;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection upgrade;
                    }}
                }}
            }}",
            pid = folder.path("pid").display(),
            certificate = authority.file("server.pem"),
            key = authority.file("server.key"),
        );
        folder.write("nginx.conf", &config);
        // Debian keeps it where only an administrator looks.
        let found = Path::new("/usr/sbin/nginx").exists();
        let mut command = Command::new(if found { "/usr/sbin/nginx" } else { "nginx" });
        command.args(["-e", "stderr", "-c"]).arg(folder.path("nginx.conf"));
        let mut process = Process::start("nginx", command, NGINX_ADVICE);
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = process.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "nginx ended: {}", process.errors());
            assert!(begin.elapsed() < PATIENCE, "nginx does not listen: {}", process.errors());
            thread::sleep(Duration::from_millis(5));
        }
        Nginx { _process: process, _folder: folder, port }
    }
}

/// A port that was free a moment ago, for programs that cannot ask the system for one.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
