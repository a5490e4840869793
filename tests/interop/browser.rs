//! The examples' pages as a person uses them, in a real browser: headless Chromium.
use crate::peers::{Folder, Process, browser_driver, web_example};
use std::cell::RefCell;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use workerman::Running;
use workerman::prelude::*;

const ADVICE: &str = "it needs Chromium (apt-get install chromium) and PyPI's `websockets` in \
                      WORKERMAN_PYTHON";

/// A browser of its own with an empty profile; it ends with its handle.
pub(crate) struct Browser {
    driver: RefCell<Process>,
    _folder: Folder,
}

/// One of its tabs.
pub(crate) struct Page<'a> {
    browser: &'a Browser,
    number: String,
}

impl Browser {
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = Folder::new();
        fs::create_dir(folder.path("profile")).expect("our own folder can be written");
        let driver = browser_driver(&folder.path("profile"), arguments);
        let said = driver.next();
        assert_eq!(said.as_deref(), Some("ready"), "{}\n{ADVICE}", driver.errors());
        Browser { driver: RefCell::new(driver), _folder: folder }
    }

    /// A page that has been loaded.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) -> Page<'_> {
        Page { browser: self, number: self.ask(&["open", url]) }
    }

    #[track_caller]
    fn ask(&self, words: &[&str]) -> String {
        assert!(!words.iter().any(|word| word.contains(['\t', '\n'])), "one line: {words:?}");
        let mut driver = self.driver.borrow_mut();
        driver.tell(&words.join("\t"));
        let line = driver.line();
        match line.strip_prefix("ok ") {
            Some(value) => value.into(),
            None => panic!("{words:?}: {line}"),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends Chromium's processes; killed itself, it could not.
        let ended = self.driver.get_mut().ends_with_its_input(Duration::from_secs(30));
        assert!(ended || std::thread::panicking(), "the browser does not end");
    }
}

impl Page<'_> {
    /// What a script gives: text as it is, all else as JSON. Promises are waited for.
    #[track_caller]
    pub(crate) fn evaluate(&self, script: &str) -> String {
        self.browser.ask(&["evaluate", &self.number, script])
    }

    /// Until the script gives something that is true, and that.
    #[track_caller]
    pub(crate) fn wait_for(&self, script: &str) -> String {
        self.browser.ask(&["wait", &self.number, script])
    }

    /// Until this text can be read on the page.
    #[track_caller]
    pub(crate) fn wait_for_text(&self, text: &str) {
        self.wait_for(&format!("document.body.innerText.includes({text:?})"));
    }

    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        self.browser.ask(&["click", &self.number, selector]);
    }

    #[track_caller]
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        self.browser.ask(&["type", &self.number, selector, text]);
    }

    #[track_caller]
    pub(crate) fn choose_file(&self, selector: &str, path: &str) {
        self.browser.ask(&["file", &self.number, selector, path]);
    }

    #[track_caller]
    pub(crate) fn close(self) {
        self.browser.ask(&["close", &self.number]);
    }

    /// As it looks, where `WORKERMAN_PICTURES` names a folder: for people.
    fn picture(&self, name: &str) {
        if let Ok(folder) = std::env::var("WORKERMAN_PICTURES") {
            self.browser.ask(&["picture", &self.number, &format!("{folder}/{name}.png")]);
        }
    }
}

#[test]
fn the_sse_page_counts_its_viewers_and_comes_back_when_the_server_does() {
    let (mut server, port) = web_example("sse", 0, &[]);
    let browser = Browser::start(&[]);
    let page = browser.open(&format!("http://127.0.0.1:{port}/"));
    let up = |at_least: u32| {
        page.wait_for(&format!("Number(document.getElementById('up').textContent) >= {at_least}"));
    };
    let viewers = |count: u32| {
        page.wait_for(&format!("document.getElementById('viewers').textContent === '{count}'"));
    };
    up(2);
    viewers(1);
    let other = browser.open(&format!("http://127.0.0.1:{port}/"));
    viewers(2);
    other.close();
    viewers(1);
    page.picture("sse");
    server.kill();
    page.wait_for_text("not connected");
    page.picture("sse-lost");
    let _again = web_example("sse", port, &[]);
    page.wait_for("!document.body.innerText.includes('not connected')");
    up(1);
    viewers(1);
}

#[test]
fn the_upload_page_takes_a_file_shows_it_and_gives_it_back() {
    let folder = Folder::new();
    let content: Vec<u8> = (0..1_u32 << 20).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
    let path = folder.path("käse <b>.bin");
    fs::write(&path, &content).expect("our own folder can be written");
    fs::create_dir(folder.path("kept")).expect("our own folder can be written");
    let kept = folder.path("kept").to_string_lossy().into_owned();
    let (_server, port) = web_example("upload", 0, &[&kept]);
    let browser = Browser::start(&[]);
    let page = browser.open(&format!("http://127.0.0.1:{port}/"));
    page.picture("upload");
    page.type_into("input[name=title]", "Käse & <i>Brot</i>");
    page.choose_file("input[type=file]", &path.to_string_lossy());
    page.click("button");
    page.wait_for_text("käse <b>.bin");
    page.wait_for_text("1048576 bytes");
    page.wait_for_text("Käse & <i>Brot</i>");
    page.picture("upload-done");
    let sum = "fetch(document.querySelector('a').href).then(answer => answer.arrayBuffer()).then(\
               got => new Uint8Array(got).reduce((sum, byte) => (sum * 31 + byte) >>> 0, 7))";
    let expected =
        content.iter().fold(7_u32, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    assert_eq!(page.evaluate(sum), expected.to_string(), "what came back is another file");
}

/// A WebSocket echo and a page; and with which statuses it refused.
fn echo(admitted: Option<String>) -> (Running, Arc<Mutex<Vec<u16>>>) {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let note = refused.clone();
    let server = workerman::spawn(move || {
        let worker = Worker::<Http>::listen("http://127.0.0.1:0")?;
        if let Some(origin) = admitted {
            worker.allow_origin(&origin)?;
        }
        worker.on_message(move |con, request| {
            if request.path() != "/ws" {
                con.send("<!doctype html><title>page</title>a page");
                return;
            }
            match Websocket::accept(&request) {
                Ok(websocket) => con.upgrade_with(websocket).on_message(|con, data| con.send(data)),
                Err(refusal) => {
                    note.lock().expect("nobody panics with it").push(refusal.status());
                    con.send(refusal);
                }
            }
        });
        Ok(())
    });
    (server.expect("a port of loopback is free"), refused)
}

/// What becomes of a WebSocket that the page opens there.
#[track_caller]
fn websocket(page: &Page, host: &str, port: u16) -> String {
    page.evaluate(&format!(
        "new Promise(done => {{ const ws = new WebSocket('ws://{host}:{port}/ws'); \
         ws.onopen = () => ws.send('hello'); ws.onmessage = event => done(event.data); \
         ws.onclose = event => done('closed ' + event.code); }})"
    ))
}

#[test]
fn a_page_of_another_host_gets_no_websocket_unless_the_worker_admits_it() {
    let browser = Browser::start(&["--host-resolver-rules=MAP other.test 127.0.0.1"]);
    let (site, rebound) = echo(None);
    let port = site.addr().port();
    let page = browser.open(&format!("http://other.test:{port}/"));
    let (strict, refused) = echo(None);
    assert_eq!(websocket(&page, "127.0.0.1", strict.addr().port()), "closed 1006");
    assert_eq!(*refused.lock().expect("nobody panics with it"), [403]);
    let (admitting, refused) = echo(Some(format!("http://other.test:{port}")));
    assert_eq!(websocket(&page, "127.0.0.1", admitting.addr().port()), "hello");
    assert_eq!(*refused.lock().expect("nobody panics with it"), []);
    // Its name was made to point here (DNS rebinding): to the browser that is the page's own host.
    assert_eq!(websocket(&page, "other.test", port), "closed 1006");
    assert_eq!(*rebound.lock().expect("nobody panics with it"), [403]);
}

#[test]
fn a_page_of_the_same_host_gets_its_websocket() {
    let browser = Browser::start(&[]);
    let (server, _) = echo(None);
    let port = server.addr().port();
    for host in ["127.0.0.1", "localhost"] {
        let page = browser.open(&format!("http://{host}:{port}/"));
        assert_eq!(websocket(&page, "127.0.0.1", port), "hello", "{host}");
    }
}

#[test]
fn two_people_chat_and_what_one_writes_is_no_markup_to_the_other() {
    let (_server, port) = web_example("chat", 0, &[]);
    let browser = Browser::start(&[]);
    let [ann, bob] = ["Ann", "Bob"].map(|name| {
        let page = browser.open(&format!("http://127.0.0.1:{port}/"));
        page.type_into("#name", name);
        page.click("#send");
        page.wait_for("!document.getElementById('message').disabled");
        page
    });
    ann.wait_for_text("Bob has joined");
    for (from, to, name) in [(&ann, &bob, "Ann"), (&bob, &ann, "Bob")] {
        from.type_into("#message", &format!("<b>hello</b> from {name}"));
        from.click("#send");
        to.wait_for_text(&format!("{name}: <b>hello</b> from {name}"));
    }
    ann.picture("chat");
    bob.close();
    ann.wait_for_text("Bob has left");
}
