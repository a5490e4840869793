//! A cookie to set, with its attributes (RFC 6265 §4.1).
use super::is_token;
use crate::{Error, Interval};
use std::fmt::Write;

/// A cookie for [`Response::with_cookie`](crate::Response::with_cookie). What RFC 6265 permits in
/// neither name nor value keeps the response from being sent: a `;` would begin an attribute.
///
/// ```
/// use workerman::{Cookie, SameSite};
///
/// let cookie = Cookie::new("theme", "dark")
///     .max_age(30 * 24 * 3600)
///     .domain("example.com")
///     .path("/")
///     .secure()
///     .http_only()
///     .same_site(SameSite::Lax);
/// assert!(format!("{cookie:?}").contains("Max-Age=2592000"));
/// ```
#[derive(Debug)]
pub struct Cookie {
    line: String,
    fault: Option<Error>,
}

/// Whether a browser sends a cookie with requests that another site has caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// When a link was followed.
    Lax,
    /// Always; browsers want [`Cookie::secure`] with it.
    None,
}

impl Cookie {
    /// A cookie that lasts as long as the browser's session.
    pub fn new(name: &str, value: &str) -> Self {
        let fits = |b: u8| b.is_ascii_graphic() && !b"\",;\\".contains(&b);
        let mut cookie = Cookie { line: format!("{name}={value}"), fault: None };
        if !is_token(name) || !value.bytes().all(fits) {
            let reason = format!("the cookie {name:?} holds what a cookie cannot: encode it first");
            cookie.fault = Some(Error::header("Set-Cookie", reason));
        }
        cookie
    }

    /// For so many seconds; 0 deletes it.
    pub fn max_age(mut self, after: impl Into<Interval>) -> Self {
        let _ = write!(self.line, "; Max-Age={}", after.into().duration().as_secs());
        self
    }

    /// For requests below this path.
    pub fn path(self, path: &str) -> Self {
        self.attribute("Path", path)
    }

    /// For this host and those below it.
    pub fn domain(self, domain: &str) -> Self {
        self.attribute("Domain", domain)
    }

    /// Over TLS only.
    pub fn secure(mut self) -> Self {
        self.line.push_str("; Secure");
        self
    }

    /// Out of reach of scripts.
    pub fn http_only(mut self) -> Self {
        self.line.push_str("; HttpOnly");
        self
    }

    /// Whether other sites' requests bring it.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        let _ = write!(self.line, "; SameSite={same_site:?}");
        self
    }

    fn attribute(mut self, name: &str, value: &str) -> Self {
        if !value.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b';') {
            let reason = format!("the cookie's {name} {value:?} holds what it cannot");
            self.fault.get_or_insert(Error::header("Set-Cookie", reason));
        }
        let _ = write!(self.line, "; {name}={value}");
        self
    }

    pub(super) fn into_line(self) -> (String, Option<Error>) {
        (self.line, self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_stand_in_the_order_they_were_given() {
        let cookie = Cookie::new("a", "b").max_age(0).path("/x").domain("h.test").secure();
        let (line, fault) = cookie.http_only().same_site(SameSite::Strict).into_line();
        let expected = "a=b; Max-Age=0; Path=/x; Domain=h.test; Secure; HttpOnly; SameSite=Strict";
        assert_eq!(line, expected);
        assert!(fault.is_none());
    }

    #[test]
    fn what_would_begin_another_attribute_is_a_fault() {
        for cookie in [
            Cookie::new("a", "b; Secure"),
            Cookie::new("a b", "c"),
            Cookie::new("a", "b\r\nX: y"),
            Cookie::new("a", "b").path("/; Domain=other"),
            Cookie::new("a", "b").domain("h\r\n"),
        ] {
            assert!(cookie.into_line().1.is_some());
        }
    }
}
