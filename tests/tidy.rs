//! Promise: the source keeps its layers, reaches the world through few doors, and stays readable.
//!
//! `docs/design.md` has the reasons. Each complaint names file, line and rule.
use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS: usize = 100;
const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Who may use whom: a layer uses those below, and its own where `within` says so.
struct Layer {
    modules: &'static [&'static str],
    /// Groups that it may import, beside itself.
    below: &'static [&'static str],
}

const LAYERS: &[Layer] = &[
    Layer { modules: &["error", "data", "interval", "limits", "random"], below: &[] },
    Layer { modules: &["protocols"], below: LAYER_0 },
    Layer { modules: &["events::slab", "events::wheel"], below: LAYER_0 },
    Layer { modules: &["transport"], below: LAYER_0 },
    Layer {
        modules: &["events"],
        below: &["error", "data", "interval", "limits", "random", "events::slab", "events::wheel"],
    },
    Layer { modules: &["connection", "timer"], below: UP_TO_3 },
    Layer { modules: &["worker", "bus", "fuzzing"], below: UP_TO_4 },
];
const LAYER_0: &[&str] = &["error", "data", "interval", "limits", "random"];
const UP_TO_3: &[&str] = &[
    "error",
    "data",
    "interval",
    "limits",
    "random",
    "protocols",
    "events::slab",
    "events::wheel",
    "transport",
    "events",
];
const UP_TO_4: &[&str] = &[
    "error",
    "data",
    "interval",
    "limits",
    "random",
    "protocols",
    "events::slab",
    "events::wheel",
    "transport",
    "events",
    "connection",
    "timer",
];

/// Names that cross the layers, each for a reason.
const CROSSING: &[(&str, &str)] = &[
    // A failure carries the server's answer, and a callback may end with `Timer::add(..)`.
    ("error", "Response"),
    ("error", "Timer"),
];

/// What lies outside the program, by the words that name it, and the files that may.
struct Door {
    world: &'static str,
    words: &'static [&'static str],
    files: &'static [&'static str],
}

const DOORS: &[Door] = &[
    Door {
        world: "waiting for events",
        words: &["mio"],
        files: &["events/poller.rs", "events/signal.rs", "transport/"],
    },
    Door {
        world: "time",
        words: &["Instant::now", "SystemTime::now"],
        // The check's clock stands still from its first look on.
        files: &["events/mod.rs", "protocols/check/session.rs"],
    },
    Door { world: "sleeping", words: &["sleep"], files: &[] },
    Door {
        world: "sockets",
        words: &[
            "socket2",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "UnixListener",
            "UnixDatagram",
        ],
        files: &["transport/"],
    },
    Door { world: "TLS", words: &["rustls", "webpki_roots"], files: &["transport/"] },
    Door {
        world: "names",
        words: &["ToSocketAddrs", "to_socket_addrs", "getaddrinfo"],
        files: &["events/resolver.rs"],
    },
    Door {
        world: "files",
        words: &["std::fs"],
        files: &[
            "events/signal.rs",
            "protocols/http/files.rs",
            "protocols/http/file_sessions.rs",
            "transport/tls/pem.rs",
        ],
    },
    Door { world: "randomness", words: &["getrandom"], files: &["random.rs"] },
    Door {
        world: "signals",
        words: &["signal_hook", "signal_hook_mio"],
        files: &["events/signal.rs"],
    },
];

const BANNED: &[(&str, &str)] = &[
    (".unwrap()", "say with `expect` why it cannot fail, or return the error"),
    ("todo!", "write it, or open an issue"),
    ("unimplemented!", "write it, or return an error"),
    ("dbg!", "take it out"),
    ("unsafe", "this crate has none"),
    ("crate::*", "name what is imported"),
    ("crate::prelude", "name what is imported"),
];

#[test]
fn the_source_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    assert!(files.len() > 5, "the source is not where it was");
    let lib = fs::read_to_string(root.join("lib.rs")).expect("src/lib.rs is there");
    let roots = reexports(&strip(&lib));
    let mut complaints = Vec::new();
    for path in files {
        let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a readable source file");
        complaints.extend(check(&name, &text, &roots));
    }
    let count = complaints.len();
    assert!(complaints.is_empty(), "{count} complaints:\n{}", complaints.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// All complaints about one file; `name` is its path below `src`, with slashes.
fn check(name: &str, text: &str, roots: &[(String, String)]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut say = |line: usize, what: String| complaints.push(format!("src/{name}:{line}: {what}"));
    if !text.starts_with("//!") {
        say(1, "a file begins with a line `//! …` that says what it is".into());
    }
    for (at, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS {
            say(at + 1, format!("{columns} columns, more than {COLUMNS}"));
        }
    }
    let lines = text.lines().count();
    if lines > FILE_LINES {
        say(lines, format!("{lines} lines, more than {FILE_LINES}"));
    }
    if is_test_file(name) {
        return complaints;
    }
    let code = without_tests(&strip(text));
    for (line, function, length) in long_functions(&code) {
        say(line, format!("fn {function} has {length} lines, more than {FUNCTION_LINES}"));
    }
    for &(word, instead) in BANNED {
        for line in lines_with(&code, word) {
            say(line, format!("`{word}`: {instead}"));
        }
    }
    for door in DOORS {
        if door.files.iter().any(|file| name.starts_with(file)) {
            continue;
        }
        for word in door.words {
            for line in lines_with(&code, word) {
                let doors = door.files.join(", ");
                say(line, format!("`{word}`: the door to {} is {doors}", door.world));
            }
        }
    }
    if name != "lib.rs" {
        for (line, what) in crossed_layers(name, &code, roots) {
            say(line, what);
        }
    }
    complaints
}

/// Files that their parent includes for tests alone.
fn is_test_file(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let folder = name.split('/').any(|part| part == "tests");
    folder || file == "tests.rs" || file == "testing.rs" || file.ends_with("_tests.rs")
}

// ------------------------------------------------------------------------------------- layers

fn crossed_layers(name: &str, code: &str, roots: &[(String, String)]) -> Vec<(usize, String)> {
    let module = module_of(name);
    let own = group(&module);
    let Some(layer) = LAYERS.iter().find(|l| l.modules.contains(&own.as_str())) else {
        return vec![(1, format!("module `{own}` is in no layer: add it to tests/tidy.rs"))];
    };
    let mut found = Vec::new();
    for (line, path) in imports(code, &module) {
        let first = path.split("::").next().unwrap_or_default();
        if first == "*" || CROSSING.contains(&(own.as_str(), first)) {
            continue;
        }
        let target = match roots.iter().find(|(exported, _)| exported == first) {
            Some((_, module)) => group(module),
            None => group(&path),
        };
        let known = LAYERS.iter().any(|l| l.modules.contains(&target.as_str()));
        if !known {
            found.push((line, format!("crate::{path} leads to no module of a layer")));
        } else if !layer.modules.contains(&target.as_str())
            && !layer.below.contains(&target.as_str())
        {
            found.push((line, format!("`{own}` may not use `{target}` (crate::{path})")));
        }
    }
    found
}

/// `events/wheel.rs` → `events::wheel`, `events/mod.rs` → `events`.
fn module_of(name: &str) -> String {
    let path = name.trim_end_matches(".rs");
    path.trim_end_matches("/mod").replace('/', "::")
}

/// The part of a path that the table knows.
fn group(path: &str) -> String {
    let mut parts = path.split("::");
    let first = parts.next().unwrap_or_default();
    match (first, parts.next()) {
        ("events", Some(part @ ("slab" | "wheel"))) => format!("events::{part}"),
        _ => first.to_owned(),
    }
}

/// What a file names by `crate::…` and `super::…`, as paths from the root, with their lines.
fn imports(code: &str, module: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if is_word_start(code, at) {
            let mut paths = Vec::new();
            use_tree(&code[at + "crate::".len()..], "", &mut paths);
            found.extend(paths.into_iter().map(|path| (line_of(code, at), path)));
        }
    }
    for (at, _) in code.match_indices("super::") {
        if !is_word_start(code, at) || code[..at].ends_with("super::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut from: Vec<&str> = module.split("::").collect();
        while let Some(after) = rest.strip_prefix("super::") {
            from.pop();
            rest = after;
        }
        if from.is_empty() {
            continue; // An inline module of a file at the root: it means that file.
        }
        let mut paths = Vec::new();
        use_tree(rest, &format!("{}::", from.join("::")), &mut paths);
        found.extend(paths.into_iter().map(|path| (line_of(code, at), path)));
    }
    found
}

/// The paths of `a::{b, c::d}`, each behind `prefix`; returns what follows the tree.
fn use_tree<'a>(text: &'a str, prefix: &str, paths: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(rest) = rest.strip_prefix('}') {
                return rest;
            }
            if rest.is_empty() {
                return rest;
            }
            rest = use_tree(rest, prefix, paths);
            // ` as other`, a comma, or what does not belong to a tree.
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            rest = rest[end..].trim_start_matches(',');
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    let path = format!("{prefix}{word}");
    match rest.strip_prefix("::") {
        Some(more) if more.starts_with(|c: char| c.is_alphabetic() || "_{*".contains(c)) => {
            use_tree(more, &format!("{path}::"), paths)
        }
        _ => {
            paths.push(path.trim_end_matches("::self").to_owned());
            rest
        }
    }
}

/// `pub use data::{Data, Payload};` in lib.rs: which module each name of the root comes from.
fn reexports(lib: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in lib.match_indices("pub use ") {
        let mut paths = Vec::new();
        use_tree(&lib[at + "pub use ".len()..], "", &mut paths);
        for path in paths {
            if let Some((module, name)) = path.rsplit_once("::") {
                found.push((name.to_owned(), module.to_owned()));
            }
        }
    }
    found
}

// --------------------------------------------------------------------------------------- text

/// The same text with comments, strings and characters blanked; lines stay where they are.
fn strip(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` where none begins.
fn skip(chars: &[char], at: usize) -> usize {
    let ahead = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    match (chars[at], ahead(1)) {
        ('/', '/') => at + chars[at..].iter().take_while(|&&c| c != '\n').count(),
        ('/', '*') => end_of_comment(chars, at),
        ('"', _) => end_of_string(chars, at),
        ('r', '"' | '#') if at == 0 || !is_word(chars[at - 1]) => end_of_raw_string(chars, at),
        ('b', 'r') if at == 0 || !is_word(chars[at - 1]) => {
            let end = end_of_raw_string(chars, at + 1);
            if end == at + 1 { at } else { end }
        }
        ('\'', '\\') => {
            let tail = &chars[(at + 3).min(chars.len())..];
            at + 4 + tail.iter().take_while(|&&c| c != '\'').count()
        }
        ('\'', _) if ahead(2) == '\'' => at + 3,
        _ => at,
    }
    .min(chars.len())
}

fn end_of_comment(chars: &[char], begin: usize) -> usize {
    let (mut at, mut depth) = (begin, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn end_of_string(chars: &[char], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// `begin` at the `r`; unchanged where it is a raw identifier or a word.
fn end_of_raw_string(chars: &[char], begin: usize) -> usize {
    let hashes = chars[begin + 1..].iter().take_while(|&&c| c == '#').count();
    let mut at = begin + 1 + hashes;
    if chars.get(at) != Some(&'"') {
        return begin;
    }
    at += 1;
    while at < chars.len() {
        let closed =
            chars[at] == '"' && chars[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
        if closed {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

/// Stripped code with every item behind `#[cfg(test)]` blanked.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(begin) = out.find("#[cfg(test)]") {
        let end = end_of_item(&out, begin);
        let blank: String =
            out[begin..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(begin..end, &blank);
    }
    out
}

/// Behind the `;` or the closing brace of the item at `begin`.
fn end_of_item(code: &str, begin: usize) -> usize {
    let mut round = 0;
    for (at, c) in code[begin..].char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            ';' | ',' if round == 0 => return begin + at + 1,
            '{' if round == 0 => return closing_brace(code, begin + at) + 1,
            _ => {}
        }
    }
    code.len()
}

fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at;
        }
    }
    code.len() - 1
}

/// Line, name and length of functions that are too long.
fn long_functions(code: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name: String = code[at + 3..].chars().take_while(|&c| is_word(c)).collect();
        if name.is_empty() || !is_word_start(code, at) {
            continue;
        }
        let end = end_of_item(code, at);
        let (first, last) = (line_of(code, at), line_of(code, end.saturating_sub(1)));
        if last - first + 1 > FUNCTION_LINES {
            found.push((first, name, last - first + 1));
        }
    }
    found
}

/// Lines that have `word` as a word of its own.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let last = word.chars().next_back().unwrap_or_default();
    let mut lines: Vec<usize> = code
        .match_indices(word)
        .filter(|&(at, _)| {
            let after = code[at + word.len()..].chars().next().unwrap_or_default();
            let starts = word.starts_with('.') || is_word_start(code, at);
            starts && !(is_word(last) && is_word(after))
        })
        .map(|(at, _)| line_of(code, at))
        .collect();
    lines.dedup();
    lines
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_word_start(code: &str, at: usize) -> bool {
    !code[..at].chars().next_back().is_some_and(is_word)
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

// ------------------------------------------------------------------- the checker can complain

const LIB: &str = "pub use data::{Data, Payload};\npub use worker::Worker;\n\
    pub use protocols::{Response, Tcp};\npub use timer::Timer;\n";

fn complaints(name: &str, text: &str) -> Vec<String> {
    check(name, text, &reexports(LIB))
}

#[track_caller]
fn one(name: &str, code: &str, expected: &str) {
    let found = complaints(name, &format!("//! Title.\n{code}\n"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(expected), "{found:?}");
}

#[track_caller]
fn none(name: &str, code: &str) {
    let found = complaints(name, &format!("//! Title.\n{code}\n"));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn size_and_title_are_judged() {
    assert!(complaints("data.rs", "fn f() {}")[0].starts_with("src/data.rs:1: a file begins"));
    one("data.rs", &format!("// {}", "ä".repeat(98)), "src/data.rs:2: 101 columns");
    none("data.rs", &format!("// {}", "ä".repeat(97)));
    one("data.rs", &"\n".repeat(600), "602 lines");
    one("data.rs", &format!("fn long() {{{}}}", "\n".repeat(70)), ":2: fn long has 71 lines");
    none("data.rs", &format!("fn f(a: [u8; 2]) {{{}}}\nfn g();", "\n".repeat(69)));
    none("data.rs", &format!("#[cfg(test)]\nmod tests {{ fn f() {{{}}} }}", "\n".repeat(90)));
}

#[test]
fn banned_words_are_found_in_code_only() {
    one("data.rs", "fn f() { g().unwrap() }", "src/data.rs:2: `.unwrap()`");
    one("data.rs", "fn f() { todo!() }", "todo!");
    one("data.rs", "fn f() { dbg!(1); }", "dbg!");
    one("data.rs", "fn f() { unsafe { g() } }", "unsafe");
    none(
        "data.rs",
        "// unsafe\n/* todo!() /* */ dbg!() */\nconst A: &str = \"x.unwrap()\\\"todo!\";",
    );
    none("data.rs", "const A: &str = r#\"unsafe \" unsafe\"#; const B: &[u8] = br\"unsafe\";");
    none("data.rs", "const Q: char = '\"'; const B: char = '\\''; #![forbid(unsafe_code)]");
    one("data.rs", "fn f<'a>(a: &'a str) -> &'a str { a.g().unwrap() }", "unwrap");
    none("data.rs", "#[cfg(test)]\nmod tests {\n fn f() { g().unwrap() }\n}");
    one("data.rs", "#[cfg(test)]\nmod tests;\nfn f() { g().unwrap() }", ":4: `.unwrap()`");
}

#[test]
fn each_door_is_guarded() {
    one("connection/mod.rs", "use mio::Token;", "the door to waiting for events");
    one("timer.rs", "fn f() { std::time::Instant::now(); }", "the door to time is events/mod.rs");
    one("worker/run.rs", "fn f() { getrandom::fill(&mut []); }", "randomness");
    one("events/mod.rs", "use signal_hook::consts;", "signals");
    one("transport/address.rs", "use std::net::ToSocketAddrs;", "names");
    one("worker/listener.rs", "use std::net::TcpListener;", "sockets");
    one("connection/dial.rs", "use rustls::ClientConfig;", "TLS");
    one("worker/run.rs", "fn f() { std::thread::sleep(A); }", "sleeping");
    none("events/poller.rs", "use mio::Poll;");
    none("transport/tcp.rs", "use mio::net::TcpStream;");
    none("events/mod.rs", "fn now() -> Instant { Instant::now() }");
    none("worker/run.rs", "fn f() { let domiologist = asleep(); }");
}

#[test]
fn layers_point_one_way() {
    one("protocols/tcp.rs", "use crate::events::slab;", "`protocols` may not use `events::slab`");
    one("protocols/tcp.rs", "use crate::{\n Data,\n Worker,\n};", "(crate::Worker)");
    one("data.rs", "use crate::protocols::Protocol;", "`data` may not use `protocols`");
    one("events/mod.rs", "fn f(_: crate::connection::Core) {}", "may not use `connection`");
    one("events/wheel.rs", "use super::poller;", "`events::wheel` may not use `events`");
    one("events/wheel.rs", "use super::{slab, poller::A};", "may not use `events`");
    one("transport/tcp.rs", "use crate::events;", "`transport` may not use `events`");
    one("connection/slot.rs", "use crate::worker::run;", "may not use `worker`");
    one("data.rs", "use crate::nowhere;", "leads to no module");
    one("strange.rs", "fn f() {}", "`strange` is in no layer");
    one("data.rs", "use crate::*;", "name what is imported");
    none("error.rs", "use crate::{Response, Timer};");
    none("events/mod.rs", "use wheel::Wheel; use crate::error::{self, Settle as S};");
    none("connection/slot.rs", "use super::core; use crate::{Data, events::{slab, wheel::Wheel}};");
    none("protocols/websocket/ws.rs", "use super::super::Protocol; use super::frame;");
    none("worker/run.rs", "use crate::{connection, events::wheel, timer::Timer as T};");
    none("data.rs", "#[cfg(test)]\nmod tests {\n use crate::Worker;\n}");
}
