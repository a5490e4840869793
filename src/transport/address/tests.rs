//! Addresses as programs write them, good and bad.
use super::*;

fn ws(address: &str) -> ClientAddress {
    ClientAddress::parse(address, "ws", Some("wss")).expect(address)
}

fn refused(address: &str, name: &'static str) -> String {
    let secure = (name == "ws").then_some("wss");
    let error = ClientAddress::parse(address, name, secure).expect_err(address);
    assert!(matches!(&error, Error::Address { address: given, .. } if given == address));
    error.to_string()
}

#[test]
fn a_client_address_divides_into_its_parts() {
    // address, secure, host, port, path
    type Row = (&'static str, bool, &'static str, Option<u16>, &'static str);
    let rows: &[Row] = &[
        ("ws://example.com", false, "example.com", None, "/"),
        ("WS://Example.com:8080/a/b?c=d#e", false, "Example.com", Some(8080), "/a/b?c=d"),
        ("wss://example.com/x", true, "example.com", None, "/x"),
        ("Wss://example.com:443?q", true, "example.com", Some(443), "/?q"),
        ("ws://example.com#frag/x?y", false, "example.com", None, "/"),
        ("ws://a_b.c-d.:1/%20", false, "a_b.c-d.", Some(1), "/%20"),
        ("ws://127.0.0.1:65535", false, "127.0.0.1", Some(65535), "/"),
        ("ws://[::1]:9/", false, "::1", Some(9), "/"),
        ("ws://[2001:DB8::0:1]", false, "2001:db8::1", None, "/"),
        ("tcp://example.com:7/p", false, "example.com", Some(7), "/p"),
        ("ssl://example.com:7", true, "example.com", Some(7), "/"),
        ("example.com:7", false, "example.com", Some(7), "/"),
        ("[::1]:7", false, "::1", Some(7), "/"),
        ("localhost:7/p?q", false, "localhost", Some(7), "/p?q"),
        ("ws://xn--bcher-kva.example/", false, "xn--bcher-kva.example", None, "/"),
        ("ws://host//double//?a?b/c@d", false, "host", None, "//double//?a?b/c@d"),
    ];
    for &(text, secure, host, port, path) in rows {
        let got = ws(text);
        let parts = (got.secure, &*got.host, got.port, &*got.path);
        assert_eq!(parts, (secure, host, port, path), "{text}");
        assert_eq!(got.unix, None);
    }
}

#[test]
fn every_stream_protocol_takes_its_own_scheme_and_the_plain_ones() {
    for name in ["tcp", "text", "frame", "JsonLines"] {
        for scheme in [name, "tcp", "TCP"] {
            let got = ClientAddress::parse(&format!("{scheme}://h:1"), name, None).expect(scheme);
            assert!(!got.secure && got.port == Some(1));
        }
        assert!(ClientAddress::parse("ssl://h:1", name, None).expect("ssl").secure);
        assert!(ClientAddress::parse("unix://s", name, None).expect("unix").unix.is_some());
    }
}

#[test]
fn a_unix_socket_is_a_relative_or_an_absolute_path() {
    // address, file, path, secure
    let rows = [
        ("unix:///run/app.sock", "/run/app.sock", "/", false),
        ("unix://run/app.sock", "run/app.sock", "/", false),
        ("UNIX://a b", "a b", "/", false),
        ("unix://dir:/x", "dir:/x", "/", false),
        ("ws+unix:///run/app.sock", "/run/app.sock", "/", false),
        ("ws+unix:///run/app.sock:/chat?room=1#x", "/run/app.sock", "/chat?room=1", false),
        ("ws+unix://app.sock:?q", "app.sock", "/?q", false),
        ("wss+unix://app.sock:/x", "app.sock", "/x", true),
    ];
    for (text, file, path, secure) in rows {
        let got = ws(text);
        assert_eq!(got.unix.as_deref(), Some(std::path::Path::new(file)), "{text}");
        assert_eq!((&*got.path, got.secure), (path, secure), "{text}");
        assert_eq!((&*got.host, got.port(false)), ("localhost", 0));
        assert_eq!(got.host_header(secure), "localhost");
    }
    let long = format!("unix:///{}", "x".repeat(200));
    assert!(refused(&long, "ws").contains("path of the socket file cannot be used"));
    assert!(refused("unix://", "ws").contains("path of the socket file is missing"));
    assert!(refused("unix://a\0b", "ws").contains("cannot be used"));
}

#[test]
fn the_port_and_the_host_header_follow_the_transport_that_holds_at_last() {
    // address, port plain, port secure, header plain, header secure
    let rows = [
        ("ws://h", 80, 443, "h", "h"),
        ("ws://h:80", 80, 80, "h", "h:80"),
        ("ws://h:443", 443, 443, "h:443", "h"),
        ("wss://h:8443", 8443, 8443, "h:8443", "h:8443"),
        ("ws://[::1]:80", 80, 80, "[::1]", "[::1]:80"),
        ("ws://127.0.0.1:81", 81, 81, "127.0.0.1:81", "127.0.0.1:81"),
    ];
    for (text, plain, secure, header, secure_header) in rows {
        let got = ws(text);
        assert_eq!((got.port(false), got.port(true)), (plain, secure), "{text}");
        assert_eq!(got.host_header(false), header, "{text}");
        assert_eq!(got.host_header(true), secure_header, "{text}");
    }
    assert_eq!(ws("wss://user:secret@[::1]/x").peer(true), "[::1]:443");
    assert_eq!(ws("unix://a/b").peer(false), "unix://a/b");
}

#[test]
fn user_and_password_are_percent_decoded() {
    assert_eq!(ws("ws://h").userinfo, None);
    assert_eq!(ws("ws://u@h").userinfo.as_deref(), Some("u"));
    assert_eq!(ws("ws://u:p%40ss%3A%C3%A9:x@h").userinfo.as_deref(), Some("u:p@ss:é:x"));
    assert_eq!(&*ws("ws://a@b@h:1").host, "h");
    for odd in ["ws://u%zz@h", "ws://u%2@h", "ws://a%3Ab@h", "ws://a%0d%0a@h", "ws://%ff@h"] {
        refused(odd, "ws");
    }
}

#[test]
fn what_a_client_cannot_use_is_named_with_what_to_write() {
    // address, type, what the message says
    let rows = [
        ("", "ws", "it is empty: write `ws://host:port`"),
        ("ws://", "ws", "the host is missing"),
        ("ws:///x", "ws", "the host is missing"),
        ("ws://:80", "ws", "the host is missing"),
        ("ws://u@:80", "ws", "the host is missing"),
        ("://h", "ws", "the scheme is missing: write `ws://h`"),
        ("ws:/h", "ws", "two slashes follow the scheme: write `ws://h`"),
        ("ws://h:0", "ws", "port 0 is for servers"),
        ("ws://h:70000", "ws", "the port `70000` is not a number from 1 to 65535"),
        ("ws://h:8o", "ws", "the port `8o` is not a number"),
        ("ws://h:+8", "ws", "the port `+8` is not a number"),
        ("ws://h:-8", "ws", "the port `-8` is not a number"),
        ("ws://h:", "ws", "the port is missing after the colon"),
        ("ws://h:80:90", "ws", "an IPv6 address stands in brackets"),
        ("ws://::1", "ws", "an IPv6 address stands in brackets"),
        ("ws://::1:80", "ws", "write `[::1]:80`"),
        ("ws://2001:db8::1:x", "ws", "write `[::1]:port`"),
        ("fe80::1:7", "tcp", "write `[fe80::1]:7`"),
        ("ws://[::1", "ws", "not closed"),
        ("unix:/run/a", "ws", "two slashes follow the scheme: write `unix:///run/a`"),
        ("unix:a/b", "ws", "two slashes follow the scheme: write `unix://a/b`"),
        ("ws+unix:/run/a:/x", "ws", "write `ws+unix:///run/a:/x`"),
        ("/run/a", "ws", "write `unix:///run/a`"),
        ("gopher://h:1", "tcp", "of type `tcp` takes tcp://, ssl:// and unix://"),
        ("gopher://h:1", "text", "of type `text` takes text://, tcp://, ssl:// and unix://"),
        ("ws://::1]", "ws", "brackets stand around an IPv6 address only"),
        ("ws://[::1]x", "ws", "comes `:port`, not `x`"),
        ("ws://[h]", "ws", "`h` is no IPv6 address"),
        ("ws://[fe80::1%25eth0]", "ws", "is no IPv6 address"),
        ("ws://h st", "ws", "' ' cannot stand in a host"),
        ("ws://h\\st", "ws", "cannot stand in a host"),
        ("ws://h%41", "ws", "'%' cannot stand in a host"),
        ("ws://bücher.example", "ws", "xn--"),
        ("ws://a..b", "ws", "is no host name"),
        ("ws://127.1", "ws", "`127.1` is no IPv4 address"),
        ("ws://0x7f.0x1", "ws", "is no IPv4 address"),
        ("ws://1.2.3.256", "ws", "is no IPv4 address"),
        ("ws://h/a b", "ws", "percent-encode it, ' ' becomes `%20`"),
        ("ws://h/\r\nX: y", "ws", "percent-encode it"),
        ("ws://h/é", "ws", "`%C3%A9`"),
        ("ws://h/\u{7f}", "ws", "percent-encode it"),
        ("tcp://h", "ws", "the port is missing"),
        ("ssl://h", "ws", "the port is missing: write `ssl://h:port`"),
        ("example.com", "tcp", "the port is missing: write `example.com:port`"),
        ("example.com", "ws", "the scheme is missing: write `ws://example.com`"),
        ("text://h", "text", "the port is missing: write `text://h:port`"),
        ("websocket://h:1", "ws", "websocket:// is for servers: a client writes `ws://h:1`"),
        ("http://h/x", "ws", "write `ws://h/x`"),
        ("https://h/x", "ws", "write `wss://h/x`"),
        ("tls://h:1", "ws", "write `ssl://h:1`"),
        ("udp://h:1", "ws", "AsyncUdpConnection"),
        (
            "text://h:1",
            "ws",
            "the connection is of type `ws`, the address says `text`: AsyncTcpConnection::<Text>",
        ),
        ("wss://h", "tcp", "AsyncTcpConnection::<Ws>"),
        ("frame+unix://h", "ws", "AsyncTcpConnection::<Frame>"),
        ("gopher://h:1", "ws", "takes ws:// and wss://, tcp://, ssl:// and unix://"),
        ("wss://h:1", "text", "AsyncTcpConnection::<Ws>"),
    ];
    for (text, name, part) in rows {
        let message = refused(text, name);
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn a_worker_listens_on_addresses_of_this_machine_and_on_files() {
    let rows = [
        ("websocket://0.0.0.0:2000", "0.0.0.0:2000"),
        ("WebSocket://127.0.0.1:0", "127.0.0.1:0"),
        ("tcp://[::]:65535", "[::]:65535"),
        ("websocket://localhost:1/", "127.0.0.1:1"),
    ];
    for (text, ip) in rows {
        let got = ListenAddress::parse(text, "websocket").expect(text);
        assert_eq!(got.place, Place::Ip(ip.parse().expect(ip)), "{text}");
        assert_eq!(got.text, text);
    }
    let got = ListenAddress::parse("unix://run/a.sock", "text").expect("unix");
    assert_eq!(got.place, Place::Unix(PathBuf::from("run/a.sock")));
}

#[test]
fn what_a_worker_cannot_listen_on_is_named_with_what_to_write() {
    let rows = [
        ("", "websocket", "it is empty: write `websocket://0.0.0.0:port`"),
        ("0.0.0.0:80", "http", "the scheme is missing: write `http://0.0.0.0:80`"),
        (
            "ws://0.0.0.0:80",
            "websocket",
            "ws:// is for clients: a server writes `websocket://0.0.0.0:80`",
        ),
        ("ws://0.0.0.0:80", "text", "`websocket://0.0.0.0:80` for a Worker::<Websocket>"),
        (
            "wss://0.0.0.0:80",
            "websocket",
            "`websocket://0.0.0.0:80` and calls `set_transport(Transport::Ssl)`",
        ),
        (
            "https://0.0.0.0:80",
            "http",
            "write `http://0.0.0.0:80` and call `set_transport(Transport::Ssl)`",
        ),
        (
            "ssl://0.0.0.0:80",
            "text",
            "`text://0.0.0.0:80` and calls `set_transport(Transport::Ssl)`",
        ),
        ("udp://0.0.0.0:80", "text", "Worker::<Udp>"),
        ("http://0.0.0.0:80", "text", "the address says `http`: Worker::<Http>"),
        ("gopher://0.0.0.0:80", "text", "takes text://, tcp:// and unix://"),
        ("text://example.com:80", "text", "`example.com` is no IP address of this machine"),
        ("text://*:80", "text", "`*` is no IP address of this machine"),
        ("text://:80", "text", "write `text://0.0.0.0:80`"),
        ("text://0.0.0.0", "text", "the port is missing: write `text://0.0.0.0:port`"),
        ("text://0.0.0.0:65536", "text", "the port `65536` is not a number"),
        ("text://0.0.0.0:80/chat", "text", "not on a path: write `text://0.0.0.0:80`"),
        ("text://::1:80", "text", "an IPv6 address stands in brackets"),
        ("websocket://::1:80", "websocket", "write `[::1]:80`"),
        ("tcp:/0.0.0.0:80", "text", "two slashes follow the scheme: write `tcp://0.0.0.0:80`"),
        ("unix:/run/a", "text", "two slashes follow the scheme: write `unix:///run/a`"),
        ("unix:a", "text", "write `unix://a`"),
        ("/run/a", "text", "write `unix:///run/a`"),
        ("gopher://0.0.0.0:80", "tcp", "of type `tcp` takes tcp:// and unix://"),
        ("unix://", "text", "path of the socket file is missing"),
    ];
    for (text, name, part) in rows {
        let message = ListenAddress::parse(text, name).expect_err(text).to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}
