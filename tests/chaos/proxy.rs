//! The network between client and server: bytes pass as a plan says, until something befalls them.
use crate::plan::{Fault, LinkPlan};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{AnyConnection, Connection, Limits, Role};

/// One connection to the proxy and the one that it dials, `sides[0]` the client's.
pub(crate) struct Link {
    plan: LinkPlan,
    sides: [AnyConnection; 2],
    narrow: [bool; 2],
    /// `ways[d]` leads from `sides[d]` to the other.
    ways: [Way; 2],
    /// Neither bytes nor ends pass any more.
    hole: bool,
    befallen: bool,
    /// Is told which side's socket was reset.
    tell: Box<dyn Fn(usize)>,
}

#[derive(Default)]
struct Way {
    waiting: Vec<u8>,
    passed: usize,
    /// A timer will go on.
    timed: bool,
    /// What comes is swallowed.
    dead: bool,
    /// The end stands behind what waits, and how it is passed on.
    end: Option<Ending>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Half,
    Whole,
}

pub(crate) type SharedLink = Rc<RefCell<Link>>;

/// Leads `client` to `target`; `tell` hears which of the two was reset.
pub(crate) fn lead(
    client: TcpConnection<Tcp>,
    target: &str,
    plan: LinkPlan,
    tell: Box<dyn Fn(usize)>,
) -> SharedLink {
    let server = AsyncTcpConnection::<Tcp>::new(target).expect("an address");
    let limits = Limits::new().send_buffer_bytes(64 << 20).opening(2);
    client.set_limits(limits.clone());
    server.set_limits(limits);
    let narrow = [plan.narrow; 2];
    let link = Rc::new(RefCell::new(Link {
        plan,
        sides: [client.any(), server.any()],
        narrow,
        ways: Default::default(),
        hole: false,
        befallen: false,
        tell,
    }));
    wire(client, 0, &link);
    wire(server, 1, &link);
    server.on_error(|_, _, _| ());
    client.on_error(|_, _, _| ());
    server.connect();
    link
}

impl Link {
    fn take(&mut self, side: usize, bytes: &[u8]) {
        let way = &mut self.ways[side];
        if !way.dead {
            way.waiting.extend_from_slice(bytes);
        }
    }
}

fn wire<R: Role>(con: Connection<Tcp, R>, side: usize, link: &SharedLink) {
    con.set_half_open(true);
    con.set_backpressure(false);
    let l = link.clone();
    con.on_message(move |con, data| {
        let narrow = std::mem::take(&mut l.borrow_mut().narrow[side]);
        if narrow {
            with_socket(&con, |socket| {
                let _ = socket.set_recv_buffer_size(4096);
                let _ = socket.set_send_buffer_size(4096);
            });
        }
        l.borrow_mut().take(side, data.as_bytes());
        pump(&l, side);
    });
    let l = link.clone();
    con.on_end(move |_| end(&l, side, Ending::Half));
    let l = link.clone();
    con.on_close(move |_| end(&l, side, Ending::Whole));
}

fn end(link: &SharedLink, side: usize, how: Ending) {
    link.borrow_mut().ways[side].end = Some(how);
    pump(link, side);
}

/// Passes on what may pass now.
fn pump(link: &SharedLink, side: usize) {
    loop {
        let l = &mut *link.borrow_mut();
        if l.hole || l.ways[side].timed {
            return;
        }
        let way = &l.ways[side];
        if way.waiting.is_empty() {
            let end = way.end;
            drop_end(l, side, end);
            return;
        }
        let most = match l.plan.slice {
            0 => usize::MAX,
            n => 1 + l.plan.rng.range(0, n),
        };
        let mut length = way.waiting.len().min(most);
        let mine = !l.befallen && l.plan.direction == side && l.plan.fault != Fault::None;
        let before = mine.then(|| l.plan.at.saturating_sub(way.passed));
        if let Some(before) = before {
            length = length.min(before);
        }
        if length > 0 {
            let slice: Vec<u8> = l.ways[side].waiting.drain(..length).collect();
            l.ways[side].passed += length;
            send(l.sides[1 - side], &slice);
        }
        if before == Some(length) && !l.ways[side].waiting.is_empty() {
            l.befallen = true;
            befall(l, side, link);
        }
        if l.plan.delay > 0 && !l.ways[side].timed {
            let after = l.plan.rng.range(0, l.plan.delay);
            if after > 0 {
                wait(l, side, after, link);
            }
        }
    }
}

fn send(to: AnyConnection, slice: &[u8]) {
    to.send(slice);
    // Each slice in a packet of its own.
    if let Some(con) = to.downcast::<Tcp, workerman::Server>() {
        con.flush();
    }
    if let Some(con) = to.downcast::<Tcp, workerman::Client>() {
        con.flush();
    }
}

fn drop_end(l: &mut Link, side: usize, end: Option<Ending>) {
    let to = l.sides[1 - side];
    match end {
        Some(Ending::Half) if !l.ways[side].dead => shutdown(to),
        Some(Ending::Whole) => to.close(),
        _ => {}
    }
}

fn shutdown(to: AnyConnection) {
    if let Some(con) = to.downcast::<Tcp, workerman::Server>() {
        con.shutdown_write();
    }
    if let Some(con) = to.downcast::<Tcp, workerman::Client>() {
        con.shutdown_write();
    }
}

fn wait(l: &mut Link, side: usize, after: usize, link: &SharedLink) {
    l.ways[side].timed = true;
    let link = link.clone();
    Timer::delay(Duration::from_millis(after as u64), move || {
        link.borrow_mut().ways[side].timed = false;
        pump(&link, side);
    });
}

fn befall(l: &mut Link, side: usize, link: &SharedLink) {
    let (client, server) = (l.sides[0], l.sides[1]);
    match l.plan.fault {
        Fault::None => {}
        Fault::Reset | Fault::ResetClient | Fault::ResetServer | Fault::Destroy => {
            let spared = match l.plan.fault {
                Fault::ResetServer => Some(0),
                Fault::ResetClient => Some(1),
                _ => None,
            };
            for (side, con) in [client, server].into_iter().enumerate() {
                if spared != Some(side) && end_at_once(con, l.plan.fault != Fault::Destroy) {
                    (l.tell)(side);
                }
            }
            for way in &mut l.ways {
                way.dead = true;
                way.waiting.clear();
            }
        }
        Fault::Fin => {
            let way = &mut l.ways[side];
            way.waiting.clear();
            way.dead = true;
            shutdown(l.sides[1 - side]);
        }
        Fault::BlackHole => l.hole = true,
        Fault::HalfHole => {
            l.ways[side].waiting.clear();
            l.ways[side].dead = true;
        }
        Fault::Stall(length) => wait(l, side, length, link),
        Fault::Corrupt => {
            let bit = l.plan.rng.range(0, 8);
            l.ways[side].waiting[0] ^= 1 << bit;
        }
    }
}

/// Whether with a reset.
fn end_at_once(con: AnyConnection, reset: bool) -> bool {
    let linger = |socket: socket2::SockRef<'_>| {
        let _ = socket.set_linger(Some(Duration::ZERO));
    };
    let mut was_reset = false;
    if reset && let Some(con) = con.downcast::<Tcp, workerman::Server>() {
        was_reset = with_socket(&con, linger);
    }
    if reset && let Some(con) = con.downcast::<Tcp, workerman::Client>() {
        was_reset = with_socket(&con, linger);
    }
    con.destroy();
    was_reset
}

/// What has befallen it, without numbers.
pub(crate) fn befallen(link: &SharedLink) -> String {
    let l = link.borrow();
    let fault = if l.befallen { l.plan.fault } else { Fault::None };
    let name = format!("link: {fault:?}");
    name.split('(').next().unwrap_or_default().to_string()
}

/// Whatever the network still holds is gone.
pub(crate) fn tear_down(link: &SharedLink) {
    let sides = {
        let l = &mut *link.borrow_mut();
        for way in &mut l.ways {
            way.waiting.clear();
            way.dead = true;
        }
        l.sides
    };
    sides.iter().for_each(AnyConnection::destroy);
}

/// The library hands its sockets to nobody, and no call of it resets one: so a second descriptor of
/// the same socket is had from the kernel, found by its addresses. False: none was found.
#[cfg(target_os = "linux")]
fn with_socket<R: Role>(con: &Connection<Tcp, R>, f: impl FnOnce(socket2::SockRef<'_>)) -> bool {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let (Some(local), Some(remote)) = (con.local_addr(), con.remote_addr()) else {
        return false;
    };
    let own = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
    let open = std::fs::read_dir("/proc/self/fd").expect("a list");
    for entry in open.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let link = std::fs::read_link(entry.path()).unwrap_or_default();
        let Some(number) = number.filter(|_| link.to_string_lossy().starts_with("socket:")) else {
            continue;
        };
        let Ok(copy) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) else { continue };
        let socket = socket2::SockRef::from(&copy);
        let is = |addr: std::io::Result<socket2::SockAddr>| addr.ok().and_then(|a| a.as_socket());
        if is(socket.local_addr()) == Some(local) && is(socket.peer_addr()) == Some(remote) {
            f(socket);
            return true;
        }
    }
    false
}

/// Elsewhere an end at once is the worst that the proxy does.
#[cfg(not(target_os = "linux"))]
fn with_socket<R: Role>(_con: &Connection<Tcp, R>, _f: impl FnOnce(socket2::SockRef<'_>)) -> bool {
    false
}
