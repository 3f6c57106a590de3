//! Columns that fit: short titles before fewer columns, the least needed ones leave first.
//!
//! Called by [`super::table`], which knows what stands in them.

use super::cells::{Cell, Style, cut, paint};

/// Columns from this rank on are only shown where all have room.
pub(super) const EXTRA: u8 = 10;
/// What a name gets before columns leave for it.
const NAME: usize = 24;

/// A column of rows of one kind.
pub(super) struct Column<T> {
    pub(super) title: &'static str,
    pub(super) short: &'static str,
    /// The higher the earlier it leaves; 0: never.
    pub(super) rank: u8,
    pub(super) cell: fn(&T) -> Cell,
    /// Words, which stand to the left; else numbers.
    pub(super) words: bool,
}

/// A column of words.
pub(super) const fn words<T>(title: &'static str, short: &'static str, rank: u8, cell: fn(&T) -> Cell) -> Column<T> {
    Column { title, short, rank, cell, words: true }
}

/// A column of numbers.
pub(super) const fn numbers<T>(title: &'static str, short: &'static str, rank: u8, cell: fn(&T) -> Cell) -> Column<T> {
    Column { title, short, rank, cell, words: false }
}

/// How the columns stand.
struct Layout {
    /// The columns that stay, each with its width.
    columns: Vec<(usize, usize)>,
    /// Which of all are words.
    words: Vec<bool>,
    short: bool,
    gap: usize,
}

/// The lines of a table, its titles first. The first column is a name, to the left and cut where it must be.
pub(super) fn draw<T>(columns: &[Column<T>], rows: &[T], width: usize, colours: bool) -> Vec<String> {
    let cells: Vec<Vec<Cell>> =
        rows.iter().map(|row| columns.iter().map(|column| (column.cell)(row)).collect()).collect();
    let layout = fit(columns, &cells, width);
    let title = |column: &Column<T>| Cell::new(if layout.short { column.short } else { column.title }, Style::Title);
    let titles: Vec<Cell> = columns.iter().map(title).collect();
    std::iter::once(&titles).chain(&cells).map(|row| layout.line(row, colours)).collect()
}

impl Layout {
    fn line(&self, row: &[Cell], colours: bool) -> String {
        let mut line = String::new();
        for (place, (column, width)) in self.columns.iter().enumerate() {
            let Some(cell) = row.get(*column) else { continue };
            let text = cut(&cell.text, *width);
            let words = self.words.get(*column).copied().unwrap_or_default();
            let padded = if words { format!("{text:<width$}") } else { format!("{text:>width$}") };
            line.push_str(&" ".repeat(if place > 0 { self.gap } else { 0 }));
            line.push_str(&paint(&padded, cell.style, colours));
        }
        line
    }
}

fn fit<T>(columns: &[Column<T>], cells: &[Vec<Cell>], width: usize) -> Layout {
    let mut ranks: Vec<u8> = columns.iter().map(|column| column.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    for most in ranks.iter().rev() {
        for (short, gap) in [(false, 2), (true, 2), (true, 1)] {
            let layout = layout(columns, cells, *most, (short, gap), width);
            let fits = layout.columns.first().is_some_and(|(_, name)| *name > 0);
            if fits && (*most < EXTRA || !short) {
                return layout;
            }
        }
    }
    let mut least = layout(columns, cells, 0, (true, 1), width);
    least.columns.iter_mut().take(1).for_each(|(_, name)| *name = (*name).max(NAME / 2));
    least
}

/// The columns up to a rank. The name gets what is left over; nothing if that is too little.
fn layout<T>(
    columns: &[Column<T>],
    cells: &[Vec<Cell>],
    most: u8,
    (short, gap): (bool, usize),
    width: usize,
) -> Layout {
    let words = columns.iter().map(|column| column.words).collect();
    let title = |column: &Column<T>| if short { column.short } else { column.title }.chars().count();
    let widest = |at: usize| cells.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.chars().count()).max();
    let kept = columns.iter().enumerate().filter(|(_, column)| column.rank <= most);
    let mut columns: Vec<_> =
        kept.map(|(at, column)| (at, widest(at).unwrap_or_default().max(title(column)))).collect();
    let others: usize = columns.iter().skip(1).map(|(_, width)| gap + width).sum();
    if let Some((_, name)) = columns.first_mut() {
        let left = width.saturating_sub(others);
        *name = if left < (*name).min(NAME) { 0 } else { left.min(*name) };
    }
    Layout { columns, words, short, gap }
}
