//! Streams of any length, made of pieces that repeat, and damage at the same place in each length.

/// How a stream of about so many bytes is made.
pub(crate) struct Stream {
    pub(crate) who: &'static str,
    pub(crate) name: &'static str,
    make: Box<dyn Fn(usize) -> Vec<Vec<u8>>>,
}

/// Its pieces: a beginning, what repeats, an end.
pub(crate) struct Pieces(Vec<Vec<u8>>);

/// Where (in hundredths of the pieces, and the byte in that one) and what.
pub(crate) type Damage = (usize, usize, Kind);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Flip(u8),
    Remove,
    Insert(u8),
}

pub(crate) const DAMAGES: [Damage; 12] = [
    (0, 0, Kind::Flip(0x80)),
    (0, 1, Kind::Remove),
    (0, 3, Kind::Insert(b'\r')),
    (25, 0, Kind::Remove),
    (25, 1, Kind::Flip(0x02)),
    (50, 0, Kind::Flip(0x40)),
    (50, 1, Kind::Insert(0xff)),
    (50, 2, Kind::Insert(b'\n')),
    (75, 1, Kind::Remove),
    (75, 0, Kind::Insert(0)),
    (100, 0, Kind::Flip(0x01)),
    (100, 1, Kind::Insert(b' ')),
];

impl Stream {
    pub(crate) fn of(&self, length: usize) -> Pieces {
        Pieces((self.make)(length))
    }
}

impl Pieces {
    pub(crate) fn whole(&self) -> Vec<u8> {
        self.0.concat()
    }

    pub(crate) fn damaged(&self, (place, byte, kind): Damage) -> Vec<u8> {
        let mut pieces = self.0.clone();
        let last = pieces.len() - 1;
        let piece = &mut pieces[last * place / 100];
        let byte = byte.min(piece.len().saturating_sub(1));
        match kind {
            Kind::Flip(bits) if !piece.is_empty() => piece[byte] ^= bits,
            Kind::Remove if !piece.is_empty() => drop(piece.remove(byte)),
            Kind::Insert(new) => piece.insert(byte, new),
            _ => {}
        }
        pieces.concat()
    }
}

/// A frame; where it is a client's, the mask changes nothing.
fn frame(masked: bool, first: u8, payload: &[u8]) -> Vec<u8> {
    [&head(masked, first, payload.len()), payload].concat()
}

fn head(masked: bool, first: u8, length: usize) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut head = match length {
        0..126 => vec![first, bit | length as u8],
        126..0x1_0000 => vec![first, bit | 126, (length >> 8) as u8, length as u8],
        _ => [&[first, bit | 127][..], &(length as u64).to_be_bytes()].concat(),
    };
    head.extend_from_slice(if masked { &[0; 4] } else { &[] });
    head
}

/// `begin`, as many of `unit` as fill the length, `end`.
fn around(begin: &[u8], unit: &[u8], end: &[u8], length: usize) -> Vec<Vec<u8>> {
    let mut pieces = vec![begin.to_vec()];
    pieces.extend(std::iter::repeat_n(unit.to_vec(), length / unit.len()));
    pieces.push(end.to_vec());
    pieces
}

/// A payload of as many units as fill the length, behind the head that `make` writes for it.
fn behind(make: impl Fn(usize) -> Vec<u8>, unit: &[u8], length: usize) -> Vec<Vec<u8>> {
    let count = length / unit.len();
    around(&make(count * unit.len()), unit, b"", length)
}

/// Bits, the lowest first, as DEFLATE packs them.
fn bits(text: &str) -> Vec<u8> {
    let bits: Vec<u8> = text.bytes().filter(|b| b"01".contains(b)).map(|b| b - b'0').collect();
    bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |sum, bit| sum << 1 | bit)).collect()
}

pub(crate) fn streams() -> Vec<Stream> {
    let mut all = Vec::new();
    sessions(&mut all);
    deflate(&mut all);
    handshakes(&mut all);
    requests(&mut all);
    packages(&mut all);
    all
}

fn add(
    all: &mut Vec<Stream>,
    who: &'static str,
    name: &'static str,
    make: impl Fn(usize) -> Vec<Vec<u8>> + 'static,
) {
    all.push(Stream { who, name, make: Box::new(make) });
}

fn sessions(all: &mut Vec<Stream>) {
    for (who, m) in [("session_client", false), ("session_server", true)] {
        let text = "aé€😀 ".as_bytes();
        add(all, who, "many texts", move |n| around(b"", &frame(m, 0x81, text), b"", n));
        add(all, who, "many empty ones", move |n| around(b"", &frame(m, 0x82, b""), b"", n));
        add(all, who, "one text", move |n| behind(|n| head(m, 0x81, n), text, n));
        add(all, who, "one of bytes", move |n| behind(|n| head(m, 0x82, n), &[0xff; 64], n));
        add(all, who, "a text that never ends", move |n| {
            around(&head(m, 0x81, 1 << 29), text, b"", n)
        });
        add(all, who, "fragments of one byte", move |n| {
            around(&frame(m, 0x01, b"a"), &frame(m, 0x00, b"b"), &frame(m, 0x80, b"c"), n)
        });
        add(all, who, "empty fragments", move |n| {
            around(&frame(m, 0x02, b"a"), &frame(m, 0x00, b""), &frame(m, 0x80, b""), n)
        });
        add(all, who, "fragments that end within a character", move |n| {
            let unit = [frame(m, 0x00, &text[..2]), frame(m, 0x00, &text[2..])].concat();
            around(&frame(m, 0x01, b""), &unit, &frame(m, 0x80, b""), n)
        });
        add(all, who, "pings between fragments", move |n| {
            let unit = [frame(m, 0x00, b"x"), frame(m, 0x89, b"ping"), frame(m, 0x8a, b"")];
            around(&frame(m, 0x01, b""), &unit.concat(), &frame(m, 0x80, b""), n)
        });
        add(all, who, "what follows a close frame", move |n| {
            around(&frame(m, 0x88, &[3, 232]), &frame(m, 0x81, b"late"), b"", n)
        });
        add(all, who, "noise", move |n| around(b"", &[0xc1, 0x7f, 0x00, 0x13], b"", n));
    }
}

fn deflate(all: &mut Vec<Stream>) {
    // A stored block of five bytes; an empty one; and in 13 bytes eight times 258 zeros.
    let stored: &[u8] = &[0x00, 5, 0, 0xfa, 0xff, b'h', b'e', b'l', b'l', b'o'];
    let empty: &[u8] = &[0x00, 0, 0, 0xff, 0xff];
    let zeros = bits(&"11000101 00000".repeat(8));
    for (who, m) in [("deflate_client", false), ("deflate_server", true)] {
        add(all, who, "many messages", move |n| {
            around(b"", &frame(m, 0xc1, &[stored, &[0]].concat()), b"", n)
        });
        add(all, who, "blocks of five bytes", move |n| behind(|n| head(m, 0xc1, n), stored, n));
        add(all, who, "empty blocks", move |n| behind(|n| head(m, 0xc2, n), empty, n));
        add(all, who, "a fragment a block", move |n| {
            let unit = frame(m, 0x00, stored);
            around(&frame(m, 0x41, b""), &unit, &frame(m, 0x80, &[0]), n)
        });
        add(all, who, "a fragment a byte", move |n| {
            let unit: Vec<u8> = stored.iter().flat_map(|b| frame(m, 0x00, &[*b])).collect();
            around(&frame(m, 0x41, b""), &unit, &frame(m, 0x80, &[0]), n)
        });
        let zeros = zeros.clone();
        add(all, who, "a bomb", move |n| {
            // A block of the fixed codes, three literal zeros to fill the byte's bits.
            let begin = bits("0 10 00110000 00110000 00110000 00110000 00110");
            let count = n / 32 / zeros.len();
            let payload = [&begin[..], &zeros.repeat(count)].concat();
            vec![head(m, 0xc2, payload.len()), payload, vec![]]
        });
    }
}

fn handshakes(all: &mut Vec<Stream>) {
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: MP38feWaVZqaHsTDNL42zIo8k90=\r\n";
    for (who, begin) in [("handshake_server", REQUEST), ("handshake_client", ANSWER)] {
        let mut line = |name, start: &str, unit: &'static str, end: &'static str| {
            let begin = format!("{begin}{start}");
            add(all, who, name, move |n| {
                around(begin.as_bytes(), unit.as_bytes(), end.as_bytes(), n)
            });
        };
        line("many fields", "", "X-Y: z\r\n", "\r\n");
        line("many of the same field", "", "Connection: a\r\n", "\r\n");
        line("one long field", "X: ", "abcdefgh", "\r\n\r\n");
        line("a head that never ends", "X: ", "abcdefgh", "");
        line("one long name", "", "abcdefgh", ": x\r\n\r\n");
        line("spaces", "Connection: b", "    ", "x\r\n\r\n");
        line("a list of commas", "Connection: b", ", ,,", "x\r\n\r\n");
        line("a list of words", "Connection: b", ", abc", "\r\n\r\n");
        line("protocols", "Sec-WebSocket-Protocol: a", ", abc", "\r\n\r\n");
        line("extensions", "Sec-WebSocket-Extensions: a", ", b; c=d", "\r\n\r\n");
        line("offers", "Sec-WebSocket-Extensions: a", ", permessage-deflate; x", "\r\n\r\n");
        line("parameters", "Sec-WebSocket-Extensions: permessage-deflate", "; a=b", "\r\n\r\n");
        line("a quoted one", "Sec-WebSocket-Extensions: a; b=\"", "\\\"x ", "\"\r\n\r\n");
    }
    let answer = |all: &mut Vec<Stream>, name, begin: &'static str, unit: &'static str, end| {
        add(all, "handshake_client", name, move |n| {
            let length = format!("{}", n / unit.len() * unit.len());
            let begin = begin.replace("LENGTH", &length);
            around(begin.as_bytes(), unit.as_bytes(), end, n)
        });
    };
    answer(all, "many interim answers", "", "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", b"");
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: LENGTH\r\n\r\n";
    answer(all, "a refusal with a body", refused, "no, no, ", b"");
    answer(all, "a refusal until the end", "HTTP/1.1 403 Forbidden\r\n\r\n", "no, no, ", b"");
    let chunked = "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n";
    answer(all, "a refusal in chunks", chunked, "1\r\nx\r\n", b"0\r\n\r\n");
    add(all, "handshake_server", "a long target", |n| {
        around(b"GET /", b"a%20/../", &REQUEST.as_bytes()[5..], n)
    });
}

fn requests(all: &mut Vec<Stream>) {
    let who = "http_request";
    let mut request = |name, begin: &'static str, unit: &'static str, end: &'static str| {
        add(all, who, name, move |n| {
            let length = format!("{}", n / unit.len() * unit.len() + end.len());
            let begin = begin.replace("LENGTH", &length);
            around(begin.as_bytes(), unit.as_bytes(), end.as_bytes(), n)
        });
    };
    request("many requests", "", "GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n", "");
    let begin = "GET / HTTP/1.1\r\nHost: h\r\n";
    request("many fields", begin, "X-Y: z\r\n", "\r\n");
    request("cookies", "GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b", "; c=d", "\r\n\r\n");
    request("a head that never ends", begin, "X: yyyy\r\n", "");
    request("a long query", "GET /?", "a=%20&", " HTTP/1.1\r\nHost: h\r\n\r\n");

    request("a body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: LENGTH\r\n\r\n", "body", "");
    request(
        "a body that never ends",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n",
        "body",
        "",
    );
    request(
        "a form",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: LENGTH\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n\r\n",
        "a[]=%41&",
        "b=",
    );

    let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    request("chunks of one byte", chunked, "1\r\nx\r\n", "0\r\n\r\n");
    request("chunks with extensions", chunked, "001;a=b\r\nx\r\n", "0\r\n\r\n");
    request(
        "trailers",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        "X: y\r\n",
        "\r\n",
    );
    request(
        "a long extension",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        "abcd",
        "\r\nx\r\n0\r\n\r\n",
    );
    const PARTS: &str = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: LENGTH\r\n\
        Content-Type: multipart/form-data; boundary=b\r\n\r\n";
    const NAMED: &str = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n";
    request("many parts", PARTS, NAMED, "--b--\r\n");
    request("a part of near boundaries", PARTS, "\r\n--a\r\n--", "\r\n--b--\r\n");
}

fn packages(all: &mut Vec<Stream>) {
    add(all, "text", "many lines", |n| around(b"", b"hello\n", b"", n));
    add(all, "text", "empty lines", |n| around(b"", b"\n", b"", n));
    add(all, "text", "one line", |n| around(b"", "aé€😀".as_bytes(), b"\n", n));
    add(all, "text", "a line that never ends", |n| around(b"", b"hello\r", b"", n));
    add(all, "frame", "many packages", |n| around(b"", b"\0\0\0\x09hello", b"", n));
    add(all, "frame", "empty packages", |n| around(b"", b"\0\0\0\x04", b"", n));
    add(all, "frame", "one package", |n| {
        behind(|n| ((n + 4) as u32).to_be_bytes().to_vec(), b"hello", n)
    });
    add(all, "frame", "a package that never ends", |n| around(b"\0\xff\0\0", b"hello", b"", n));
    for (name, begin, unit, end) in [
        ("a long name", "ws://a", ".abc", "/"),
        ("a long label", "ws://a", "abcd", ":80/"),
        ("a long path", "ws://a/", "/b%20", ""),
        ("wild characters", "ws://a/", "é ", ""),
        ("a long query", "ws://a/?", "a=b&", "#c"),
        ("a user", "ws://u:", "p%40:", "@a/"),
        ("at signs", "ws://", "a@", "b/"),
        ("colons", "tcp://[", "0:", "]:1"),
        ("a port", "tcp://a:", "0", "1"),
        ("a path on disk", "unix://", "/..", "/a"),
        ("a scheme", "w", "s", "://a"),
        ("slashes", "ws:", "/", "a"),
    ] {
        add(all, "address", name, move |n| {
            around(begin.as_bytes(), unit.as_bytes(), end.as_bytes(), n)
        });
    }
}
