//! How authors make outputs.

use serde::Serialize;

use crate::{Error, Output};

impl Output {
    /// Makes an output for the `out_queue` with this body. A `Vec<u8>` or `String` is moved, not copied.
    #[must_use]
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Output { queue: None, headers: Vec::new(), body: body.into(), extra: Vec::new() }
    }

    /// Makes an output whose body is the value as JSON.
    ///
    /// # Errors
    /// A rejection with code `json-output` if the value has no form in JSON, for example a map whose keys
    /// are not text.
    pub fn json(value: &impl Serialize) -> Result<Self, Error> {
        match serde_json::to_vec(value) {
            Ok(body) => Ok(Output::new(body)),
            Err(error) => Err(Error::reject("json-output", error.to_string())),
        }
    }

    /// Sends it to another queue: one of the names in [`Context::out_queues`](crate::Context::out_queues).
    #[must_use]
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = Some(name.into());
        self
    }

    /// Adds a header for the SEND frame. Names that belong to the host (`destination`, `receipt` and the
    /// like) are refused by it.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_body_is_moved() {
        let body = vec![1_u8; 64];
        let place = body.as_ptr();
        assert_eq!(Output::new(body).body.as_ptr(), place);
    }

    #[test]
    fn an_output_is_built_in_one_expression() {
        let output = Output::json(&[1, 2]).unwrap().queue("audit").header("vo", "atlas");
        assert_eq!(output.queue.as_deref(), Some("audit"));
        assert_eq!((output.body, output.headers), (b"[1,2]".to_vec(), vec![("vo".into(), "atlas".into())]));
    }

    #[test]
    fn a_value_without_json_is_rejected() {
        let error = Output::json(&BTreeMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!(error, Error::reject("json-output", "key must be a string"));
    }
}
