//! A logger for tests: each thread sees what it logged itself, and may act on each line.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Once;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static HOOK: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
    static HOOKED: Cell<bool> = const { Cell::new(false) };
}

struct ByThread;

impl log::Log for ByThread {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // What others log for diagnosis is only an occasion for the hook.
        if record.level() < log::Level::Trace {
            let line = format!("{} {}", record.level(), record.args());
            let _ = LINES.try_with(|lines| lines.borrow_mut().push(line));
        }
        let hook = HOOK.try_with(|hook| hook.borrow().clone()).ok().flatten();
        let Some(hook) = hook else { return };
        if !HOOKED.replace(true) {
            hook();
            HOOKED.set(false);
        }
    }

    fn flush(&self) {}
}

/// From now on the lines of this thread are kept.
pub(crate) fn keep_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&ByThread).expect("the only logger of the tests");
        log::set_max_level(log::LevelFilter::Trace);
    });
    LINES.with(|lines| lines.borrow_mut().clear());
}

/// `LEVEL text` of each line that this thread logged since `keep_log`, without trace lines.
pub(crate) fn logged() -> Vec<String> {
    LINES.with(|lines| lines.borrow().clone())
}

/// How many lines begin with this level and hold this text.
pub(crate) fn logged_with(level: &str, text: &str) -> usize {
    let lines = logged();
    lines.iter().filter(|line| line.starts_with(level) && line.contains(text)).count()
}

/// Runs inside the logger at each line of this thread, trace lines too, but not inside itself.
pub(crate) fn at_each_line(hook: Option<Rc<dyn Fn()>>) {
    let old = HOOK.with(|place| place.replace(hook));
    drop(old);
}
