//! What authors do with a message.

use serde::Deserialize;

use crate::json::{self, JsonError};
use crate::{Headers, Message};

impl Message {
    /// Parses the body as JSON; the fields of `T` may borrow from it.
    ///
    /// Text that may hold escapes is borrowed as `Cow<'_, str>` with `#[serde(borrow)]`; a plain `&str`
    /// fails on the first escaped quote.
    ///
    /// # Errors
    /// What is wrong, and where. `?` makes a rejection of it, with code `invalid-json` for a body that is
    /// not JSON and `invalid-message` for a field that is missing or of the wrong type.
    pub fn json<'de, T: Deserialize<'de>>(&'de self) -> Result<T, JsonError> {
        json::from_body(&self.body)
    }

    /// The value of a header: the first of that name, as STOMP 1.2 wants it ("Repeated Header Entries").
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

fn first<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use crate::testing;

    #[test]
    fn the_first_header_of_a_name_counts() {
        let mut message = testing::message("");
        for value in ["1", "2"] {
            message.headers.push(("vo".into(), value.into()));
        }
        assert_eq!((message.header("vo"), message.header("VO")), (Some("1"), None));
    }
}
