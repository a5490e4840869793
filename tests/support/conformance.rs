//! `docs/conformance.md`: each of its sections belongs to the test run, or the script, that makes
//! it; a run that finds other words there than it would write fails.
#![allow(dead_code)]
use std::fs;
use std::path::{Path, PathBuf};

/// With this set to 1 a run writes its section instead of comparing it.
const BLESS: &str = "WORKERMAN_BLESS";

/// One line of a section's table.
pub(crate) struct Line {
    /// Section of the document and a short name.
    pub(crate) id: String,
    /// What the document asks for, in our own words.
    pub(crate) says: String,
    /// Which of our sides it binds.
    pub(crate) who: String,
    pub(crate) fed: String,
    pub(crate) expected: String,
    /// What came of it: how many plays, all as expected; or why there is none.
    pub(crate) came: String,
}

/// The lines as a table of Markdown.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut text = String::from("| row | what is asked | who | fed | expected | result |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    for line in lines {
        let cells = [&line.id, &line.says, &line.who, &line.fed, &line.expected, &line.came];
        for cell in cells {
            text.push_str("| ");
            text.push_str(&cell.replace('|', "\\|").replace('\n', " "));
            text.push(' ');
        }
        text.push_str("|\n");
    }
    text
}

/// Compares the section between `<!-- begin NAME -->` and `<!-- end NAME -->` with `body`, or writes
/// it where the run is told to. `Err` says what differs and how to renew it.
pub(crate) fn settle(name: &str, command: &str, body: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    let bless = std::env::var(BLESS).is_ok_and(|value| value == "1");
    settle_in(&path, bless, name, command, body)
}

fn settle_in(
    path: &PathBuf,
    bless: bool,
    name: &str,
    command: &str,
    body: &str,
) -> Result<(), String> {
    let shown = path.display();
    let page = fs::read_to_string(path).map_err(|e| format!("{shown} cannot be read: {e}"))?;
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let place = page.find(&begin).map(|at| at + begin.len());
    let place = place.and_then(|from| page[from..].find(&end).map(|length| (from, from + length)));
    let Some((from, to)) = place else {
        return Err(format!("{shown} has no section between {begin:?} and {end:?}"));
    };
    let there = &page[from..to];
    if there == body {
        return Ok(());
    }
    if bless {
        let page = [&page[..from], body, &page[to..]].concat();
        return fs::write(path, page).map_err(|e| format!("{shown} cannot be written: {e}"));
    }
    let differs = there.lines().zip(body.lines()).find(|(old, new)| old != new);
    let (old, new) = differs.unwrap_or(("", "(one of them is longer)"));
    Err(format!(
        "{shown} does not say what this run found. There:\n  {old}\nThis run:\n  {new}\n\
         If the new result is right, `{BLESS}=1 {command}` writes it"
    ))
}
