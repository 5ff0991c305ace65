//! Whole messages: text or binary, borrowed.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

/// A text or binary message, borrowed from the buffer that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message<'a> {
    /// UTF-8 text.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The payload, of either kind.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// The text, or `None` of a binary message, even one that is UTF-8.
    #[inline]
    pub fn as_text(self) -> Option<&'a str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// Whether this is a text message.
    #[inline]
    pub fn is_text(self) -> bool {
        matches!(self, Message::Text(_))
    }
}

/// Text as it is; a binary message as its length, `<5 bytes>`.
impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Text(text) => f.pad(text),
            Message::Binary(bytes) => write!(f, "<{} bytes>", bytes.len()),
        }
    }
}

/// Types that can be sent: strings as text, bytes as binary, a [`Message`] as itself.
pub trait ToMessage {
    /// This value as a message, without a copy.
    fn to_message(&self) -> Message<'_>;

    /// Whether values of this type own their bytes, so that [`into_bytes`](Self::into_bytes) gives them.
    /// `false` by default.
    #[inline]
    fn is_owned() -> bool
    where
        Self: Sized,
    {
        false
    }

    /// The bytes of this value if it owns them, so that a large message need not be copied.
    ///
    /// # Errors
    ///
    /// The value itself, which only borrows its bytes.
    fn into_bytes(self) -> Result<Vec<u8>, Self>
    where
        Self: Sized,
    {
        Err(self)
    }
}

impl ToMessage for Message<'_> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        *self
    }
}

impl ToMessage for str {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        Message::Text(self)
    }
}

impl ToMessage for String {
    fn is_owned() -> bool {
        true
    }

    #[inline]
    fn to_message(&self) -> Message<'_> {
        Message::Text(self)
    }

    fn into_bytes(self) -> Result<Vec<u8>, Self> {
        Ok(String::into_bytes(self))
    }
}

impl ToMessage for [u8] {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        Message::Binary(self)
    }
}

impl<const N: usize> ToMessage for [u8; N] {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        Message::Binary(self)
    }
}

impl ToMessage for Vec<u8> {
    fn is_owned() -> bool {
        true
    }

    #[inline]
    fn to_message(&self) -> Message<'_> {
        Message::Binary(self)
    }

    fn into_bytes(self) -> Result<Vec<u8>, Self> {
        Ok(self)
    }
}

impl<T: ToMessage + ToOwned + ?Sized> ToMessage for Cow<'_, T> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        // Both kinds of `Cow` deref to the borrowed form.
        T::to_message(self)
    }
}

impl<T: ToMessage + ?Sized> ToMessage for &T {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        T::to_message(self)
    }
}

impl<T: ToMessage + ?Sized> ToMessage for Box<T> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        T::to_message(self)
    }
}

impl<T: ToMessage + ?Sized> ToMessage for Rc<T> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        T::to_message(self)
    }
}

impl<T: ToMessage + ?Sized> ToMessage for Arc<T> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        T::to_message(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_text_and_bytes_are_binary() {
        let text = Message::Text("hi");
        let binary = Message::Binary(b"hi");
        let cases: &[(&str, &dyn ToMessage, Message<'_>)] = &[
            ("str", &"hi", text),
            ("String", &String::from("hi"), text),
            ("Cow<str>", &Cow::Borrowed("hi"), text),
            ("Box<str>", &Box::<str>::from("hi"), text),
            ("Arc<str>", &Arc::<str>::from("hi"), text),
            ("Message", &text, text),
            ("&&Message", &&text, text),
            ("&[u8]", &b"hi".as_slice(), binary),
            ("[u8; N]", b"hi", binary),
            ("Vec<u8>", &b"hi".to_vec(), binary),
            ("Cow<[u8]>", &Cow::Borrowed(b"hi".as_slice()), binary),
        ];
        for (name, value, expected) in cases {
            assert_eq!(value.to_message(), *expected, "{name}");
        }
    }

    #[test]
    fn messages_read_as_text_or_length() {
        assert_eq!(Message::Text("hi").to_string(), "hi");
        assert_eq!(Message::Binary(b"hello").to_string(), "<5 bytes>");
        assert_eq!(Message::Text("hi").as_bytes(), b"hi");
        assert_eq!(Message::Binary(b"hi").as_text(), None);
        assert!(Message::Text("").is_text());
    }
}
