//! Signals, `process::exit` and the end of threads, in processes of their own.
use super::scenarios::WHICH;
use crate::support::{PATIENCE, raw_connect, read_bytes};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const HUP: &str = "HUP";
const INT: &str = "INT";
const QUIT: &str = "QUIT";
const TERM: &str = "TERM";

/// A process that plays a scenario; what is still running goes with this.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn new(scenario: &str) -> Process {
        Process::by(Command::new(std::env::current_exe().expect("a test has a path")), scenario)
    }

    /// As `nohup` starts it.
    fn without_hang_up(scenario: &str) -> Process {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
        shell.arg(std::env::current_exe().expect("a test has a path"));
        Process::by(shell, scenario)
    }

    /// With a terminal as its standard input.
    fn at(terminal: std::fs::File, scenario: &str) -> Process {
        let command = Command::new(std::env::current_exe().expect("a test has a path"));
        Process::with_input(command, terminal.into(), scenario)
    }

    fn by(command: Command, scenario: &str) -> Process {
        Process::with_input(command, Stdio::null(), scenario)
    }

    fn with_input(mut command: Command, input: Stdio, scenario: &str) -> Process {
        let name = "scenarios::a_scenario_when_the_environment_asks_for_one";
        command.args(["--exact", name, "--nocapture"]).env(WHICH, scenario);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("this very program");
        let stdout = child.stdout.take().expect("piped above");
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The harness may have begun a line of its own.
                if let Some((_, line)) = line.split_once("| ") {
                    let _ = tell.send(line.to_owned());
                }
            }
        });
        Process { child, lines }
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    #[track_caller]
    fn expect(&self, lines: &[&str]) {
        for expected in lines {
            assert_eq!(self.line(), *expected);
        }
    }

    /// The address where it listens, once it is ready.
    #[track_caller]
    fn ready(&self) -> SocketAddr {
        let line = self.line();
        let addr = line.strip_prefix("listens ").unwrap_or_else(|| panic!("{line}"));
        self.expect(&["ready"]);
        addr.parse().expect("an address")
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {}", self.child.id())])
            .status();
        assert!(kill.expect("a shell").success());
    }

    /// Waits for its end; what it still said, and how it ended.
    #[track_caller]
    fn end(&mut self) -> (Vec<String>, ExitStatus) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        (self.lines.iter().collect(), status)
    }

    #[track_caller]
    fn is_quiet(&self, length: Duration) {
        if let Ok(line) = self.lines.recv_timeout(length) {
            panic!("it said {line:?}");
        }
    }
}

// ---------------------------------------------------------------- signals

#[test]
fn sigint_sigterm_and_sighup_stop_a_loop_on_the_main_thread_in_order() {
    for signal in [INT, TERM, HUP] {
        let mut process = Process::new("serve");
        let peer = raw_connect(process.ready());
        process.expect(&["connect"]);
        process.signal(signal);
        process.expect(&["stop 1"]);
        drop(peer);
        let (lines, status) = process.end();
        assert_eq!(lines, ["close", "ended Ok(())", "thread ended"], "{signal}");
        assert_eq!(status.code(), Some(0), "{signal}");
    }
}

#[test]
fn sigquit_closes_listeners_and_lets_connections_end_by_themselves() {
    let mut process = Process::new("serve");
    let addr = process.ready();
    let mut peer = raw_connect(addr);
    process.expect(&["connect"]);
    process.signal(QUIT);
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(addr).is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
    }
    peer.write_all(b"still served\n").expect("the socket takes it");
    assert_eq!(read_bytes(&mut peer, 13), b"still served\n");
    drop(peer);
    let (lines, status) = process.end();
    // Whoever connected while it closed may have come and gone.
    let last: Vec<_> = lines.iter().filter(|line| *line != "connect").collect();
    assert_eq!(last[last.len() - 3..], ["stop 0", "ended Ok(())", "thread ended"]);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn sigquit_with_no_connection_ends_at_once_and_sigterm_hurries_a_graceful_stop() {
    let mut process = Process::new("serve");
    process.ready();
    process.signal(QUIT);
    let (lines, status) = process.end();
    assert_eq!(lines, ["stop 0", "ended Ok(())", "thread ended"]);
    assert_eq!(status.code(), Some(0));

    let mut process = Process::new("serve");
    let peer = raw_connect(process.ready());
    process.expect(&["connect"]);
    process.signal(QUIT);
    process.is_quiet(Duration::from_millis(100));
    process.signal(TERM);
    process.expect(&["stop 1"]);
    drop(peer);
    let (lines, _) = process.end();
    assert_eq!(lines, ["close", "ended Ok(())", "thread ended"]);
}

#[test]
fn a_second_sigint_half_a_second_later_ends_a_process_that_hangs_while_stopping_with_130() {
    let process = Process::new("hang while stopping");
    process.expect(&["ready"]);
    process.signal(INT);
    process.expect(&["stop"]);
    assert_ends_by_a_later_sigint(process);
}

#[test]
fn at_a_terminal_a_second_sigint_later_ends_a_process_that_hung_before_the_first_with_130() {
    // There the thread that counts them runs from the start: the callback that the keys are meant
    // for may be the one that hangs.
    let (_terminal, other_end) = terminal();
    let process = Process::at(other_end, "hang");
    process.expect(&["ready"]);
    process.signal(INT);
    assert_ends_by_a_later_sigint(process);
}

/// A terminal: what a person types into, and what a program reads from.
fn terminal() -> (std::os::fd::OwnedFd, std::fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("it is ours");
    unlockpt(&terminal).expect("it is ours");
    let name = ptsname(&terminal, Vec::new()).expect("it has a name");
    let name = name.to_str().expect("ASCII").to_owned();
    let other_end = std::fs::OpenOptions::new().read(true).write(true).open(name);
    (terminal, other_end.expect("its other end"))
}

fn assert_ends_by_a_later_sigint(mut process: Process) {
    // The same key press, seen twice.
    process.signal(INT);
    std::thread::sleep(Duration::from_millis(600));
    assert!(process.child.try_wait().expect("our child").is_none(), "one key press ended it");
    process.signal(INT);
    let (lines, status) = process.end();
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(status.code(), Some(130));
}

#[test]
fn when_the_run_has_ended_signals_do_what_they_do_by_default() {
    for (signal, number) in [(INT, 2), (TERM, 15), (HUP, 1)] {
        let mut process = Process::new("run and linger");
        process.expect(&["ready"]);
        process.signal(signal);
        let (lines, status) = process.end();
        assert!(lines.is_empty(), "{lines:?}");
        assert_eq!(status.signal(), Some(number), "{status}");
    }
}

#[test]
fn a_second_run_on_the_main_thread_is_stopped_by_signals_too() {
    let mut process = Process::new("serve twice");
    process.ready();
    process.signal(INT);
    process.expect(&["stop 0", "ended Ok(())"]);
    process.ready();
    process.signal(INT);
    let (lines, status) = process.end();
    assert_eq!(lines, ["stop 0", "ended Ok(())", "thread ended"]);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_spawned_loop_and_turns_install_no_handlers() {
    for scenario in ["spawned", "turns"] {
        let mut process = Process::new(scenario);
        process.expect(&["ready"]);
        process.signal(TERM);
        let (lines, status) = process.end();
        assert!(lines.is_empty(), "{lines:?}");
        assert_eq!(status.signal(), Some(15), "{scenario}: {status}");
    }
}

#[test]
fn on_signal_takes_a_signal_over_from_the_library() {
    let mut process = Process::new("takes SIGTERM");
    process.ready();
    process.signal(TERM);
    process.expect(&["mine"]);
    process.is_quiet(Duration::from_millis(50));
    process.signal(INT);
    let (lines, status) = process.end();
    assert_eq!(lines, ["stop 0", "ended Ok(())", "thread ended"]);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn sighup_that_was_ignored_at_the_start_stays_ignored() {
    let mut process = Process::without_hang_up("serve");
    let mut peer = raw_connect(process.ready());
    process.expect(&["connect"]);
    process.signal(HUP);
    process.is_quiet(Duration::from_millis(100));
    peer.write_all(b"still here\n").expect("the socket takes it");
    assert_eq!(read_bytes(&mut peer, 11), b"still here\n");
    process.signal(TERM);
    process.expect(&["stop 1"]);
    drop(peer);
    let (lines, status) = process.end();
    assert_eq!(lines, ["close", "ended Ok(())", "thread ended"]);
    assert_eq!(status.code(), Some(0));
}

// ---------------------------------------------------------------- the end of a thread's locals

#[test]
fn process_exit_at_any_moment_aborts_nothing_and_no_callback_runs_after_it() {
    for place in [
        "on_connect",
        "with",
        "on_message",
        "on_close",
        "a destructor",
        "a timer",
        "on_worker_stop",
        "between two runs",
    ] {
        let mut process = Process::new(&format!("exit in {place}"));
        let (lines, status) = process.end();
        assert_eq!(status.code(), Some(7), "{place}: {status} {lines:?}");
        assert_eq!(lines.first().map(String::as_str), Some("exiting"), "{place}: {lines:?}");
        let others: Vec<_> = lines[1..].iter().filter(|l| !l.starts_with("dropped ")).collect();
        assert!(others.is_empty(), "{place}: {others:?}");
    }
}

#[test]
fn a_thread_that_ends_without_a_stop_drops_user_data_that_calls_the_library_and_no_callback() {
    let mut process = Process::new("thread ends");
    let (lines, status) = process.end();
    assert_eq!(status.code(), Some(0), "{status} {lines:?}");
    assert_eq!(lines.first().map(String::as_str), Some("ending"));
    assert_eq!(lines.last().map(String::as_str), Some("thread ended"));
    let mut dropped = lines[1..lines.len() - 1].to_vec();
    dropped.sort();
    assert_eq!(
        dropped,
        [
            "dropped a callback's",
            "dropped a local",
            "dropped a timer's",
            "dropped another local",
            "dropped data of a connection",
            "dropped data of a worker",
        ]
    );
}
