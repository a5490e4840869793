//! Requests, from any bytes.
use super::server::testing::{in_pieces, outcome};
use crate::Limits;

/// What is heard and answered does not depend on how the bytes were cut.
pub fn http_request(bytes: &[u8]) {
    same_in_pieces(bytes);
    // A right request with something strange in it.
    if let [at, rest @ ..] = bytes {
        let request = b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
            Cookie: a=b\r\n\r\n5;x\r\nhello\r\n0\r\nT: x\r\n\r\n\
            GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
        let mut request = request.to_vec();
        let at = usize::from(*at) % request.len();
        request.splice(at..at, rest.iter().copied());
        same_in_pieces(&request);
    }
}

/// Only hears, in one way of cutting.
pub(crate) fn hear(limits: &Limits, bytes: &[u8], cut: usize) {
    in_pieces(limits, bytes, cut);
}

fn same_in_pieces(bytes: &[u8]) {
    let judged = |cut: usize| {
        let (heard, status, closed, text) = outcome(bytes, cut);
        // Whoever has sent the body already is not told to go on.
        (heard, status, closed, text.replace("HTTP/1.1 100 Continue\r\n\r\n", ""))
    };
    let whole = judged(bytes.len().max(1));
    for cut in [1, 2, 7, 64] {
        assert_eq!(judged(cut), whole, "in pieces of {cut}");
    }
}
