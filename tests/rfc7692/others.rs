//! What other tests judge, and what binds nobody here: each with its reason.
use crate::row::{Row, row};

pub(crate) fn rows() -> Vec<Row> {
    let judged = |id, says, file, test| row(id, says).elsewhere(file, test);
    let none = |id, says, why| row(id, says).none(why);
    let compressed = "src/protocols/websocket/session/tests/compressed.rs";
    vec![
        judged(
            "6.2-any-split",
            "However the stream of a compressed message is cut, the message is the same.",
            compressed,
            "any_split_of_a_compressed_stream_gives_the_same_events",
        ),
        judged(
            "7.2-both-ways",
            "Under every agreement one side reads what the other writes.",
            compressed,
            "two_sessions_hear_each_other_under_every_agreement",
        ),
        judged(
            "7.2-python",
            "What leaves here is read by Python's websockets, and what that sends is read here.",
            "tests/interop/compressed.rs",
            "python_echoes_what_we_compress",
        ),
        judged(
            "7.2-node",
            "What leaves here is read by Node's ws, and what that sends is read here.",
            "tests/interop/compressed.rs",
            "node_echoes_what_we_compress",
        ),
        judged(
            "7.2.2-damaged",
            "A damaged stream is an error however it is cut, and never a fault of ours.",
            compressed,
            "damaged_compressed_streams_never_panic_and_are_judged_alike_in_every_split",
        ),
        judged(
            "8-bomb-memory",
            "A message that inflates to a thousand times its size costs no more than the limit.",
            "tests/security/inflate.rs",
            "cve_2026_1526_a_bomb_costs_no_more_than_the_limit",
        ),
        none(
            "5-documents",
            "Who defines such an extension says how it is negotiated and how it transforms.",
            "for those who write other extensions; there is one here",
        ),
        none(
            "6.1-fragments-ours",
            "A sender may compress and send a message fragment by fragment.",
            "optional: a message leaves in one frame here (row 6.1-compressed)",
        ),
        none(
            "7.1.2-useful",
            "Windows of 1024 octets or more are recommended.",
            "advice: the sizes are the program's; 32 768 octets unless it says otherwise",
        ),
        none(
            "7.2.1-tail-ours",
            "The four octets are not taken off a fragment that is not the last one.",
            "a message leaves in one frame here; rows 7.2.1-tail-inside read such fragments",
        ),
        none(
            "7.2.1-padding-ours",
            "A block with BFINAL that does not end at an octet is padded with zeros.",
            "no block here has BFINAL: messages are flushed, not finished; row 7.2.1-padding reads it",
        ),
        none(
            "8-secrets",
            "Compression beside secrets in a secure transport tells of them by lengths (CRIME).",
            "advice to programs: nothing is compressed unless they ask (row 5-offer), and the \
             documentation of Deflate says when not to",
        ),
        none("9-registries", "Names and bits are registered.", "for those who keep the registries"),
    ]
}
