//! What client and server agree on (RFC 7692 §5 and §7.1), and the header that says it (RFC 6455
//! §9.1).
use super::{Deflate, NARROWEST_OF_OURS, WIDEST, WINDOWS};
use crate::protocols::http::is_token;
use std::borrow::Cow;
use std::fmt::Write;

const NAME: &str = "permessage-deflate";
const SERVER_FORGETS: &str = "server_no_context_takeover";
const CLIENT_FORGETS: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// What one side of a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocols::websocket) struct Agreement {
    /// Of what we send; `None`: uncompressed, for the window is smaller than we can do.
    pub(super) our_bits: Option<u8>,
    pub(super) we_take_over: bool,
    pub(super) peer_takes_over: bool,
    pub(super) level: u8,
    pub(super) threshold: usize,
}

/// One extension of a header, with its parameters in their order.
#[derive(Debug, PartialEq, Eq)]
struct Extension<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// The parameters of one permessage-deflate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_forgets: bool,
    client_forgets: bool,
    server_bits: Option<u8>,
    /// `Some(None)`: named without a value, which only an offer may do.
    client_bits: Option<Option<u8>>,
}

/// Whether what a client offers can be read at all.
pub(in crate::protocols::websocket) fn check_offers<'a>(
    mut values: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    values.try_for_each(|value| parse(value).map(drop))
}

impl Deflate {
    /// A client's offer, as the header's value.
    pub(in crate::protocols::websocket) fn offer(&self) -> String {
        let mut offer = String::from(NAME);
        if self.server_no_context_takeover == Some(true) {
            let _ = write!(offer, "; {SERVER_FORGETS}");
        }
        if self.client_no_context_takeover == Some(true) {
            let _ = write!(offer, "; {CLIENT_FORGETS}");
        }
        if let Some(bits) = self.server_max_window_bits {
            let _ = write!(offer, "; {SERVER_BITS}={bits}");
        }
        match self.client_max_window_bits {
            None => {
                let _ = write!(offer, "; {CLIENT_BITS}");
            }
            Some(WIDEST) => {}
            Some(bits) => {
                let _ = write!(offer, "; {CLIENT_BITS}={bits}");
            }
        }
        offer
    }

    /// A client's check of the server's answer to [`offer`](Deflate::offer) (RFC 7692 §5.3 and
    /// §7.1): `None` where the server does not compress.
    pub(in crate::protocols::websocket) fn check_answer<'a>(
        &self,
        values: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Agreement>, String> {
        let mut answered = Vec::new();
        for value in values {
            answered.extend(parse(value).map_err(|e| {
                format!("the server's Sec-WebSocket-Extensions cannot be read: {e}")
            })?);
        }
        if let Some(foreign) = answered.iter().find(|extension| extension.name != NAME) {
            let name = foreign.name;
            return Err(format!("the server uses an extension nobody asked for: {name}"));
        }
        let answer = match &answered[..] {
            [] => return Ok(None),
            [answer] => answer,
            _ => return Err(format!("the server agrees to {NAME} twice")),
        };
        self.judge_answer(answer)
            .map(Some)
            .map_err(|e| format!("the server's answer to our offer of {NAME} is wrong: {e}"))
    }

    fn judge_answer(&self, answer: &Extension) -> Result<Agreement, String> {
        let said = Parameters::read(answer)?;
        if self.server_no_context_takeover == Some(true) && !said.server_forgets {
            return Err(format!("{SERVER_FORGETS} was asked for and is not granted"));
        }
        if let Some(asked) = self.server_max_window_bits
            && said.server_bits.is_none_or(|bits| bits > asked)
        {
            return Err(format!("{SERVER_BITS}={asked} was asked for and is not granted"));
        }
        let own = self.client_max_window_bits.unwrap_or(WIDEST);
        let our_bits = match said.client_bits {
            None => own,
            Some(None) => return Err(format!("{CLIENT_BITS} has no value")),
            Some(Some(_)) if self.client_max_window_bits == Some(WIDEST) => {
                return Err(format!("{CLIENT_BITS} was not offered"));
            }
            Some(Some(bits)) if bits > own => {
                return Err(format!("{CLIENT_BITS}={bits}, and {own} was offered"));
            }
            Some(Some(bits)) => bits,
        };
        let we_forget = said.client_forgets || self.client_no_context_takeover == Some(true);
        Ok(self.agreed(our_bits, we_forget, said.server_forgets))
    }

    /// A server's answer to what a client offers: the first offer that can be accepted, or `None`.
    /// What cannot be read is no offer.
    pub(in crate::protocols::websocket) fn accept<'a>(
        &self,
        values: impl Iterator<Item = &'a str>,
    ) -> Option<(String, Agreement)> {
        values
            .flat_map(|value| parse(value).unwrap_or_default())
            .filter(|offer| offer.name == NAME)
            .find_map(|offer| self.accept_one(Parameters::read(&offer).ok()?))
    }

    /// RFC 7692 §5.1: what cannot be done as it is asked for is declined.
    fn accept_one(&self, offer: Parameters) -> Option<(String, Agreement)> {
        if offer.server_bits.is_some_and(|bits| bits < NARROWEST_OF_OURS) {
            return None;
        }
        let mut answer = String::from(NAME);
        let we_forget = offer.server_forgets || self.server_no_context_takeover.unwrap_or(true);
        if we_forget {
            let _ = write!(answer, "; {SERVER_FORGETS}");
        }
        let peer_forgets = offer.client_forgets || self.client_no_context_takeover.unwrap_or(true);
        if peer_forgets {
            let _ = write!(answer, "; {CLIENT_FORGETS}");
        }
        let most = self.server_max_window_bits.unwrap_or(WIDEST);
        let our_bits = offer.server_bits.map_or(most, |bits| bits.min(most));
        if our_bits < WIDEST || offer.server_bits.is_some() {
            let _ = write!(answer, "; {SERVER_BITS}={our_bits}");
        }
        let demanded = self.client_max_window_bits.unwrap_or(WIDEST);
        match offer.client_bits {
            // RFC 7692 §7.1.2.2: a client that did not name it cannot be told.
            None if demanded < WIDEST => return None,
            Some(hint) if demanded < hint.unwrap_or(WIDEST) => {
                let _ = write!(answer, "; {CLIENT_BITS}={demanded}");
            }
            _ => {}
        }
        Some((answer, self.agreed(our_bits, we_forget, peer_forgets)))
    }

    fn agreed(&self, our_bits: u8, we_forget: bool, peer_forgets: bool) -> Agreement {
        Agreement {
            our_bits: Some(our_bits).filter(|bits| *bits >= NARROWEST_OF_OURS),
            we_take_over: !we_forget,
            peer_takes_over: !peer_forgets,
            level: self.level,
            threshold: self.threshold,
        }
    }
}

impl Parameters {
    /// RFC 7692 §7.1: names that are defined, none twice, with the values that they may have.
    fn read(extension: &Extension) -> Result<Self, String> {
        let mut read = Parameters::default();
        for (i, (name, value)) in extension.parameters.iter().enumerate() {
            if extension.parameters[..i].iter().any(|(other, _)| other == name) {
                return Err(format!("{name} stands there twice"));
            }
            let value = value.as_deref();
            match (*name, value) {
                (SERVER_FORGETS, None) => read.server_forgets = true,
                (CLIENT_FORGETS, None) => read.client_forgets = true,
                (SERVER_FORGETS | CLIENT_FORGETS, Some(value)) => {
                    return Err(format!("{name} has a value, {value:?}, and may have none"));
                }
                (SERVER_BITS, None) => return Err(format!("{name} has no value")),
                (SERVER_BITS, Some(value)) => read.server_bits = Some(bits(name, value)?),
                (CLIENT_BITS, None) => read.client_bits = Some(None),
                (CLIENT_BITS, Some(value)) => read.client_bits = Some(Some(bits(name, value)?)),
                _ => return Err(format!("{name:?} is no parameter of {NAME}")),
            }
        }
        Ok(read)
    }
}

/// RFC 7692 §7.1.2: a decimal integer without leading zeros, 8 to 15.
fn bits(name: &str, value: &str) -> Result<u8, String> {
    let digits = !value.starts_with('0') && value.bytes().all(|b| b.is_ascii_digit());
    match value.parse() {
        Ok(bits) if digits && WINDOWS.contains(&bits) => Ok(bits),
        _ => Err(format!("{name}={value}, and 8 to 15 are the sizes of a window")),
    }
}

/// The extensions of one header line (RFC 6455 §9.1).
fn parse(value: &str) -> Result<Vec<Extension<'_>>, String> {
    let mut rest = Rest(value);
    let mut extensions = Vec::new();
    loop {
        // RFC 9110 §5.6.1.2: empty elements do not count.
        while rest.takes(',') {}
        if rest.is_empty() {
            return Ok(extensions);
        }
        let mut extension = Extension { name: rest.token()?, parameters: Vec::new() };
        while rest.takes(';') {
            let name = rest.token()?;
            let value = if rest.takes('=') { Some(rest.value()?) } else { None };
            extension.parameters.push((name, value));
        }
        extensions.push(extension);
        if !rest.is_empty() && !rest.takes(',') {
            return Err(format!("{:?} stands where a comma belongs", rest.0));
        }
    }
}

/// What of a header's value has not been read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn is_empty(&mut self) -> bool {
        self.skip_blanks();
        self.0.is_empty()
    }

    fn takes(&mut self, what: char) -> bool {
        self.skip_blanks();
        let behind = self.0.strip_prefix(what);
        self.0 = behind.unwrap_or(self.0);
        behind.is_some()
    }

    fn token(&mut self) -> Result<&'a str, String> {
        self.skip_blanks();
        let end = self.0.find([' ', '\t', ',', ';', '=', '"']).unwrap_or(self.0.len());
        let (token, behind) = self.0.split_at(end);
        if !is_token(token) {
            return Err(format!("{:?} does not begin with a name", self.0));
        }
        self.0 = behind;
        Ok(token)
    }

    /// A token, or one between quotes; RFC 6455 §9.1 wants a token in them too.
    fn value(&mut self) -> Result<Cow<'a, str>, String> {
        if !self.takes('"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut text = String::new();
        let mut characters = self.0.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' if is_token(&text) => {
                    self.0 = &self.0[at + 1..];
                    return Ok(Cow::Owned(text));
                }
                '"' => break,
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                character => text.push(character),
            }
        }
        Err(format!("\"{} is no token in quotes", self.0))
    }
}

#[cfg(test)]
mod tests;
