//! A real browser, without a window: pages opened, looked into and filled in, as a person would.
//!
//! ```ignore
//! let browser = Browser::start();
//! let page = browser.open("http://127.0.0.1:2347/");
//! page.wait_for("document.title == 'Events'");
//! assert_eq!(page.evaluate("1 + 1"), "2");
//! ```
use crate::peers::{Folder, PATIENCE, Process, example, free_port, node_script};
use std::cell::RefCell;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const ADVICE: &str = "it needs Chromium (apt-get install chromium)";

/// The browser and whoever talks to it. Both end with the handle, with all their children.
pub(crate) struct Browser {
    group: Child,
    driver: RefCell<Process>,
    _profile: Folder,
}

/// A tab.
pub(crate) struct Page<'a> {
    browser: &'a Browser,
    id: String,
}

impl Browser {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let profile = Folder::new();
        let mut command = Command::new("chromium");
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
        command.args(["--disable-dev-shm-usage", "--no-proxy-server", "--window-size=900,600"]);
        command.args(["--remote-debugging-port=0", "about:blank"]);
        command.arg(format!("--user-data-dir={}", profile.path("").display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let group = command.spawn().unwrap_or_else(|e| panic!("no browser: {e}; {ADVICE}"));
        let mut group = Group(Some(group));
        let (said, begin) = (profile.path("DevToolsActivePort"), Instant::now());
        let url = loop {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            if let Some((port, path)) = text.split_once('\n').filter(|(_, path)| !path.is_empty()) {
                break format!("ws://127.0.0.1:{port}{}", path.trim());
            }
            assert!(begin.elapsed() < PATIENCE, "the browser does not listen; {ADVICE}");
            sleep(Duration::from_millis(20));
        };
        let driver = node_script("browser", &[&url]);
        assert_eq!(driver.line(), "ready");
        let group = group.0.take().expect("it was put there above");
        Browser { group, driver: RefCell::new(driver), _profile: profile }
    }

    #[track_caller]
    fn ask(&self, command: &str) -> String {
        assert!(!command.contains('\n'), "one line: {command}");
        let mut driver = self.driver.borrow_mut();
        driver.tell(command);
        let line = driver.line();
        match line.strip_prefix("ok ") {
            Some(answer) => answer.to_owned(),
            None => panic!("{command}: {line}"),
        }
    }

    /// A new tab with this address.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) -> Page<'_> {
        let id = self.ask(&format!("open {url}"));
        Page { browser: self, id: id.trim_matches('"').to_owned() }
    }
}

impl Page<'_> {
    /// What this expression (one line of JavaScript) is, as JSON.
    #[track_caller]
    pub(crate) fn evaluate(&self, js: &str) -> String {
        self.browser.ask(&format!("eval {} {js}", self.id))
    }

    /// Until this expression is true.
    #[track_caller]
    pub(crate) fn wait_for(&self, js: &str) {
        let begin = Instant::now();
        // The page may be on its way to another one: then there is nothing to ask.
        let guarded =
            format!("(() => {{ try {{ return !!({js}) }} catch (e) {{ return false }} }})()");
        while self.evaluate(&guarded) != "true" {
            let shown = || self.evaluate("document.documentElement.outerHTML");
            assert!(begin.elapsed() < PATIENCE, "never true: {js}; the page: {}", shown());
            sleep(Duration::from_millis(20));
        }
    }

    /// Chooses this file in the file input that the selector names.
    #[track_caller]
    pub(crate) fn choose(&self, selector: &str, path: &Path) {
        self.browser.ask(&format!("files {} {selector}\t{}", self.id, path.display()));
    }

    /// What it looks like, as a PNG.
    #[track_caller]
    pub(crate) fn screenshot(&self, path: &Path) {
        self.browser.ask(&format!("shot {} {}", self.id, path.display()));
    }
}

/// Ends a browser that has not come up.
struct Group(Option<Child>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end_group(child);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end_group(&mut self.group);
    }
}

/// The group that this child leads: nobody else is in it.
fn end_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    let _ = child.wait();
}

/// One of our examples, listening; and where.
fn served(name: &str, more: &[&str]) -> (Process, String) {
    let port = free_port();
    let process = example(name, &[&[&*port.to_string()], more].concat());
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < PATIENCE, "{name} does not listen: {}", process.errors());
        sleep(Duration::from_millis(20));
    }
    (process, format!("http://127.0.0.1:{port}/"))
}

/// Where pictures go, if somebody wants to look at them.
fn picture(page: &Page, name: &str) {
    if let Ok(folder) = std::env::var("WORKERMAN_PICTURES") {
        page.screenshot(&Path::new(&folder).join(name));
    }
}

#[test]
fn a_browser_sees_the_clock_of_the_sse_example_and_who_else_looks() {
    let (_server, url) = served("sse", &[]);
    let browser = Browser::start();
    let page = browser.open(&url);
    page.wait_for("viewers.textContent == '1'");
    let other = browser.open(&url);
    for page in [&page, &other] {
        page.wait_for("viewers.textContent == '2'");
        page.wait_for("Number(up.textContent) >= 1");
    }
    picture(&page, "sse.png");
    // One leaves; the other is told.
    other.evaluate("events.close()");
    page.wait_for("viewers.textContent == '1'");
}

#[test]
fn a_browser_uploads_a_file_to_the_upload_example_and_gets_it_back() {
    let folder = Folder::new();
    let kept = folder.path("kept");
    std::fs::create_dir(&kept).expect("our own folder can be written");
    let content = "a line of text\n".repeat(100_000);
    folder.write("a <b> & c.txt", &content);
    let (_server, url) = served("upload", &[&kept.to_string_lossy()]);
    let browser = Browser::start();
    let page = browser.open(&url);
    page.wait_for("document.querySelector('button')");
    picture(&page, "upload.png");
    page.choose("input[type=file]", &folder.path("a <b> & c.txt"));
    page.evaluate("void (document.querySelector('[name=title]').value = 'Grüße <i>')");
    page.evaluate("document.querySelector('button').click()");
    page.wait_for("document.querySelector('li a')");
    picture(&page, "uploaded.png");
    // What the client has chosen is shown as it is, and is no part of the page.
    let name = page.evaluate("document.querySelector('li a').textContent");
    assert_eq!(name, "\"a <b> & c.txt\"");
    assert_eq!(page.evaluate("document.querySelector('i') == null"), "true");
    let length =
        "fetch(document.querySelector('li a').href).then(r => r.text()).then(t => t.length)";
    assert_eq!(page.evaluate(length), content.len().to_string());
}
