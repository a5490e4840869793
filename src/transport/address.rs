//! Addresses as programs write them, read strictly: what is odd is an error that says what to
//! write.
//!
//! ```text
//! client   <name>://host[:port][/path]   wss:// (TLS)   tcp://   ssl://   host:port
//!          unix://path   <name>+unix://path[:/uri]
//! server   <name>://ip:port   tcp://ip:port   unix://path
//! datagrams   udp://   <name>://
//! ```
use crate::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The ports of `ws` and `wss` (RFC 6455 §3); no other scheme has one.
const PORT: u16 = 80;
const SECURE_PORT: u16 = 443;

/// Where a client connects to. Every client keeps one for as long as it lives, so it is lean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    /// The scheme asks for TLS.
    pub(crate) secure: bool,
    /// Without brackets; `localhost` for a unix socket.
    pub(crate) host: Box<str>,
    /// As written; what holds without one depends on TLS: [`ClientAddress::port`].
    pub(crate) port: Option<u16>,
    /// Path and query, `/` at least.
    pub(crate) path: Box<str>,
    /// `user:password`, percent-decoded.
    pub(crate) userinfo: Option<Box<str>>,
    /// The socket file, for a unix socket.
    pub(crate) unix: Option<Box<Path>>,
}

impl ClientAddress {
    /// `name` is the protocol's scheme, `secure` the one that means the same over TLS, if it has
    /// one.
    pub(crate) fn parse(
        address: &str,
        name: &'static str,
        secure: Option<&'static str>,
    ) -> Result<Self, Error> {
        Self::read(address, name, secure).map_err(|reason| Error::address(address, reason))
    }

    /// The port to connect to; 0 for a unix socket.
    pub(crate) fn port(&self, secure: bool) -> u16 {
        match (self.port, &self.unix) {
            (Some(port), _) => port,
            (None, Some(_)) => 0,
            (None, None) => default_port(secure),
        }
    }

    /// For an HTTP `Host` header: IPv6 in brackets, the port where it is not the scheme's own.
    pub(crate) fn host_header(&self, secure: bool) -> String {
        let host = self.bracketed();
        match self.port {
            Some(port) if port != default_port(secure) => format!("{host}:{port}"),
            _ => host,
        }
    }

    /// For logs and failures: who is at the other end, without a password.
    pub(crate) fn peer(&self, secure: bool) -> String {
        match &self.unix {
            Some(path) => format!("unix://{}", path.display()),
            None => format!("{}:{}", self.bracketed(), self.port(secure)),
        }
    }

    /// The host as it stands before a port: only an IPv6 address has colons, and brackets.
    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() }
    }

    fn read(
        address: &str,
        name: &'static str,
        secure: Option<&'static str>,
    ) -> Result<Self, String> {
        if address.is_empty() {
            return Err(format!("it is empty: write `{name}://host:port`"));
        }
        let Some((scheme, rest)) = address.split_once("://") else {
            return Self::bare(address, name);
        };
        let scheme = scheme.to_ascii_lowercase();
        let kind = Scheme::of_client(&scheme, rest, name, secure)?;
        let mut this = match kind.unix {
            Unix::No => {
                let has_port = kind.own && name.eq_ignore_ascii_case("ws");
                Self::network(rest, &format!("{scheme}://"), has_port)?
            }
            Unix::Path => Self::on_socket_file(rest, "")?,
            Unix::PathAndUri => {
                let at = rest.find(":/").or_else(|| rest.find(":?"));
                let (path, uri) = at.map_or((rest, ""), |at| (&rest[..at], &rest[at + 1..]));
                Self::on_socket_file(path, uri)?
            }
        };
        this.secure = kind.secure;
        Ok(this)
    }

    /// `host:port` without a scheme: tcp, as in PHP.
    fn bare(address: &str, name: &'static str) -> Result<Self, String> {
        if let Some(reason) = lacks_slashes(address) {
            return Err(reason);
        }
        let is_websocket = name.eq_ignore_ascii_case("ws");
        let prefix = if name == "tcp" { String::new() } else { format!("{name}://") };
        let this = Self::network(address, &prefix, is_websocket)?;
        if is_websocket && this.port.is_none() {
            return Err(format!("the scheme is missing: write `{prefix}{address}`"));
        }
        Ok(this)
    }

    /// `[user:password@]host[:port][/path][?query][#fragment]`
    /// `prefix` is what stands, or should stand, before it.
    fn network(rest: &str, prefix: &str, has_default_port: bool) -> Result<Self, String> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(read_userinfo(userinfo)?), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place)?;
        let host = read_host(host)?;
        let port = port.map(read_port).transpose()?;
        if port == Some(0) {
            return Err("port 0 is for servers: write the port that the server listens on".into());
        }
        if port.is_none() && !has_default_port {
            return Err(format!(
                "the port is missing: write `{prefix}{place}:port`, since only ws:// and wss:// \
                 have one of their own"
            ));
        }
        Ok(ClientAddress {
            secure: false,
            host: host.text().into(),
            port,
            path: read_path(path)?.into(),
            userinfo: userinfo.map(String::into_boxed_str),
            unix: None,
        })
    }

    fn on_socket_file(path: &str, uri: &str) -> Result<Self, String> {
        Ok(ClientAddress {
            secure: false,
            host: "localhost".into(),
            port: None,
            path: read_path(uri)?.into(),
            userinfo: None,
            unix: Some(read_socket_file(path)?.into()),
        })
    }
}

/// Where a worker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    /// As it was given.
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// What a listening socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Port 0: the system chooses one.
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl ListenAddress {
    /// `name` is the protocol's scheme.
    pub(crate) fn parse(address: &str, name: &'static str) -> Result<Self, Error> {
        Self::read(address, name).map_err(|reason| Error::address(address, reason))
    }

    fn read(address: &str, name: &'static str) -> Result<Self, String> {
        if address.is_empty() {
            return Err(format!("it is empty: write `{name}://0.0.0.0:port`"));
        }
        let Some((scheme, rest)) = address.split_once("://") else {
            let missing = || format!("the scheme is missing: write `{name}://{address}`");
            return Err(lacks_slashes(address).unwrap_or_else(missing));
        };
        let place = match Scheme::of_server(&scheme.to_ascii_lowercase(), rest, name)? {
            Unix::No => Place::Ip(Self::ip(rest, scheme)?),
            _ => Place::Unix(read_socket_file(rest)?),
        };
        Ok(ListenAddress { text: address.to_string(), place })
    }

    fn ip(rest: &str, scheme: &str) -> Result<SocketAddr, String> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (place, path) = rest.split_at(end);
        if !matches!(path, "" | "/") {
            return Err(format!(
                "a server listens on an address and a port, not on a path: \
                 write `{scheme}://{place}`"
            ));
        }
        let (host, port) = split_port(place)?;
        if host.is_empty() {
            return Err(format!(
                "the host is missing: write `{scheme}://0.0.0.0{place}` for all addresses \
                 of this machine"
            ));
        }
        let port = match port {
            Some(port) => read_port(port)?,
            None => return Err(format!("the port is missing: write `{scheme}://{place}:port`")),
        };
        let ip = match read_host(host) {
            Ok(host) if host.is_localhost() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Ok(Host::Ip(ip)) => ip,
            Ok(Host::Name(_)) | Err(_) => {
                return Err(format!(
                    "`{host}` is no IP address of this machine: write 0.0.0.0 or [::] for all, \
                     127.0.0.1 or localhost for programs on this machine only"
                ));
            }
        };
        Ok(SocketAddr::new(ip, port))
    }
}

/// What the part before `://` asks for.
struct Scheme {
    /// The protocol's own scheme, so that a port of its own holds.
    own: bool,
    secure: bool,
    unix: Unix,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unix {
    No,
    Path,
    PathAndUri,
}

impl Scheme {
    fn of_client(
        scheme: &str,
        rest: &str,
        name: &'static str,
        secure_name: Option<&'static str>,
    ) -> Result<Scheme, String> {
        let (base, unix) = match scheme.strip_suffix("+unix") {
            Some(base) => (base, Unix::PathAndUri),
            None => (scheme, Unix::No),
        };
        if base.eq_ignore_ascii_case(name) {
            return Ok(Scheme { own: true, secure: false, unix });
        }
        if secure_name.is_some_and(|secure| base.eq_ignore_ascii_case(secure)) {
            return Ok(Scheme { own: true, secure: true, unix });
        }
        match scheme {
            "tcp" => return Ok(Scheme { own: false, secure: false, unix: Unix::No }),
            "ssl" => return Ok(Scheme { own: false, secure: true, unix: Unix::No }),
            "unix" => return Ok(Scheme { own: false, secure: false, unix: Unix::Path }),
            _ => {}
        }
        let own = match secure_name {
            Some(secure) => format!("{name}:// and {secure}://, "),
            None if name == "tcp" => String::new(),
            None => format!("{name}://, "),
        };
        Err(match base {
            "" => format!("the scheme is missing: write `{name}://{rest}`"),
            "websocket" => {
                format!("websocket:// is for servers: a client writes `ws://{rest}`")
            }
            "tls" => format!("the scheme tls:// is unknown: write `ssl://{rest}`"),
            "udp" => "udp:// has no connection: use AsyncUdpConnection".to_string(),
            "http" if name == "ws" => format!("for a WebSocket write `ws://{rest}`"),
            "https" if name == "ws" => format!("for a WebSocket write `wss://{rest}`"),
            _ => match client_type(base) {
                Some(wanted) => format!(
                    "the connection is of type `{name}`, the address says `{base}`: \
                     AsyncTcpConnection::<{wanted}>"
                ),
                None => format!(
                    "the scheme {scheme}:// is unknown: a connection of type `{name}` takes {own}\
                     tcp://, ssl:// and unix://"
                ),
            },
        })
    }

    fn of_server(scheme: &str, rest: &str, name: &'static str) -> Result<Unix, String> {
        if scheme.eq_ignore_ascii_case(name) || scheme == "tcp" {
            return Ok(Unix::No);
        }
        let line = |wanted: &str| match wanted == name {
            true => format!("`{wanted}://{rest}`"),
            false => format!("`{wanted}://{rest}` for a Worker::<{}>", server_type(wanted)),
        };
        Err(match scheme {
            "unix" => return Ok(Unix::Path),
            "" => format!("the scheme is missing: write `{name}://{rest}`"),
            "ws" => format!("ws:// is for clients: a server writes {}", line("websocket")),
            "wss" => format!(
                "wss:// is for clients: a server writes {} and calls \
                 `set_transport(Transport::Ssl)` and `set_tls`",
                line("websocket")
            ),
            "https" => {
                format!(
                    "https:// is http:// with TLS: write {} and call \
                     `set_transport(Transport::Ssl)` and `set_tls`",
                    line("http")
                )
            }
            "ssl" | "tls" => {
                format!(
                    "a server writes `{name}://{rest}` and calls \
                     `set_transport(Transport::Ssl)` and `set_tls` for TLS"
                )
            }
            "udp" => format!("udp:// is for a Worker::<Udp>, not for the type `{name}`"),
            "http" | "websocket" | "text" | "frame" => format!(
                "the worker is of type `{name}`, the address says `{scheme}`: Worker::<{}>",
                server_type(scheme)
            ),
            _ => {
                let own = if name == "tcp" { String::new() } else { format!("{name}://, ") };
                format!(
                    "the scheme {scheme}:// is unknown: a worker of type `{name}` takes {own}\
                     tcp:// and unix://"
                )
            }
        })
    }
}

fn client_type(scheme: &str) -> Option<&'static str> {
    match scheme {
        "ws" | "wss" => Some("Ws"),
        "text" => Some("Text"),
        "frame" => Some("Frame"),
        _ => None,
    }
}

fn server_type(scheme: &str) -> &'static str {
    match scheme {
        "http" => "Http",
        "websocket" => "Websocket",
        "text" => "Text",
        "frame" => "Frame",
        _ => "Tcp",
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { SECURE_PORT } else { PORT }
}

enum Host<'a> {
    Name(&'a str),
    Ip(IpAddr),
}

impl Host<'_> {
    fn text(&self) -> String {
        match self {
            Host::Name(name) => name.to_string(),
            Host::Ip(ip) => ip.to_string(),
        }
    }

    fn is_localhost(&self) -> bool {
        matches!(self, Host::Name(name) if name.eq_ignore_ascii_case("localhost"))
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn split_port(place: &str) -> Result<(&str, Option<&str>), String> {
    if place.starts_with('[') {
        let Some(end) = place.find(']') else {
            return Err("the bracket `[` of the IPv6 address is not closed by `]`".into());
        };
        let (host, after) = place.split_at(end + 1);
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(format!("after `{host}` comes `:port`, not `{after}`")),
        };
    }
    if place.contains(['[', ']']) {
        return Err("brackets stand around an IPv6 address only: write `[::1]:port`".into());
    }
    match place.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            let meant = in_brackets(place);
            Err(format!("an IPv6 address stands in brackets: write `{meant}`"))
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((place, None)),
    }
}

/// What colons without brackets may have meant. `::1:80` is an address as a whole, too, but a port
/// is missing then.
fn in_brackets(place: &str) -> String {
    match place.rsplit_once(':') {
        Some((ip, port)) if ip.parse::<Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok() => {
            format!("[{ip}]:{port}")
        }
        _ if place.parse::<Ipv6Addr>().is_ok() => format!("[{place}]:port"),
        _ => "[::1]:port".into(),
    }
}

/// `ws:/host`, `unix:/run/a`, `/run/a`: what to write instead.
fn lacks_slashes(address: &str) -> Option<String> {
    if address.starts_with('/') && !address.starts_with("//") {
        return Some(format!("the scheme is missing: write `unix://{address}`"));
    }
    let (scheme, rest) = address.split_once(':')?;
    let lower = scheme.to_ascii_lowercase();
    // A host may be called `unix`; its port tells.
    let is_file = (lower == "unix" || lower.ends_with("+unix"))
        && !rest.starts_with(|c: char| c.is_ascii_digit());
    let rest = if is_file { rest } else { rest.strip_prefix('/')?.trim_start_matches('/') };
    Some(format!("two slashes follow the scheme: write `{scheme}://{rest}`"))
}

fn read_port(port: &str) -> Result<u16, String> {
    if port.is_empty() {
        return Err("the port is missing after the colon".into());
    }
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(format!("the port `{port}` is not a number from 1 to 65535")),
    }
}

fn read_host(host: &str) -> Result<Host<'_>, String> {
    if host.is_empty() {
        return Err("the host is missing: write `scheme://host:port`".into());
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.trim_end_matches(']');
        return match inner.parse::<Ipv6Addr>() {
            Ok(ip) => Ok(Host::Ip(ip.into())),
            Err(_) => Err(format!("`{inner}` is no IPv6 address")),
        };
    }
    if let Some(odd) = host.chars().find(|c| !c.is_ascii()) {
        return Err(format!(
            "`{odd}` cannot stand in a host: write the name as the DNS has it, `xn--…`"
        ));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if let Some(odd) = host.chars().find(|c| !fits(*c as u8)) {
        return Err(format!("{odd:?} cannot stand in a host"));
    }
    // A host that ends in a number is an IPv4 address, and only in the usual form: `127.1` and
    // `0x7f.1` are 127.0.0.1 for some system libraries, which fools whoever checks a text.
    if looks_numeric(host) {
        return match host.parse::<Ipv4Addr>() {
            Ok(ip) => Ok(Host::Ip(ip.into())),
            Err(_) => Err(format!("`{host}` is no IPv4 address: write four numbers up to 255")),
        };
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(format!(
            "`{host}` is no host name: its parts between dots are 1 to 63 bytes long, \
             the whole at most 253"
        ));
    }
    Ok(Host::Name(host))
}

fn looks_numeric(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let hex = last.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("0x"));
    !last.is_empty()
        && (last.bytes().all(|b| b.is_ascii_digit())
            || hex && last.bytes().skip(2).all(|b| b.is_ascii_hexdigit()))
}

/// What follows the authority: `/` at least, without the fragment.
fn read_path(path: &str) -> Result<String, String> {
    let path = path.split('#').next().unwrap_or_default();
    for c in path.chars() {
        if !c.is_ascii_graphic() {
            let mut utf8 = [0; 4];
            let encoded: String =
                c.encode_utf8(&mut utf8).bytes().map(|b| format!("%{b:02X}")).collect();
            return Err(format!(
                "{c:?} cannot stand in a path: percent-encode it, {c:?} becomes `{encoded}`"
            ));
        }
    }
    Ok(match path.starts_with('/') {
        true => path.to_string(),
        false => format!("/{path}"),
    })
}

/// `user:password`. A `%3A` in the name would decode to a second colon and move the name's end.
fn read_userinfo(userinfo: &str) -> Result<String, String> {
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (userinfo, None),
    };
    let user = percent_decoded(user)?;
    if user.contains(':') {
        return Err("a user name with a colon (`%3A`) cannot be sent".into());
    }
    Ok(match password {
        Some(password) => format!("{user}:{}", percent_decoded(password)?),
        None => user,
    })
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'%' => hex_pair(bytes.next(), bytes.next()).ok_or(
                "in the part before `@` a `%` is followed by two hexadecimal digits; \
                 a `%` of the password itself is written `%25`",
            )?,
            b'\x21'..=b'\x7e' => byte,
            _ => return Err("the part before `@` has a byte that must be percent-encoded".into()),
        };
        if decoded.is_ascii_control() {
            return Err("the part before `@` has a control character".into());
        }
        out.push(decoded);
    }
    String::from_utf8(out).map_err(|_| "the part before `@` is not UTF-8".into())
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |b: Option<u8>| char::from(b?).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn read_socket_file(path: &str) -> Result<PathBuf, String> {
    if path.is_empty() {
        return Err("the path of the socket file is missing: write `unix:///run/app.sock`".into());
    }
    let path = PathBuf::from(path);
    match std::os::unix::net::SocketAddr::from_pathname(&path) {
        Ok(_) => Ok(path),
        Err(e) => Err(format!("the path of the socket file cannot be used: {e}")),
    }
}

mod udp;

#[cfg(test)]
mod tests;
