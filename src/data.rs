//! What arrives ([`Data`], borrowed) and what is sent ([`Payload`], borrowed or owned).
use std::borrow::Cow;
use std::fmt;

/// A message that arrived: text (checked UTF-8) or bytes. Derefs to `[u8]`; prints as text, lossily
/// where it is none.
///
/// It borrows the receive buffer, so it ends with the callback; `data.to_string()` or
/// `data.to_vec()` keeps a copy.
///
/// ```
/// use workerman::Data;
///
/// let data = Data::Text("hello");
/// assert_eq!(data, "hello");
/// assert_eq!(data.len(), 5);
/// assert_eq!(format!("{}", Data::Binary(&[0x68, 0x69])), "hi");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Data<'a> {
    /// A text message; valid UTF-8.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

impl<'a> Data<'a> {
    /// The message's bytes, whichever kind it is.
    pub fn as_bytes(&self) -> &'a [u8] {
        match *self {
            Data::Text(text) => text.as_bytes(),
            Data::Binary(bytes) => bytes,
        }
    }

    /// The text, or bytes that happen to be UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Data::Text(text) => Some(text),
            Data::Binary(bytes) => std::str::from_utf8(bytes).ok(),
        }
    }

    /// Whether the message begins with `prefix`.
    pub fn starts_with(&self, prefix: impl AsRef<[u8]>) -> bool {
        self.as_bytes().starts_with(prefix.as_ref())
    }

    /// Whether it came as text.
    pub fn is_text(&self) -> bool {
        matches!(self, Data::Text(_))
    }
}

impl std::ops::Deref for Data<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Data<'_> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Display for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::Text(text) => f.pad(text),
            Data::Binary(bytes) => f.pad(&String::from_utf8_lossy(bytes)),
        }
    }
}

macro_rules! equals_bytes {
    ($([$($generics:tt)*] $ty:ty),* $(,)?) => {$(
        impl<$($generics)*> PartialEq<$ty> for Data<'_> {
            fn eq(&self, other: &$ty) -> bool {
                let other: &[u8] = other.as_ref();
                self.as_bytes() == other
            }
        }
    )*};
}
equals_bytes! {
    [] str, [] &str, [] String, [] [u8], [] &[u8], [] Vec<u8>,
    [const N: usize] [u8; N], [const N: usize] &[u8; N],
}

/// A message to send. Anything PHP would pass to `send` converts: strings, bytes, numbers, a
/// message just received.
///
/// Text, numbers and formatted text go as text, bytes as binary, a received message as what it was.
pub struct Payload<'a> {
    bytes: Cow<'a, [u8]>,
    text: bool,
}

impl<'a> Payload<'a> {
    /// A text message.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        let bytes = match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Payload { bytes, text: true }
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Payload { bytes: bytes.into(), text: false }
    }

    /// The message's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it goes as text.
    pub fn is_text(&self) -> bool {
        self.text
    }

    /// The bytes, borrowed for as long as the payload was.
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        self.bytes
    }

    /// A copy that borrows nothing.
    pub fn into_owned(self) -> Payload<'static> {
        Payload { bytes: Cow::Owned(self.bytes.into_owned()), text: self.text }
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.text { "Text" } else { "Binary" };
        write!(f, "{kind}({:?})", String::from_utf8_lossy(&self.bytes))
    }
}

impl<'a> From<Data<'a>> for Payload<'a> {
    fn from(data: Data<'a>) -> Self {
        Payload { bytes: Cow::Borrowed(data.as_bytes()), text: data.is_text() }
    }
}

impl<'a> From<&Data<'a>> for Payload<'a> {
    fn from(data: &Data<'a>) -> Self {
        (*data).into()
    }
}

macro_rules! payload_from {
    ($($make:ident($how:ident): $($ty:ty)*;)*) => {$($(
        impl<'a> From<$ty> for Payload<'a> {
            fn from(value: $ty) -> Self {
                Payload::$make(payload_from!(@$how value))
            }
        }
    )*)*};
    (@as_is $value:ident) => { $value };
    (@printed $value:ident) => { $value.to_string() };
    (@str $value:ident) => { $value.as_str() };
    (@slice $value:ident) => { $value.as_slice() };
    (@copied $value:ident) => { String::from(&*$value) };
    (@boxed $value:ident) => { String::from($value) };
}
payload_from! {
    text(as_is): &'a str String Cow<'a, str>;
    text(str): &'a String;
    text(printed): fmt::Arguments<'a> i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64;
    text(printed): char bool;
    text(copied): std::rc::Rc<str>;
    text(boxed): Box<str>;
    binary(as_is): &'a [u8] Vec<u8> Cow<'a, [u8]>;
    binary(slice): &'a Vec<u8>;
}

impl<const N: usize> From<[u8; N]> for Payload<'_> {
    fn from(bytes: [u8; N]) -> Self {
        Payload::binary(bytes.to_vec())
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Payload::binary(&bytes[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_php_would_send_becomes_text_and_bytes_stay_bytes() {
        let texts: [Payload; 8] = [
            "42".into(),
            String::from("42").into(),
            42.into(),
            42u8.into(),
            42.0.into(),
            Box::<str>::from("42").into(),
            std::rc::Rc::<str>::from("42").into(),
            Cow::Borrowed("42").into(),
        ];
        assert!(Payload::from(format_args!("{}{}", 4, 2)).is_text());
        for payload in texts {
            assert!(payload.is_text());
            assert_eq!(payload.as_bytes(), b"42");
        }
        let bytes: [Payload; 4] =
            [b"42".into(), vec![b'4', b'2'].into(), [b'4', b'2'].into(), (&b"42"[..]).into()];
        for payload in bytes {
            assert!(!payload.is_text());
            assert_eq!(payload.as_bytes(), b"42");
        }
    }

    #[test]
    fn a_received_message_is_sent_as_what_it_was() {
        assert!(Payload::from(Data::Text("a")).is_text());
        assert!(!Payload::from(&Data::Binary(b"a")).is_text());
    }

    #[test]
    fn data_compares_with_every_kind_of_bytes() {
        let data = Data::Binary(b"ab");
        assert!(data == "ab" && data == *"ab" && data == b"ab" && data == [97, 98]);
        assert!(data == b"ab"[..] && data == "ab".as_bytes());
        let owned = (String::from("ab"), vec![97, 98]);
        assert!(data == owned.0 && data == owned.1);
        assert_eq!(data.as_str(), Some("ab"));
        assert_eq!(Data::Binary(&[0xff]).as_str(), None);
        assert_eq!(Data::Binary(&[0xff]).to_string(), "\u{fffd}");
    }
}
