//! What other tests judge, and what binds nobody here: each with its reason.
use crate::row::Row;
use crate::row::row;

pub(crate) fn rows() -> Vec<Row> {
    [elsewhere(), nobody()].into_iter().flatten().collect()
}

fn elsewhere() -> Vec<Row> {
    Vec::new()
}

fn nobody() -> Vec<Row> {
    let none = |id, says, why| row(id, says).none(why);
    vec![
        none(
            "4.1-one-at-a-time",
            "A client opens one connection at a time to one address and port, and waits with the next.",
            "differs: a rule against floods by web pages. A program here opens as many as it calls \
             connect() for; a server guards itself by Limits::connections",
        ),
        none(
            "4.1-proxy",
            "A client that is set up to use a proxy asks it for the connection.",
            "there are no proxies for clients here",
        ),
        none(
            "4.1-browser",
            "A browser sends its page's origin, and tells scripts nothing of a failed opening.",
            "this is no browser",
        ),
        none(
            "4.1-retry-after-status",
            "A client may authenticate or follow a redirect after another status than 101.",
            "optional: the program is given the answer (Failure::response) and decides",
        ),
        none(
            "4.2.2-several-versions",
            "A server of several versions lists them all.",
            "there is one version here, 13 (row 4.4-version)",
        ),
        none(
            "4.4-client-fallback",
            "A client that was told of other versions may try again with one of them.",
            "optional, and there is one version here",
        ),
        none(
            "5.2-extension-data",
            "An extension says how long its part of the payload is.",
            "no extension here has such data; RFC 7692 has none",
        ),
        none(
            "5.4-intermediaries",
            "An intermediary refragments only what it understands.",
            "there are no intermediaries here; pipe hands whole messages on",
        ),
        none(
            "5.5.3-latest",
            "Of several pings that came meanwhile the latest may be answered alone.",
            "optional: each is answered (row 5.5.2-ten), unless the socket is full",
        ),
        none(
            "7.2.3-reconnect",
            "A client that lost its connection waits before it tries again, by chance and ever longer.",
            "the program's: reconnect(seconds) waits as long as it says",
        ),
        none(
            "7.4.1-1010",
            "A client that needs an extension may close with 1010 where the server declined.",
            "optional: a program may call close_websocket(1010, …); a wrong answer fails the opening",
        ),
        none(
            "9.1-order",
            "Extensions apply in the order in which the server listed them.",
            "there is one extension, RFC 7692",
        ),
        none(
            "10.1-no-browser",
            "A server does not trust that its peer is a browser.",
            "advice: no check here rests on it; rows 10.2 say what Origin decides",
        ),
        none(
            "10.5-authentication",
            "A server may authenticate clients by any means of HTTP.",
            "the program's, in on_websocket_connect (row 4.2.2-403)",
        ),
        none(
            "10.6-tls",
            "Whoever wants secrecy runs it over TLS, by its current rules.",
            "rustls judges that; rows 4.1-tls say what it means for a connection",
        ),
        none(
            "11-registries",
            "Names and numbers are registered.",
            "for those who keep the registries",
        ),
    ]
}
