//! Promise: `cargo run --example quickstart` shows a session, its end and the next one, and ends by
//! itself with 0 in under ten seconds.
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn quickstart() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let program = folder.join("examples/quickstart");
    assert!(program.exists(), "`cargo test` builds it; else: cargo build --example quickstart");
    program
}

/// Kills what is still running when the test ends.
struct Watched(Child);

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn quickstart_prints_two_sessions_in_order_and_ends_with_0() {
    let begin = Instant::now();
    let mut command = Command::new(quickstart());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Watched(command.spawn().expect("it was built"));
    let status = loop {
        if let Some(status) = child.0.try_wait().expect("it is our child") {
            break status;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "it does not end by itself");
        std::thread::sleep(Duration::from_millis(10));
    };
    let (stdout, stderr) = (child.0.stdout.take(), child.0.stderr.take());
    let printed = std::io::read_to_string(stdout.expect("piped above")).expect("text");
    let errors = std::io::read_to_string(stderr.expect("piped above")).expect("text");
    assert_eq!(status.code(), Some(0), "{printed}\n{errors}");

    let wanted = [
        "tcp connected",
        "HTTP/1.1 101 ",
        "recv: hello",
        "latency: ",
        "connection closed and try to reconnect",
        "tcp connected",
        "HTTP/1.1 101 ",
        "recv: hello",
    ];
    let mut lines = printed.lines().filter(|line| {
        !line.trim().is_empty() && !line.split(' ').next().is_some_and(|word| word.ends_with(':'))
            || line.starts_with("recv: ")
            || line.starts_with("latency: ")
            || line.starts_with("error: ")
    });
    for wanted in wanted {
        let line = lines.next().unwrap_or_default();
        assert!(line.starts_with(wanted), "{line:?} instead of {wanted:?} in:\n{printed}");
    }
    assert_eq!(lines.next(), None, "{printed}");
}
