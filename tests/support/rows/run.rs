//! Plays the rows, and holds `docs/conformance.md` to what came of them: it has each row, and is
//! written where `WORKERMAN_BLESS=1` says so. A word on the command line plays the rows whose id has
//! it; with `TIMES` set each row says how long it took.
use super::conformance::{self, Line};
use super::play::Bench;
use super::row::{Check, Row};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Each with a loop of its own; a play waits now and then, so two a core.
const THREADS: usize = 4;
/// What hangs fails.
const IN_ALL: Duration = Duration::from_secs(240);

/// By the numbers of the section, then by name.
fn order(id: &str) -> (Vec<u32>, &str) {
    let (section, name) = id.split_once('-').unwrap_or((id, ""));
    (section.split('.').filter_map(|number| number.parse().ok()).collect(), name)
}

type Came = Result<usize, String>;

fn play_all(rows: &[Row]) -> Vec<Came> {
    let next = AtomicUsize::new(0);
    // What takes long begins first, lest one thread be left with it.
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&at| !rows[at].is_long());
    let came: Mutex<Vec<Option<Came>>> = Mutex::new(rows.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut bench = Bench::new();
                while let Some(&at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (row, begin) = (&rows[at], Instant::now());
                    let played = catch_unwind(AssertUnwindSafe(|| row.run(&bench)));
                    let played = played.unwrap_or_else(|_| {
                        bench = Bench::new();
                        Err("it panicked".into())
                    });
                    if std::env::var_os("TIMES").is_some() {
                        println!("{:8.3} s {}", begin.elapsed().as_secs_f64(), row.id);
                    }
                    came.lock().expect("no thread panics with it")[at] = Some(played);
                }
            });
        }
    });
    let came = came.into_inner().expect("the threads have ended");
    came.into_iter().map(|came| came.unwrap_or_else(|| Err("never played".into()))).collect()
}

/// Plays `rows` and settles the page's section `name`, which `command` makes.
pub(crate) fn all(name: &str, command: &str, mut rows: Vec<Row>) -> ExitCode {
    rows.sort_by(|a, b| order(a.id).cmp(&order(b.id)));
    for pair in rows.windows(2) {
        assert_ne!(pair[0].id, pair[1].id, "two rows of one name");
    }
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let whole = words.is_empty();
    let wanted = |row: &Row| whole || words.iter().any(|word| row.id.contains(word.as_str()));
    let rows: Vec<Row> = rows.into_iter().filter(wanted).collect();
    if std::env::args().any(|word| word == "--list") {
        rows.iter().for_each(|row| println!("{}: test", row.id));
        return ExitCode::SUCCESS;
    }
    let title = name.to_owned();
    std::thread::spawn(move || {
        std::thread::sleep(IN_ALL);
        eprintln!("the rows of {title} did not end within {IN_ALL:?}");
        std::process::exit(1);
    });
    let begin = Instant::now();
    let came = play_all(&rows);
    let mut failed: usize = 0;
    for (row, came) in rows.iter().zip(&came) {
        if let Err(wrong) = came {
            failed += 1;
            println!("test {} ... FAILED\n    {}\n    {wrong}", row.id, row.says);
        }
    }
    let untested = rows.iter().filter(|row| matches!(row.check, Check::None(_))).count();
    if whole && failed == 0 {
        let (lines, summary) = lines(&rows, &came);
        let body = format!("\n{summary}\n\n{}\n", conformance::table(&lines));
        if let Err(wrong) = conformance::settle(name, command, &body) {
            println!("{wrong}");
            failed += 1;
        }
    }
    let (verdict, passed) = match failed {
        0 => ("ok", rows.len() - untested),
        _ => ("FAILED", (rows.len() - untested).saturating_sub(failed)),
    };
    println!(
        "test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; finished in {:.2}s",
        begin.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn lines(rows: &[Row], came: &[Came]) -> (Vec<Line>, String) {
    let mut lines = Vec::new();
    let (mut plays, mut elsewhere, mut none) = (0, 0, 0);
    for (row, came) in rows.iter().zip(came) {
        let count = *came.as_ref().unwrap_or(&0);
        plays += count;
        let came = match &row.check {
            Check::Elsewhere(..) => {
                elsewhere += 1;
                "holds, in that test".into()
            }
            Check::None(why) => {
                none += 1;
                format!("not tested: {why}")
            }
            _ if count == 1 => "holds, 1 play".into(),
            _ => format!("holds, {count} plays"),
        };
        lines.push(Line {
            id: row.id.into(),
            says: row.says.into(),
            who: row.who().into(),
            fed: row.fed_text(),
            expected: row.expected_text(),
            came,
        });
    }
    let here = rows.len() - elsewhere - none;
    let summary = format!(
        "{} rows. {here} are played here, {plays} plays in all, each in the roles it names, whole \
         and octet by octet: none fails, none is let off. {elsewhere} are judged by other tests, \
         which the run looks up. {none} have no test, each with its reason.",
        rows.len()
    );
    (lines, summary)
}
