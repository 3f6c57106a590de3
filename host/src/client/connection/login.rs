//! What a connection shows of itself: the passcode and the certificates, as they are on disk now.
//!
//! Read by [`super::Connection`] at each connect. The passcode leaves it in CONNECT and nowhere else:
//! what arrives passes [`Secret`] before anything tells of it.

use std::{fmt, sync::Arc};

use tokio::task::spawn_blocking;
use tokio_rustls::rustls::ClientConfig;

use crate::{
    client::{ClientError, ConnectOptions, FileError, files, tls},
    stomp::{Command, DecodeError, Frame},
};

/// What is read from files at each connect.
pub(super) struct Login {
    pub(super) passcode: Option<String>,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Login {
    /// Reads the files, away from the threads that serve sockets.
    pub(super) async fn read(options: &ConnectOptions) -> Result<Self, ClientError> {
        if options.tls.is_none() && options.passcode_file.is_none() {
            return Ok(Self { passcode: options.passcode.clone(), tls: None });
        }
        let options = options.clone();
        let read = spawn_blocking(move || -> Result<Self, FileError> {
            let passcode = options.passcode_file.as_deref().map(files::read_passcode).transpose()?;
            let tls = options.tls.as_ref().map(tls::Tls::config).transpose()?;
            Ok(Self { passcode: passcode.or(options.passcode), tls })
        });
        Ok(read.await.map_err(std::io::Error::other)??)
    }
}

/// What of a login stands in no text of ours, whatever the broker, or what stands before it, repeats.
pub(super) struct Secret {
    /// The ways in which it may stand in what arrives.
    forms: Vec<String>,
}

impl Secret {
    /// Of a shorter passcode nothing is hidden: it would be found in half of what brokers say.
    const SHORTEST: usize = 4;

    pub(super) fn new(passcode: Option<&str>) -> Self {
        let Some(plain) = passcode.map(str::trim).filter(|plain| plain.len() >= Self::SHORTEST) else {
            return Self { forms: Vec::new() };
        };
        let escaped = plain.replace('\\', "\\\\").replace(':', "\\c");
        Self { forms: vec![escaped, plain.to_owned()] }
    }

    /// The text without it.
    pub(super) fn hide(&self, text: &str) -> String {
        self.forms.iter().fold(text.to_owned(), |text, form| replaced(&text, form))
    }

    /// The same for what was cut off, maybe within it.
    fn hide_in_excerpt(&self, text: &mut String) {
        *text = self.hide(text);
        let end = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let is_cut = |form: &String| {
            (Self::SHORTEST..form.len())
                .rev()
                .find(|length| form.get(..*length).is_some_and(|begin| end.ends_with(begin)))
        };
        if let Some(length) = self.forms.iter().filter_map(is_cut).max() {
            text.truncate(end.len() - length);
            text.push_str("***");
        }
    }

    /// Takes it out of an ERROR; other frames are not told.
    pub(super) fn hide_in_frame(&self, frame: &mut Frame) {
        if frame.command != Command::Error || self.forms.is_empty() {
            return;
        }
        // What names the frame that is refused is compared, not told.
        let headers = frame.headers.iter().map(|(name, value)| match name {
            "receipt-id" => (name, value.to_owned()),
            _ => (name, self.hide(value)),
        });
        frame.headers = headers.collect();
        frame.body = self.hide(&String::from_utf8_lossy(&frame.body)).into();
    }

    /// An error without it: these quote what is no frame.
    pub(super) fn hide_in_error(&self, mut error: DecodeError) -> DecodeError {
        match &mut error {
            DecodeError::UnknownCommand(quoted)
            | DecodeError::NoColon(quoted, _)
            | DecodeError::ContentLength(quoted) => self.hide_in_excerpt(quoted),
            DecodeError::NoNul(..) | DecodeError::TooLarge { .. } | DecodeError::Skipped(_) => {}
        }
        error
    }
}

/// The text with stars for each such word; in a longer one it stays, since that is a name: of a queue, for example, which
/// a broker says is another one than declared.
fn replaced(text: &str, word: &str) -> String {
    let is_of_name = |char: char| char.is_alphanumeric() || matches!(char, '.' | '_' | '-' | '/');
    let (mut told, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(word) {
        let in_name = before.ends_with(is_of_name) || after.starts_with(is_of_name);
        told.push_str(before);
        told.push_str(if in_name { word } else { "***" });
        rest = after;
    }
    told + rest
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_that_ends_within_a_passcode_tells_none_of_it() {
        let secret = Secret::new(Some(" a:long\\é passcode"));
        for (text, told) in [
            ("passcode:a:long\\é passcode, no", "passcode:***, no"),
            ("passcode:a\\clong\\\\é passcode", "passcode:***"),
            ("passcode:a:long", "passcode:***"),
            ("passcode:a:long\\\u{fffd}", "passcode:***"),
            ("passcode:a\\clong\\\\é p", "passcode:***"),
            ("passcode:a:l", "passcode:a:l"),
        ] {
            let DecodeError::UnknownCommand(hidden) = secret.hide_in_error(DecodeError::UnknownCommand(text.into()))
            else {
                panic!("another error");
            };
            assert_eq!(hidden, told);
        }
    }

    #[test]
    fn a_short_passcode_does_not_garble_what_a_broker_says() {
        let told = |passcode| Secret::new(Some(passcode)).hide("a queue is not there");
        assert_eq!((told("a"), told(""), told("que")), ("a queue is not there".into(), told("a"), told("a")));
        assert_eq!(told("queue"), "a *** is not there");
        assert_eq!(Secret::new(Some("rucio")).hide("/queue/rucio.events, rucio"), "/queue/rucio.events, ***");
    }

    #[test]
    fn what_names_a_refused_send_stays() {
        let headers = [("receipt-id", "t-1234"), ("message", "no 1234")];
        let mut frame = Frame::new(Command::Error, headers, "1234!".into());
        Secret::new(Some("1234")).hide_in_frame(&mut frame);
        let expected = [("receipt-id", "t-1234"), ("message", "no ***")];
        assert_eq!(frame, Frame::new(Command::Error, expected, "***!".into()));
    }
}
