//! What other tests judge, and what binds nobody here: each with its reason.
use crate::row::Row;
use crate::row::row;

pub(crate) fn rows() -> Vec<Row> {
    [elsewhere(), nobody()].into_iter().flatten().collect()
}

fn elsewhere() -> Vec<Row> {
    let judged = |id, says, file, test| row(id, says).elsewhere(file, test);
    let (trust, luck) = ("src/transport/tls/tests/trust.rs", "tests/semantics/bad_luck.rs");
    vec![
        judged(
            "4.1-connect",
            "Where no connection to the host can be had, the WebSocket connection fails.",
            luck,
            "refused_says_phase_peer_time_and_the_systems_reason",
        ),
        judged(
            "4.1-tls",
            "Over TLS its handshake comes first; where it fails, so does the connection.",
            luck,
            "a_tls_failure_names_the_host_the_reason_and_the_option",
        ),
        judged(
            "4.1-tls-name",
            "A server's certificate is for the host of the address.",
            trust,
            "a_wrong_name_is_told_with_the_names_that_the_certificate_has",
        ),
        judged(
            "4.1-sni",
            "A client says in TLS which host it wants.",
            trust,
            "the_name_that_a_client_asks_for_chooses_the_certificate",
        ),
        judged(
            "4.1-headers",
            "What a program adds to the handshake is a header, and nothing behind it.",
            luck,
            "a_header_with_cr_lf_or_nul_is_an_error_and_nothing_of_it_is_sent",
        ),
        judged(
            "4.1-deadline",
            "The opening has one deadline, that no octet puts off.",
            luck,
            "the_deadline_is_not_reset_by_bytes_and_half_an_answer_is_late_too",
        ),
        judged(
            "4.2.2-tls",
            "A server over TLS does that handshake first, and goes where it fails.",
            "tests/semantics/accepted.rs",
            "an_accepted_connection_whose_tls_fails_has_no_events",
        ),
        judged(
            "4.2.2-http",
            "A server of HTTP on the same port may accept an upgrade among its requests.",
            "tests/http.rs",
            "a_page_and_a_websocket_share_one_port_and_even_one_connection",
        ),
        judged(
            "5.5.2-silent-peer",
            "Pings find out whether the peer is still there.",
            "tests/semantics/liveness.rs",
            "silence_after_a_ping_is_told_to_on_error_then_destroyed_then_on_close",
        ),
        judged(
            "7.1.1-unread",
            "The last that was said reaches a peer that is still sending: no reset takes it along.",
            "tests/semantics/ends.rs",
            "the_last_answer_survives_unread_input",
        ),
        judged(
            "7.1.1-tls",
            "Behind both close frames the end of TLS is nobody's fault.",
            "tests/semantics/tls_ends.rs",
            "behind_the_close_frames_a_missing_close_notify_is_nobodys_fault",
        ),
        judged(
            "7.4.1-1001",
            "A server that stops says 1001.",
            "tests/semantics/stopping.rs",
            "stopping_goes_on_worker_stop_then_listeners_then_1001_then_on_close_then_ok",
        ),
        judged(
            "7.4.1-1011",
            "An endpoint that met with a fault of its own says 1011.",
            "tests/semantics/callbacks.rs",
            "an_error_of_a_callback_of_a_websocket_closes_it_with_1011",
        ),
        judged(
            "10.4-sending",
            "A peer that sends and does not read is served no further than the send buffer's limit.",
            "tests/semantics/backpressure.rs",
            "an_echo_server_loses_nothing_however_fast_it_is_fed",
        ),
    ]
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
            "7.3-who-closes",
            "A server may close whenever it likes; a client has a reason.",
            "the program's: nothing here closes a client's connection of its own accord but a limit",
        ),
        none(
            "9.1-grammar",
            "A list of extensions that cannot be read fails the connection.",
            "a client fails at anything it did not ask for (row 4.1-extension); a server without \
             extensions reads none, one with compression is judged by RFC 7692's rows 5-grammar",
        ),
        none(
            "10.8-sha1",
            "The handshake rests on no property of SHA-1 that has been broken.",
            "a remark, and no rule",
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
