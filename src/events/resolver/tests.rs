//! Names looked up in threads: one look-up a name, deadlines, a short memory.
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

const BOUND: Duration = Duration::from_secs(10);

/// A resolver whose answers a test gives: each look-up takes the next one, and waits for it.
struct Bench {
    resolver: Resolver,
    answers: Sender<io::Result<Vec<SocketAddr>>>,
    asked: Arc<AtomicUsize>,
    begun: Receiver<String>,
    notified: Receiver<()>,
    start: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with_idle(IDLE)
    }

    fn with_idle(idle: Duration) -> Self {
        let (answers, given) = channel();
        let given = Mutex::new(given);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let (tell_begun, begun) = channel();
        let (tell, notified) = channel();
        let lookup = move |host: &str| {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = tell_begun.send(host.to_string());
            let given: MutexGuard<Receiver<_>> = given.lock().expect("lock");
            given.recv().unwrap_or_else(|_| Err(io::Error::other("the test has ended")))
        };
        let notify = Arc::new(move || {
            let _ = tell.send(());
        });
        let resolver = Resolver::with_idle(notify, Arc::new(lookup), idle);
        Bench { resolver, answers, asked, begun, notified, start: Instant::now() }
    }

    fn ask(&mut self, host: &str, port: u16, ticket: u64) -> Option<Resolved> {
        self.resolver.resolve(host, port, ticket, self.start)
    }

    fn answer(&self, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().expect("address")).collect();
        self.answers.send(Ok(addresses)).expect("the look-up waits");
    }

    fn ready(&mut self) -> Vec<(u64, Resolved)> {
        self.notified.recv_timeout(BOUND).expect("notified");
        self.resolver.take_ready(self.start)
    }
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().expect("address")).collect()
}

#[test]
fn literals_need_no_look_up() {
    let mut bench = Bench::new();
    let got = bench.ask("127.0.0.1", 80, 1).expect("at once").expect("address");
    assert_eq!(got, addresses(&["127.0.0.1:80"]));
    let got = bench.ask("::1", 80, 1).expect("at once").expect("address");
    assert_eq!(got, addresses(&["[::1]:80"]));
    assert_eq!(bench.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn one_look_up_a_name_serves_all_who_ask_meanwhile() {
    let mut bench = Bench::new();
    assert!(bench.ask("a.example", 80, 1).is_none());
    assert!(bench.ask("A.Example", 443, 2).is_none());
    bench.answer(&["192.0.2.1:0"]);
    let got = bench.ready();
    assert_eq!(
        got,
        [(1, Ok(addresses(&["192.0.2.1:80"]))), (2, Ok(addresses(&["192.0.2.1:443"])))]
    );
    assert_eq!(bench.asked.load(Ordering::SeqCst), 1);
    assert!(bench.resolver.take_ready(bench.start).is_empty());
}

#[test]
fn what_was_found_holds_for_ten_seconds_and_what_led_nowhere_is_forgotten() {
    let mut bench = Bench::new();
    assert!(bench.ask("a.example", 80, 1).is_none());
    bench.answer(&["192.0.2.1:0"]);
    bench.ready();
    let known = bench.ask("a.EXAMPLE", 81, 2).expect("known").expect("address");
    assert_eq!(known, addresses(&["192.0.2.1:81"]));

    bench.resolver.forget("A.example");
    assert!(bench.ask("a.example", 80, 3).is_none());
    bench.answer(&["192.0.2.2:0"]);
    bench.ready();

    bench.start += FRESH - Duration::from_millis(1);
    assert!(bench.ask("a.example", 80, 4).is_some());
    bench.start += Duration::from_millis(1);
    assert!(bench.ask("a.example", 80, 5).is_none());
    bench.answer(&["192.0.2.3:0"]);
    assert_eq!(bench.ready(), [(5, Ok(addresses(&["192.0.2.3:80"])))]);
    assert_eq!(bench.asked.load(Ordering::SeqCst), 3);
}

#[test]
fn failures_are_told_with_the_name_and_not_kept() {
    let mut bench = Bench::new();
    for answer in [Err(io::Error::other("no such host")), Ok(Vec::new())] {
        assert!(bench.ask("a.example", 80, 1).is_none());
        bench.answers.send(answer).expect("send");
        let (_, failed) = bench.ready().remove(0);
        let error = failed.expect_err("failed").to_string();
        assert!(error.contains("the name a.example has no address"), "{error}");
    }
    assert_eq!(bench.asked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_look_up_that_panics_fails_and_leaves_the_pool_alive() {
    let (tell, notified) = channel();
    let notify = Arc::new(move || {
        let _ = tell.send(());
    });
    let lookup = |host: &str| match host {
        "bad.example" => panic!("as a test's look-up may"),
        _ => Ok(addresses(&["192.0.2.1:0"])),
    };
    let mut resolver = Resolver::with_lookup(notify, Arc::new(lookup));
    let now = Instant::now();
    for (ticket, host, fails) in [(1, "bad.example", true), (2, "good.example", false)] {
        assert!(resolver.resolve(host, 1, ticket, now).is_none());
        notified.recv_timeout(BOUND).expect("notified");
        let got = resolver.take_ready(now);
        assert_eq!((got[0].0, got[0].1.is_err()), (ticket, fails));
    }
}

#[test]
fn a_slow_name_holds_up_no_other_one() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let lookup = move |host: &str| {
        if host == "slow.example" {
            let _ = held.lock().expect("lock").recv();
        }
        Ok(addresses(&["192.0.2.1:0"]))
    };
    let (tell, notified) = channel();
    let notify = Arc::new(move || {
        let _ = tell.send(());
    });
    let mut resolver = Resolver::with_lookup(notify, Arc::new(lookup));
    let now = Instant::now();
    assert!(resolver.resolve("slow.example", 1, 1, now).is_none());
    for ticket in 2..10 {
        assert!(resolver.resolve(&format!("{ticket}.example"), 1, ticket, now).is_none());
        notified.recv_timeout(BOUND).expect("notified");
        assert_eq!(resolver.take_ready(now)[0].0, ticket);
    }
    drop(release);
    notified.recv_timeout(BOUND).expect("notified");
    assert_eq!(resolver.take_ready(now)[0].0, 1);
}

#[test]
fn threads_grow_to_sixteen_and_the_rest_waits() {
    let mut bench = Bench::new();
    for ticket in 0..40 {
        assert!(bench.ask(&format!("{ticket}.example"), 1, ticket).is_none());
    }
    for _ in 0..THREADS {
        bench.begun.recv_timeout(BOUND).expect("begun");
    }
    assert_eq!(bench.resolver.pool.lock().threads, THREADS);
    assert_eq!(bench.resolver.pool.lock().queue.len(), 40 - THREADS);
    let mut answered = 0;
    for _ in 0..40 {
        bench.answer(&["192.0.2.1:0"]);
        answered += bench.ready().len();
    }
    answered += bench.resolver.take_ready(bench.start).len();
    assert_eq!(answered, 40);
    assert_eq!(bench.resolver.pool.lock().threads, THREADS);
}

#[test]
fn a_thread_without_work_ends() {
    let mut bench = Bench::with_idle(Duration::from_millis(1));
    assert!(bench.ask("a.example", 1, 1).is_none());
    bench.answer(&["192.0.2.1:0"]);
    bench.ready();
    let start = Instant::now();
    while bench.resolver.pool.lock().threads > 0 {
        assert!(start.elapsed() < BOUND, "it ends");
        thread::yield_now();
    }
    assert!(bench.ask("b.example", 1, 2).is_none());
    bench.answer(&["192.0.2.1:0"]);
    assert_eq!(bench.ready().len(), 1, "and another one comes when there is work");
}

#[test]
fn an_answer_that_nobody_waits_for_is_dropped_and_one_that_has_not_begun_is_withdrawn() {
    let mut bench = Bench::new();
    for ticket in 0..THREADS as u64 + 2 {
        assert!(bench.ask(&format!("{ticket}.example"), 1, ticket).is_none());
    }
    for _ in 0..THREADS {
        bench.begun.recv_timeout(BOUND).expect("begun");
    }
    bench.resolver.abandon(THREADS as u64);
    assert_eq!(bench.resolver.pool.lock().queue.len(), 1);
    bench.resolver.abandon(0);
    let mut tickets = Vec::new();
    for _ in 0..THREADS + 1 {
        bench.answer(&["192.0.2.1:0"]);
        tickets.extend(bench.ready().into_iter().map(|(ticket, _)| ticket));
    }
    tickets.extend(bench.resolver.take_ready(bench.start).into_iter().map(|(ticket, _)| ticket));
    tickets.sort_unstable();
    let expected: Vec<u64> = (1..THREADS as u64).chain([THREADS as u64 + 1]).collect();
    assert_eq!(tickets, expected);
    assert!(bench.resolver.flights.is_empty());
}

#[test]
fn dropping_it_waits_for_nobody_and_notifies_nobody() {
    let mut bench = Bench::new();
    assert!(bench.ask("a.example", 1, 1).is_none());
    bench.begun.recv_timeout(BOUND).expect("begun");
    let pool = bench.resolver.pool.clone();
    let Bench { resolver, answers, notified, .. } = bench;
    drop(resolver);
    assert_eq!(pool.lock().threads, 1, "still within its look-up");
    drop(answers);
    drop(pool);
    // The thread's end is the end of the notifying closure, and so of this channel.
    let end = notified.recv_timeout(BOUND).expect_err("not notified");
    assert_eq!(end, std::sync::mpsc::RecvTimeoutError::Disconnected);
}

#[test]
fn notify_may_use_the_resolvers_locks() {
    let slot: Arc<Mutex<Option<Arc<Pool>>>> = Arc::default();
    let (tell, notified) = channel();
    let pool = slot.clone();
    let notify = Arc::new(move || {
        let pool = pool.lock().expect("lock").clone().expect("set");
        let _ = tell.send(pool.lock().answers.len());
    });
    let lookup = |_: &str| Ok(addresses(&["192.0.2.1:0"]));
    let mut resolver = Resolver::with_lookup(notify, Arc::new(lookup));
    *slot.lock().expect("lock") = Some(resolver.pool.clone());
    assert!(resolver.resolve("a.example", 1, 1, Instant::now()).is_none());
    assert_eq!(notified.recv_timeout(BOUND), Ok(1));
    *slot.lock().expect("lock") = None;
}

#[test]
fn the_system_knows_this_machine() {
    let (tell, notified) = channel();
    let notify = Arc::new(move || {
        let _ = tell.send(());
    });
    let mut resolver = Resolver::new(notify);
    let now = Instant::now();
    assert!(resolver.resolve("localhost", 80, 7, now).is_none());
    notified.recv_timeout(BOUND).expect("notified");
    let (ticket, found) = resolver.take_ready(now).remove(0);
    let found = found.expect("localhost has an address");
    assert!(ticket == 7 && found.iter().all(|one| one.ip().is_loopback() && one.port() == 80));
}

#[test]
fn families_take_turns_and_nothing_is_tried_twice() {
    let rows: [(&[&str], &[&str]); 4] = [
        (&[], &[]),
        (&["1.1.1.1:1", "1.1.1.2:1"], &["1.1.1.1:1", "1.1.1.2:1"]),
        (
            &["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1", "[::1]:1", "[::2]:1"],
            &["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "1.1.1.3:1"],
        ),
        (&["[::1]:1", "[::1]:1", "1.1.1.1:1", "1.1.1.1:1"], &["[::1]:1", "1.1.1.1:1"]),
    ];
    for (given, expected) in rows {
        assert_eq!(interleave(&addresses(given)), addresses(expected));
    }
}
