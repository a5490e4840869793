//! Addresses of datagrams: `udp://`, or the protocol's own scheme, as PHP writes it beside
//! `transport = 'udp'`.
use super::{ClientAddress, ListenAddress, Place};
use crate::Error;

impl ListenAddress {
    /// `name` is the scheme of the protocol within the datagrams; `tcp` for none.
    pub(crate) fn parse_udp(address: &str, name: &'static str) -> Result<Self, Error> {
        let place = rest_of(address, name, "0.0.0.0:port", "Worker")
            .and_then(|rest| Ok(Place::Ip(Self::ip(rest, "udp")?)));
        match place {
            Ok(place) => Ok(ListenAddress { text: address.to_string(), place }),
            Err(reason) => Err(Error::address(address, reason)),
        }
    }
}

impl ClientAddress {
    /// Host and port, and nothing else.
    pub(crate) fn parse_udp(address: &str, name: &'static str) -> Result<Self, Error> {
        let read = || {
            let rest = rest_of(address, name, "host:port", "AsyncUdpConnection")?;
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (place, path) = rest.split_at(end);
            if place.contains('@') || !matches!(path, "" | "/") {
                return Err(format!(
                    "datagrams go to a host and a port, without a user or a path: write \
                     `udp://{}`",
                    place.rsplit('@').next().unwrap_or_default()
                ));
            }
            Self::network(place, "udp://", false)
        };
        read().map_err(|reason| Error::address(address, reason))
    }
}

/// What follows the scheme.
fn rest_of<'a>(
    address: &'a str,
    name: &'static str,
    place: &str,
    kind: &str,
) -> Result<&'a str, String> {
    if matches!(name, "http" | "websocket" | "ws") {
        return Err(format!("{name} needs a connection: datagrams cannot carry it"));
    }
    if address.is_empty() {
        return Err(format!("it is empty: write `udp://{place}`"));
    }
    let Some((scheme, rest)) = address.split_once("://") else {
        return Err(format!("the scheme is missing: write `udp://{address}`"));
    };
    let scheme = scheme.to_ascii_lowercase();
    let is_own = name != "tcp" && scheme.eq_ignore_ascii_case(name);
    if scheme == "udp" || is_own {
        return Ok(rest);
    }
    let own = if name == "tcp" { String::new() } else { format!(" and {name}://") };
    Err(match scheme.as_str() {
        "" => format!("the scheme is missing: write `udp://{rest}`"),
        "ssl" | "tls" | "wss" | "https" => {
            format!("{scheme}:// is TLS over TCP, which datagrams have not: write `udp://{rest}`")
        }
        "unix" => "unix:// has streams only: datagrams go to `udp://host:port`".into(),
        "text" | "frame" => {
            format!("for {scheme} in datagrams the type is {kind}::<{}>", typed(kind, &scheme))
        }
        _ => {
            format!("datagrams have the scheme udp://{own}, not {scheme}://: write `udp://{rest}`")
        }
    })
}

/// The type parameter for a protocol within datagrams.
fn typed(kind: &str, scheme: &str) -> String {
    let protocol = super::server_type(scheme);
    if kind == "Worker" { format!("Udp<{protocol}>") } else { protocol.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_take_udp_and_their_protocols_own_scheme() {
        for (address, name) in [
            ("udp://127.0.0.1:9090", "tcp"),
            ("UDP://127.0.0.1:9090/", "text"),
            ("text://127.0.0.1:9090", "text"),
            ("JsonNL://127.0.0.1:9090", "JsonNL"),
        ] {
            let listen = ListenAddress::parse_udp(address, name).expect(address);
            assert_eq!(listen.place, Place::Ip("127.0.0.1:9090".parse().expect("an address")));
            let client = ClientAddress::parse_udp(address, name).expect(address);
            assert_eq!((&*client.host, client.port), ("127.0.0.1", Some(9090)));
        }
        let v6 = ClientAddress::parse_udp("udp://[::1]:7", "tcp").expect("IPv6");
        assert_eq!(v6.peer(false), "[::1]:7");
    }

    #[test]
    fn what_is_odd_is_refused_with_what_to_write() {
        let rows = [
            ("", "tcp", "write `udp://"),
            ("127.0.0.1:1", "tcp", "write `udp://127.0.0.1:1`"),
            ("tcp://127.0.0.1:1", "tcp", "write `udp://127.0.0.1:1`"),
            ("ssl://127.0.0.1:1", "tcp", "write `udp://127.0.0.1:1`"),
            ("unix://s", "tcp", "streams only"),
            ("text://127.0.0.1:1", "tcp", "Text>"),
            ("udp://127.0.0.1", "tcp", "the port is missing"),
            ("udp://127.0.0.1:x", "tcp", "is not a number"),
            ("udp://127.0.0.1:1", "websocket", "cannot carry it"),
            ("udp://127.0.0.1:1", "http", "cannot carry it"),
        ];
        for (address, name, part) in rows {
            let worker = ListenAddress::parse_udp(address, name).expect_err(address).to_string();
            assert!(worker.contains(part), "{worker}");
            let client = ClientAddress::parse_udp(address, name).expect_err(address).to_string();
            assert!(client.contains(part), "{client}");
        }
        for address in ["udp://a@127.0.0.1:1", "udp://127.0.0.1:1/path", "udp://127.0.0.1:1?q"] {
            let error = ClientAddress::parse_udp(address, "tcp").expect_err(address).to_string();
            assert!(error.contains("write `udp://127.0.0.1:1`"), "{error}");
        }
        let zero = ClientAddress::parse_udp("udp://127.0.0.1:0", "tcp").expect_err("port 0");
        assert!(zero.to_string().contains("port 0 is for servers"), "{zero}");
    }
}
