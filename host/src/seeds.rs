//! What fuzzers begin with: the files of `fuzz/seeds`, and bytes made of them.
//!
//! Called by the tests of each `fuzzing.rs`. The README of the seeds says where its files come from.

use fastrand::Rng;

/// The files of a target, in the order of their names.
pub(crate) fn files(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", folder.display());
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A file with a few changes, or two of them in one, or random bytes.
pub(crate) fn mutated(rng: &mut Rng, files: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = files[rng.usize(..files.len())].clone();
    if rng.u8(..8) == 0 {
        bytes = (0..rng.usize(..200))
            .map(|_| if rng.bool() { rng.u8(..) } else { b":\n\0\r\\{}\",."[rng.usize(..10)] })
            .collect();
    }
    for _ in 0..rng.usize(..6) {
        let at = rng.usize(..=bytes.len());
        let end = rng.usize(at..=bytes.len().min(at + 8));
        match rng.u8(..5) {
            0 if at < bytes.len() => bytes[at] = rng.u8(..),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.insert(at, b":\n\0\r\\{}\",."[rng.usize(..10)]),
            3 => {
                let other = &files[rng.usize(..files.len())];
                let from = rng.usize(..=other.len());
                bytes.splice(at..end, other[from..].iter().copied());
            }
            _ => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}
