//! What `stompbox send` sends: lines of standard input, or files, piece by piece.
//!
//! Runs on a thread of its own, since standard input blocks. A bounded channel holds it back: whatever the
//! size of the input, only a few pieces of it are in memory.

use std::{
    fs::File,
    io::{self, BufRead, Read},
    path::PathBuf,
};

use tokio::sync::mpsc;

/// One message, or why there is none.
#[derive(Debug)]
pub(super) struct Piece {
    /// How people call it: `line 3`, or the file.
    pub(super) name: String,
    pub(super) body: Result<Vec<u8>, String>,
}

/// Pieces that are read ahead.
const AHEAD: usize = 8;

/// Starts reading.
pub(super) fn read(files: Vec<PathBuf>, max_bytes: usize) -> mpsc::Receiver<Piece> {
    let (give, take) = mpsc::channel(AHEAD);
    // Not joined: it may sit in a read that never ends.
    std::thread::spawn(move || {
        if files.is_empty() {
            read_lines(io::stdin().lock(), max_bytes, &give);
        } else {
            read_files(files, max_bytes, &give);
        }
    });
    take
}

fn read_files(files: Vec<PathBuf>, max_bytes: usize, give: &mpsc::Sender<Piece>) {
    for file in files {
        let body = read_file(&file, max_bytes);
        if give.blocking_send(Piece { name: file.display().to_string().escape_debug().to_string(), body }).is_err() {
            return;
        }
    }
}

fn read_file(file: &PathBuf, max_bytes: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let read = File::open(file).and_then(|file| file.take(max_bytes as u64 + 1).read_to_end(&mut body));
    match read {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(size) if size > max_bytes => Err(too_long(max_bytes)),
        Ok(_) => Ok(body),
    }
}

/// Gives each line that is not empty; a line end may be that of Windows.
fn read_lines(mut input: impl BufRead, max_bytes: usize, give: &mpsc::Sender<Piece>) {
    for number in 1_u64.. {
        let name = format!("line {number}");
        let body = match read_line(&mut input, max_bytes) {
            Ok(None) => return,
            Ok(Some(Ok(line))) if line.is_empty() => continue,
            Ok(Some(body)) => body,
            Err(error) => {
                let body = Err(format!("cannot be read, and nothing behind it: {error}"));
                let _ = give.blocking_send(Piece { name, body });
                return;
            }
        };
        if give.blocking_send(Piece { name, body }).is_err() {
            return;
        }
    }
}

/// The next line without its end; none at the end of the input. Of a line that is too long nothing is kept.
fn read_line(input: &mut impl BufRead, max_bytes: usize) -> io::Result<Option<Result<Vec<u8>, String>>> {
    let mut line = Vec::new();
    // Two more for the line end.
    let read = input.by_ref().take(max_bytes as u64 + 2).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop_if(|last| *last == b'\n').is_some() {
        line.pop_if(|last| *last == b'\r');
    } else if line.len() > max_bytes {
        input.skip_until(b'\n')?;
    }
    Ok(Some(if line.len() > max_bytes { Err(too_long(max_bytes)) } else { Ok(line) }))
}

fn too_long(max_bytes: usize) -> String {
    format!("is longer than the {max_bytes} bytes that brokers take")
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn lines(input: &'static [u8]) -> Vec<(String, Result<Vec<u8>, String>)> {
        let (give, mut take) = mpsc::channel(100);
        // Two bytes at a time, so that every boundary is met.
        read_lines(BufReader::with_capacity(2, input), 5, &give);
        drop(give);
        std::iter::from_fn(|| take.blocking_recv()).map(|piece| (piece.name, piece.body)).collect()
    }

    fn named(number: u64, body: &[u8]) -> (String, Result<Vec<u8>, String>) {
        (format!("line {number}"), Ok(body.to_vec()))
    }

    #[test]
    fn lines_are_numbered_and_empty_ones_skipped() {
        assert_eq!(
            lines(b"one\r\n\n\r\ntwo\n\xff\0\nlast"),
            [named(1, b"one"), named(4, b"two"), named(5, b"\xff\0"), named(6, b"last")]
        );
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_named_and_those_behind_it_are_read() {
        let long = |number| (format!("line {number}"), Err(too_long(5)));
        assert_eq!(
            lines(b"12345\n123456\n12345\r\nend"),
            [named(1, b"12345"), long(2), named(3, b"12345"), named(4, b"end")]
        );
        assert_eq!(lines(b"1234567890123456789012345\n\nx"), [long(1), named(3, b"x")]);
        assert_eq!(lines(b"1234567"), [long(1)]);
    }
}
