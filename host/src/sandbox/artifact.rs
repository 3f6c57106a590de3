//! What compiling makes of a component: machine code and the lines it came from.
//!
//! Written by [`super::compiler_process`], kept by [`super::cache`], read by [`super::load`].

use std::io::{self, Write};

use super::lines::Lines;

/// The first bytes of an artifact's file in the cache, and part of its name: the number changes with what is in it.
pub(crate) const FORMAT: &[u8; 20] = b"stompbox artifact 3\n";
/// The largest artifact: machine code is larger than the component it comes from.
pub(crate) const MAX_ARTIFACT_BYTES: u64 = 1 << 30;

/// A compiled component.
#[derive(Debug)]
pub(crate) struct Artifact<Code> {
    /// What wasmtime loads.
    pub(crate) code: Code,
    /// Where in the sources its instructions came from.
    pub(crate) lines: Lines,
}

impl Artifact<Vec<u8>> {
    /// Writes the length of the code, the code, the lines.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&(self.code.len() as u64).to_le_bytes())?;
        out.write_all(&self.code)?;
        self.lines.write(out)
    }
}

impl<'a> Artifact<&'a [u8]> {
    /// Reads what `write` wrote; none where it is something else.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (code, lines) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        Some(Self { code, lines: Lines::read(lines)? })
    }
}
