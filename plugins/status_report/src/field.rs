//! One field of a message as it stands there, right or wrong.
//!
//! The table needs a field only for some kinds of message, so a wrong one must not fail the parse: it is
//! kept, in a form that can be named in the reason of a rejection. Text borrows from the body.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How many characters of a wrong text are shown.
const SHOWN_CHARS: usize = 40;

/// What stands in a field.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Field<'a> {
    /// The field is not there.
    #[default]
    Missing,
    /// It is there, as `null`.
    Null,
    /// A number without a fraction.
    Integer,
    /// Text.
    Text(Cow<'a, str>),
    /// Anything else, in words.
    Other(&'static str),
}

/// Says what was found: "missing", or an article and a noun.
impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Missing => f.write_str("missing"),
            Field::Null => f.write_str("null"),
            Field::Integer => f.write_str("an integer"),
            Field::Other(words) => f.write_str(words),
            Field::Text(text) => {
                let shown: String = text.chars().take(SHOWN_CHARS).collect();
                let more = if shown.len() < text.len() { "..." } else { "" };
                write!(f, "the text {shown:?}{more}")
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Field::Integer)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Field::Integer)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Field::Other("a number that is no 64-bit integer"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Field::Other("a boolean"))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other("an object"))
    }
}
