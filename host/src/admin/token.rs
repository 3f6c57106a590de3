//! The token of operators: read from its file whenever it is needed, so that it can be replaced at any time.
//!
//! Read by [`super::guard`] for each request, by [`crate::app`] before anything starts, and by the commands that
//! show it to a host. No text here ever holds it.

use std::{
    fs::{self, File},
    hint::black_box,
    io::{ErrorKind, Read},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// The longest token, in bytes, with what stands around it.
const MAX_BYTES: u64 = 4_096;

/// Reads a token: the one word in a file.
///
/// # Errors
/// The file cannot be read, or holds something that cannot be a token; the text says what to do.
pub fn read_token(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(file).and_then(|open| open.take(MAX_BYTES + 1).read_to_string(&mut text));
    let what = match read.map_err(|error| error.kind()) {
        Ok(read) if read as u64 > MAX_BYTES => "it is longer than 4 KiB: this is not the right file".to_owned(),
        Ok(_) => match text.trim() {
            "" => "it is empty: write a long random word into it".to_owned(),
            token if token.bytes().all(|byte| byte.is_ascii_graphic()) => return Ok(token.to_owned()),
            _ => "it must hold one word of letters, digits and signs in ASCII".to_owned(),
        },
        Err(ErrorKind::NotFound) => "there is no such file".to_owned(),
        Err(ErrorKind::PermissionDenied) => "this user may not read it".to_owned(),
        Err(ErrorKind::IsADirectory) => "it is a directory, not a file".to_owned(),
        Err(ErrorKind::InvalidData) => "it is not text".to_owned(),
        Err(kind) => kind.to_string(),
    };
    Err(format!("{}: {what}", file.display()))
}

/// Warns where others than the owner may read the file.
pub(super) fn warn_of_readers(file: &Path) {
    if fs::metadata(file).is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
        let file = file.display();
        tracing::warn!(%file, "others than its owner may use the token: chmod 600 {file}");
    }
}

/// Whether the two are the same, found in a time that does not tell how much of them is.
pub(super) fn same(given: &str, right: &str) -> bool {
    let differing = given.bytes().zip(right.bytes()).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    given.len() == right.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bytes: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        read_token(file.path())
    }

    #[test]
    fn a_token_is_the_one_word_of_its_file() {
        for bytes in ["s3cret+/=", "s3cret+/=\n", "  s3cret+/=\r\n\n"] {
            assert_eq!(token(bytes.as_bytes()).as_deref(), Ok("s3cret+/="));
        }
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_and_never_repeated() {
        for bytes in [b"".as_slice(), b" \n", b"s3cret s3cret", b"s3cret\x00", b"s3cret\xff", &[b's'; 5_000]] {
            let message = token(bytes).unwrap_err();
            assert!(!message.contains("s3cret") && !message.contains("sss"), "{message}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(read_token(dir.path()).unwrap_err().ends_with("it is a directory, not a file"));
        assert!(read_token(&dir.path().join("x")).unwrap_err().ends_with("there is no such file"));
    }

    #[test]
    fn tokens_are_the_same_only_as_a_whole() {
        assert!(same("abc", "abc") && same("", ""));
        for (given, right) in [("abd", "abc"), ("xbc", "abc"), ("ab", "abc"), ("abcd", "abc"), ("", "abc")] {
            assert!(!same(given, right), "{given} {right}");
        }
    }
}
