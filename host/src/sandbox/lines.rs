//! From an instruction of a component to the file and line of its source.
//!
//! Collected by [`super::compiler_process`] from the debug information, which is hostile input, as large as
//! its author likes and slow to read; looked up by [`super::failure`] when a guest traps, for which a sorted
//! table is enough. A component without debug information has no lines.

use std::{
    collections::HashMap,
    io::{self, Write},
    ops::Range,
    time::{Duration, Instant},
};

use gimli::{Dwarf, EndianSlice, LineProgramHeader, LineRow, LittleEndian, SectionId, Unit};
use wasmparser::{Parser, Payload};

use super::text::one_line;

/// The most rows that are kept: 3 MiB of the host for each component.
const MAX_ROWS: usize = 256 << 10;
/// How long it may take: debug information can be made to be slow to read.
const TIME: Duration = Duration::from_secs(5);
/// Between two looks at the clock.
const ROWS_AT_A_TIME: usize = 1 << 12;
/// The size of a row: three numbers.
const ROW_BYTES: usize = 12;
/// The most files.
const MAX_FILES: usize = 1 << 16;
/// The longest name of a file.
const MAX_NAME_BYTES: usize = 200;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The lines of a component.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Sorted by offset; each holds until the next.
    rows: Vec<Row>,
    files: Vec<String>,
}

/// From this offset in the component's file on, the source is this line; 0: it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    offset: u32,
    file: u32,
    line: u32,
}

impl Lines {
    /// Collects the lines of all modules of a component; what cannot be read is left out.
    pub(crate) fn of(component: &[u8]) -> Self {
        let mut collected = Collector { until: Instant::now() + TIME, rows: Vec::new(), files: HashMap::new() };
        let mut open = Vec::new();
        for payload in Parser::new(0).parse_all(component) {
            match payload {
                Ok(Payload::Version { .. }) => open.push(Module::default()),
                Ok(Payload::CodeSectionStart { range, .. }) => {
                    open.last_mut().into_iter().for_each(|module| module.code = range.clone());
                }
                Ok(Payload::CustomSection(section)) if section.name().starts_with(".debug_") => {
                    let data = (section.name(), section.data());
                    open.last_mut().into_iter().for_each(|module| module.sections.extend([data]));
                }
                // A damaged table ends where it is damaged.
                Ok(Payload::End(_)) => drop(open.pop().map(|module| collected.add(&module))),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        collected.finish()
    }

    /// Returns file and line of the instruction at this offset of the component's file.
    pub(crate) fn find(&self, offset: usize) -> Option<(&str, u32)> {
        let offset = u32::try_from(offset).ok()?;
        let after = self.rows.partition_point(|row| row.offset <= offset);
        let row = self.rows.get(after.checked_sub(1)?).filter(|row| row.line > 0)?;
        Some((self.files.get(row.file as usize)?, row.line))
    }

    /// Writes the numbers of rows and files, the rows, the files' names by line.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&(self.rows.len() as u64).to_le_bytes())?;
        for row in &self.rows {
            for number in [row.offset, row.file, row.line] {
                out.write_all(&number.to_le_bytes())?;
            }
        }
        out.write_all(self.files.join("\n").as_bytes())
    }

    /// Reads what `write` wrote; none where it is something else.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(ROW_BYTES)?;
        let (rows, files) = rest.split_at_checked(length)?;
        let rows = rows.chunks_exact(ROW_BYTES).filter_map(|row| {
            let (offset, rest) = row.split_first_chunk()?;
            let (file, line) = rest.split_first_chunk()?;
            let number = u32::from_le_bytes;
            Some(Row { offset: number(*offset), file: number(*file), line: number(line.try_into().ok()?) })
        });
        Some(Self { rows: rows.collect(), files: str::from_utf8(files).ok()?.lines().map(str::to_owned).collect() })
    }
}

/// Lines while they are collected.
#[derive(Debug)]
struct Collector {
    /// When it must end.
    until: Instant,
    rows: Vec<Row>,
    /// Name -> number.
    files: HashMap<String, u32>,
}

impl Collector {
    fn add(&mut self, module: &Module<'_>) -> gimli::Result<()> {
        let section = |id: SectionId| {
            let data = module.sections.get(id.name()).copied().unwrap_or_default();
            Ok::<_, gimli::Error>(Slice::new(data, LittleEndian))
        };
        let dwarf = Dwarf::load(section)?;
        let mut units = dwarf.units();
        while let Some(header) = units.next()?.filter(|_| self.has_time()) {
            self.add_unit(&dwarf, &dwarf.unit(header)?, module)?;
        }
        Ok(())
    }

    fn add_unit(&mut self, dwarf: &Dwarf<Slice<'_>>, unit: &Unit<Slice<'_>>, module: &Module<'_>) -> gimli::Result<()> {
        let Some(program) = unit.line_program.clone() else { return Ok(()) };
        let (mut rows, mut files, mut sequence) = (program.rows(), HashMap::new(), Vec::new());
        let mut seen: usize = 0;
        while let Some((header, row)) = rows.next_row()? {
            seen = seen.wrapping_add(1);
            let full = self.rows.len().saturating_add(sequence.len()) >= MAX_ROWS;
            if full || (seen.is_multiple_of(ROWS_AT_A_TIME) && !self.has_time()) {
                break;
            }
            let file = files.entry(row.file_index()).or_insert_with(|| self.file(name(dwarf, unit, header, row)));
            let same = |last: &Row, next: &Row| (last.file, last.line) == (next.file, next.line);
            sequence
                .extend(module.row(row, *file).filter(|next| !sequence.last().is_some_and(|last| same(last, next))));
            if row.end_sequence() {
                // Functions that the linker removed are said to be at 0, where no function can be.
                let lives = sequence.first().is_some_and(|first: &Row| first.offset as usize > module.code.start);
                self.rows.extend(sequence.drain(..).filter(|_| lives));
            }
        }
        Ok(())
    }

    fn has_time(&self) -> bool {
        Instant::now() < self.until
    }

    /// The number of a file's name; that of the first where there are too many.
    fn file(&mut self, name: String) -> u32 {
        let next = u32::try_from(self.files.len()).unwrap_or_default();
        let full = self.files.len() >= MAX_FILES;
        self.files.get(&name).copied().unwrap_or_else(|| if full { 0 } else { *self.files.entry(name).or_insert(next) })
    }

    fn finish(mut self) -> Lines {
        // Of rows of one offset the last of its sequence holds; where one ends, the next may begin.
        self.rows.sort_by_key(|row| (row.offset, row.line > 0));
        let mut files: Vec<(String, u32)> = self.files.into_iter().collect();
        files.sort_unstable_by_key(|(_, number)| *number);
        Lines { rows: self.rows, files: files.into_iter().map(|(name, _)| name).collect() }
    }
}

/// The path of a row's file as the compiler was given it.
fn name(
    dwarf: &Dwarf<Slice<'_>>,
    unit: &Unit<Slice<'_>>,
    header: &LineProgramHeader<Slice<'_>>,
    row: &LineRow,
) -> String {
    let text = |value| dwarf.attr_string(unit, value).ok().map(|text| text.to_string_lossy().into_owned());
    let Some(file) = row.file(header) else { return String::new() };
    let name = text(file.path_name()).unwrap_or_default();
    // The first directory is where the compiler ran: what counts from there stays as the author knows it.
    let directory = file.directory(header).filter(|_| file.directory_index() > 0).and_then(text);
    let path = match directory {
        Some(directory) if !name.starts_with('/') => format!("{directory}/{name}"),
        _ => name,
    };
    one_line(&path, MAX_NAME_BYTES).into_owned()
}

/// A core module of the component, as far as it was read.
#[derive(Debug, Default)]
struct Module<'a> {
    /// Where its code section is: its debug information counts from there.
    code: Range<usize>,
    sections: HashMap<&'a str, &'a [u8]>,
}

impl Module<'_> {
    fn row(&self, row: &LineRow, file: u32) -> Option<Row> {
        let address = usize::try_from(row.address()).ok().filter(|address| *address <= self.code.len())?;
        let line = row.line().filter(|_| !row.end_sequence()).map_or(0, |line| line.get());
        let offset = u32::try_from(self.code.start.checked_add(address)?).ok()?;
        Some(Row { offset, file, line: u32::try_from(line).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Collector, Duration, Instant, Lines, Row};

    fn lines(rows: &[(u32, u32)]) -> Lines {
        let rows = rows.iter().map(|(offset, line)| Row { offset: *offset, file: 0, line: *line }).collect();
        let files = HashMap::from([("x.rs".to_owned(), 0)]);
        Collector { until: Instant::now() + Duration::from_secs(1), rows, files }.finish()
    }

    #[test]
    fn a_row_holds_until_the_next() {
        let lines = lines(&[(10, 1), (20, 2), (30, 0)]);
        let at = |offset| lines.find(offset).map(|(_, line)| line);
        assert_eq!([at(9), at(10), at(19), at(20), at(29), at(30)], [None, Some(1), Some(1), Some(2), Some(2), None]);
    }

    #[test]
    fn of_rows_of_one_offset_the_last_holds_and_an_end_never() {
        assert_eq!(lines(&[(10, 30), (10, 12)]).find(10), Some(("x.rs", 12)));
        assert_eq!(lines(&[(10, 5), (20, 0), (5, 7), (20, 9)]).find(20), Some(("x.rs", 9)));
        assert_eq!(lines(&[(20, 9), (30, 0), (10, 5), (20, 0)]).find(20), Some(("x.rs", 9)));
    }

    #[test]
    fn what_is_written_is_read() {
        let lines = lines(&[(10, 1), (20, 2)]);
        let mut bytes = Vec::new();
        lines.write(&mut bytes).unwrap();
        assert_eq!(Lines::read(&bytes), Some(lines));
        assert_eq!(Lines::read(&bytes[..10]), None);
    }
}
