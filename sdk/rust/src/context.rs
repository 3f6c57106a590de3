//! What authors do with the context of an instance.

use serde::Deserialize;

use crate::{Context, json};

impl Context {
    /// Parses the `params` of the configuration; none at all count as an empty object.
    ///
    /// Put `#[serde(deny_unknown_fields)]` on `T` to catch misspelt parameters.
    ///
    /// # Errors
    /// One line that names the parameter, what was expected and what was found.
    pub fn params<'de, T: Deserialize<'de>>(&'de self) -> Result<T, String> {
        json::from_params(&self.params)
    }
}
