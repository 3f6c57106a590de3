//! A reader over one JSON object: each method asks for one key, gives its value or the default, and
//! records what is wrong. Keys that nobody asked for are reported at the end.
//!
//! A value with a problem is replaced by a harmless one so that reading goes on and finds the rest;
//! the configuration is not handed out then. The JSON `null` means "not given".

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::problem::{Report, element, hint, member};

/// What all objects of one file share.
pub(super) struct Scope<'a> {
    /// Directory of the file, for relative paths.
    pub(super) base: &'a Path,
    /// Looks up an environment variable.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Everything found so far.
    pub(super) report: &'a RefCell<Report>,
}

/// One JSON object being read.
pub(super) struct Fields<'a> {
    path: String,
    /// Absent when the value was no object, which has been reported.
    object: Option<&'a Map<String, Value>>,
    asked: RefCell<Vec<&'static str>>,
    scope: &'a Scope<'a>,
}

impl<'a> Fields<'a> {
    /// Reads the object at `path` with `read`, then reports the keys that it did not ask for.
    pub(super) fn read<T>(path: String, value: &'a Value, scope: &'a Scope<'a>, read: impl FnOnce(&Self) -> T) -> T {
        let object = value.as_object();
        if object.is_none() {
            let path = if path.is_empty() { "(top level)".to_owned() } else { path.clone() };
            scope.report.borrow_mut().error(path, must_be("an object {...}", value));
        }
        let fields = Self { path, object, asked: RefCell::default(), scope };
        let result = read(&fields);
        fields.report_unknown();
        result
    }

    fn report_unknown(&self) {
        let asked = self.asked.borrow();
        for key in self.object.into_iter().flat_map(Map::keys) {
            if !asked.contains(&key.as_str()) {
                let message = format!("unknown key{}", hint(key, asked.iter().copied()));
                self.scope.report.borrow_mut().suspect(self.path_of(key), message);
            }
        }
    }

    /// The path of a key of this object.
    pub(super) fn path_of(&self, key: &str) -> String {
        member(&self.path, key)
    }

    /// Records an error at a key of this object.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) {
        self.scope.report.borrow_mut().error(self.path_of(key), message.into());
    }

    /// Records an error at an element of a list of this object.
    pub(super) fn error_in(&self, key: &str, index: usize, message: impl Into<String>) {
        let path = element(&self.path_of(key), index);
        self.scope.report.borrow_mut().error(path, message.into());
    }

    /// Records an error at a member of an object of this object.
    pub(super) fn error_at(&self, key: &str, name: &str, message: impl Into<String>) {
        let path = member(&self.path_of(key), name);
        self.scope.report.borrow_mut().error(path, message.into());
    }

    /// Records a warning at a member of an object of this object.
    pub(super) fn warn_at(&self, key: &str, name: &str, message: impl Into<String>) {
        let path = member(&self.path_of(key), name);
        self.scope.report.borrow_mut().warn(path, message.into());
    }

    /// Records a warning at a key of this object.
    pub(super) fn warn(&self, key: &str, message: impl Into<String>) {
        self.scope.report.borrow_mut().warn(self.path_of(key), message.into());
    }

    /// Looks up an environment variable.
    pub(super) fn env(&self, name: &str) -> Option<String> {
        (self.scope.env)(name)
    }

    /// The value of a key, unless it is absent or null.
    pub(super) fn value(&self, key: &'static str) -> Option<&'a Value> {
        if !self.asked.borrow().contains(&key) {
            self.asked.borrow_mut().push(key);
        }
        self.object?.get(key).filter(|value| !value.is_null())
    }

    /// A text without control characters: such a one could end a STOMP header or frame.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        let Some(text) = value.as_str() else {
            self.error(key, must_be("a text in quotes", value));
            return None;
        };
        if text.chars().any(char::is_control) {
            self.error(key, "must not contain control characters such as a line break");
            return None;
        }
        Some(text.to_owned())
    }

    /// A text that is not empty.
    pub(super) fn word(&self, key: &'static str) -> Option<String> {
        let text = self.text(key)?;
        if text.trim().is_empty() {
            self.error(key, "must not be empty");
            return None;
        }
        Some(text)
    }

    /// A text that must be there and not be empty.
    pub(super) fn required(&self, key: &'static str) -> String {
        self.require(key);
        self.word(key).unwrap_or_default()
    }

    /// Records an error when a mandatory key is absent.
    pub(super) fn require(&self, key: &'static str) {
        if self.object.is_some() && self.value(key).is_none() {
            self.error(key, "missing: this key is mandatory");
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let given = self.word(key)?;
        let found = words.iter().find(|(word, _)| *word == given).map(|(_, choice)| *choice);
        if found.is_none() {
            let hint = hint(&given, words.iter().map(|(word, _)| *word));
            self.error(key, format!("{given:?} is not a choice here{hint}"));
        }
        found
    }

    /// A path as seen from the directory of the configuration.
    pub(super) fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.scope.base.join(path)
    }

    /// A file or directory.
    pub(super) fn file(&self, key: &'static str) -> Option<PathBuf> {
        self.word(key).map(|path| self.resolve(path))
    }

    /// Files or directories.
    pub(super) fn files(&self, key: &'static str) -> Option<Vec<PathBuf>> {
        Some(self.texts(key)?.into_iter().map(|(_, path)| self.resolve(path)).collect())
    }

    /// A list of texts that are not empty, each with its index.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<(usize, String)>> {
        let value = self.value(key)?;
        let Some(list) = value.as_array() else {
            self.error(key, must_be("a list [...]", value));
            return None;
        };
        let mut texts = Vec::new();
        for (index, item) in list.iter().enumerate() {
            match item.as_str() {
                None => self.error_in(key, index, must_be("a text in quotes", item)),
                Some(text) if text.trim().is_empty() || text.chars().any(char::is_control) => {
                    self.error_in(key, index, "must not be empty or contain control characters");
                }
                Some(text) => texts.push((index, text.to_owned())),
            }
        }
        Some(texts)
    }

    /// The name of something defined elsewhere in the file.
    pub(super) fn reference<T>(
        &self,
        key: &'static str,
        kind: &str,
        known: &BTreeMap<Arc<str>, T>,
    ) -> Option<Arc<str>> {
        let name = self.word(key)?;
        let found = known.get_key_value(name.as_str()).map(|(name, _)| Arc::clone(name));
        if found.is_none() {
            self.error(key, dangling(kind, &name, known));
        }
        found
    }

    /// A list of names of things defined elsewhere in the file, each once.
    pub(super) fn references<T>(
        &self,
        key: &'static str,
        kind: &str,
        known: &BTreeMap<Arc<str>, T>,
    ) -> Option<Vec<Arc<str>>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for (index, name) in self.texts(key)? {
            match known.get_key_value(name.as_str()) {
                None => self.error_in(key, index, dangling(kind, &name, known)),
                Some((name, _)) if names.contains(name) => {}
                Some((name, _)) => names.push(Arc::clone(name)),
            }
        }
        Some(names)
    }

    /// An object below this one.
    pub(super) fn nested<T>(&self, key: &'static str, read: impl FnOnce(&Self) -> T) -> Option<T> {
        let value = self.value(key)?;
        Some(Self::read(self.path_of(key), value, self.scope, read))
    }

    /// An object whose keys are names of the user's choice, each of one object.
    pub(super) fn entries<T>(
        &self,
        key: &'static str,
        read: impl Fn(Arc<str>, &Self) -> T,
    ) -> BTreeMap<Arc<str>, Arc<T>> {
        let mut entries = BTreeMap::new();
        for (name, value) in self.members(key) {
            let path = member(&self.path_of(key), name);
            if name.trim().is_empty() || name.chars().any(char::is_control) {
                let message = "a name must not be empty or contain control characters";
                self.scope.report.borrow_mut().error(path.clone(), message.to_owned());
            }
            let name: Arc<str> = Arc::from(name.as_str());
            let entry = Self::read(path, value, self.scope, |fields| read(name.clone(), fields));
            entries.insert(name, Arc::new(entry));
        }
        entries
    }

    /// The members of an object whose keys are free.
    pub(super) fn members(&self, key: &'static str) -> impl Iterator<Item = (&'a String, &'a Value)> {
        let value = self.value(key);
        if let Some(value) = value.filter(|value| !value.is_object()) {
            self.error(key, must_be("an object {...}", value));
        }
        value.and_then(Value::as_object).into_iter().flatten()
    }
}

/// `must be RIGHT, not WRONG`, where WRONG is a kind, never the value: it could be a passcode.
pub(super) fn must_be(right: &str, value: &Value) -> String {
    let wrong = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("must be {right}, not {wrong}")
}

fn dangling<T>(kind: &str, name: &str, known: &BTreeMap<Arc<str>, T>) -> String {
    format!("there is no {kind} {name:?}{}", hint(name, known.keys().map(AsRef::as_ref)))
}
