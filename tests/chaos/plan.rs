//! What a run will do: everything follows from its seed.

/// xorshift64*, begun by splitmix so that neighbouring seeds have nothing in common.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rng((z ^ (z >> 31)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// From `from` up to, but without, `to`.
    pub(crate) fn range(&mut self, from: usize, to: usize) -> usize {
        from + (self.next() % (to - from) as u64) as usize
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, of: usize) -> bool {
        self.range(0, 100) < of
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ws,
    Wss,
    Text,
    Frame,
    /// A raw client of an HTTP server, whose connection is kept alive.
    Http,
}

/// What befalls a link at a byte of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Both sides are reset.
    Reset,
    /// One side is reset, the other closed.
    ResetClient,
    ResetServer,
    /// The proxy closes both at once, with whatever is unread.
    Destroy,
    /// This direction ends; the other goes on.
    Fin,
    /// Nothing passes any more, in neither direction, nor an end.
    BlackHole,
    /// Nothing passes any more in this direction; the other goes on.
    HalfHole,
    /// Nothing passes for so many milliseconds.
    Stall(usize),
    /// A bit of this byte is another.
    Corrupt,
}

#[derive(Clone, Debug)]
pub(crate) struct LinkPlan {
    pub(crate) rng: Rng,
    /// The longest slice; 0: what came, as it came.
    pub(crate) slice: usize,
    /// Milliseconds before a slice, at most.
    pub(crate) delay: usize,
    pub(crate) fault: Fault,
    /// 0: from client to server; 1: back.
    pub(crate) direction: usize,
    pub(crate) at: usize,
    /// The proxy's sockets take few bytes.
    pub(crate) narrow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    CloseWithCode,
    Destroy,
}

/// One attempt of a client: a session, if it gets so far.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) link: LinkPlan,
    pub(crate) before: usize,
    pub(crate) messages: usize,
    pub(crate) longest: usize,
    /// Milliseconds between them; 0: all at once.
    pub(crate) every: usize,
    /// The client's own end, so long after its last message, by one way or the other.
    pub(crate) end: End,
    pub(crate) end_after: usize,
    /// The server ends the session when it has had so many messages.
    pub(crate) server_ends: Option<(usize, End)>,
    pub(crate) answers: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    /// Over unix sockets, not over TCP.
    pub(crate) unix: bool,
    /// Of each client, its attempts one after the other.
    pub(crate) clients: Vec<Vec<Attempt>>,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Plan {
        let mut rng = Rng::new(seed);
        let tls = cfg!(any(feature = "tls", feature = "tls-aws-lc"));
        let kind = match rng.range(0, 100) {
            0..50 => Kind::Ws,
            50..63 if tls => Kind::Wss,
            50..63 => Kind::Ws,
            63..75 => Kind::Text,
            75..87 => Kind::Frame,
            _ => Kind::Http,
        };
        let unix = rng.percent(20) && matches!(kind, Kind::Ws | Kind::Text | Kind::Frame);
        let clients = rng.range(1, 4);
        let clients = (0..clients)
            .map(|_| {
                let attempts = if rng.percent(40) { rng.range(2, 4) } else { 1 };
                (0..attempts).map(|_| attempt(&mut rng)).collect()
            })
            .collect();
        Plan { seed, kind, unix, clients }
    }
}

fn attempt(rng: &mut Rng) -> Attempt {
    let link = link(rng);
    let longest = match rng.range(0, 10) {
        // A long message in single bytes would only take time.
        _ if link.slice != 0 && link.slice < 64 => 200,
        0..6 => 200,
        6..9 => 20_000,
        _ => 200_000,
    };
    let most = if longest > 20_000 { 8 } else { 40 };
    Attempt {
        link,
        before: if rng.percent(40) { rng.range(1, 4) } else { 0 },
        messages: if rng.percent(10) { 0 } else { rng.range(1, most) },
        longest,
        every: if rng.percent(60) { 0 } else { rng.range(1, 4) },
        end: end(rng),
        end_after: if rng.percent(40) { 0 } else { rng.range(1, 80) },
        server_ends: rng.percent(25).then(|| (rng.range(1, 20), end(rng))),
        answers: rng.range(0, 3),
    }
}

fn end(rng: &mut Rng) -> End {
    match rng.range(0, 10) {
        0..7 => End::Close,
        7..9 => End::CloseWithCode,
        _ => End::Destroy,
    }
}

fn link(rng: &mut Rng) -> LinkPlan {
    let fault = match rng.range(0, 20) {
        0..5 => Fault::None,
        5..7 => Fault::Reset,
        7 => Fault::ResetClient,
        8 => Fault::ResetServer,
        9 => Fault::Destroy,
        10..13 => Fault::Fin,
        13 => Fault::BlackHole,
        14 => Fault::HalfHole,
        15..17 => Fault::Stall(rng.range(5, 120)),
        _ => Fault::Corrupt,
    };
    let slice = match rng.range(0, 10) {
        0..2 => 1,
        2..6 => rng.range(2, 3000),
        _ => 0,
    };
    LinkPlan {
        slice,
        // Single bytes that also waited would never be done.
        delay: if slice == 0 || slice > 200 { rng.range(0, 4) } else { 0 },
        fault,
        direction: rng.range(0, 2),
        at: match rng.range(0, 4) {
            0..2 => rng.range(0, 400),
            2 => rng.range(0, 4000),
            _ => rng.range(0, 60_000),
        },
        narrow: rng.percent(20),
        rng: Rng::new(rng.next()),
    }
}
