//! Tables for people: aligned columns two spaces apart, a header, no frames.
//!
//! Our own rather than a crate's, because of what must hold here: ids are never cut and wrap
//! without losing a character, or stand out of their column where lines have no limit; names are
//! shortened instead, without tearing an escape; colour is decided by the stream that is passed
//! in; and a long history is printed piece by piece.

use std::io::Write;

use super::harmless::{MARKS_MAX, harmless, shortened, width, wrapped};
use super::human::grouped;
use super::paint::{Style, paint};
use super::printer::{Stream, Terminal};
use super::{Cell, Column, Kind, Result, json};

/// Names and other text are never wider than this.
const TEXT_MAX: usize = 60;
/// Enough characters to tell that a text is wider, whatever marks they have.
const CHARS_MAX: usize = (TEXT_MAX + 1) * (1 + MARKS_MAX);
/// Text is not shortened below this, unless it is shorter.
const TEXT_MIN: usize = 8;
/// Spare columns are left out before text is shortened below this.
const TEXT_GOOD: usize = 12;
/// Room for names and words that are still to come.
const TEXT_USUAL: usize = 24;
const WORD_USUAL: usize = 8;
const PHRASE_USUAL: usize = 60;
/// An id that is longer stands out of its column rather than widen it for all rows.
const ID_MAX: usize = 64;
/// Ids are not wrapped more narrowly than this.
const ID_MIN: usize = 16;
/// Before what stands below a row.
const INDENT: &str = "     ";
/// Between two columns.
const GAP: &str = "  ";
/// How many rows decide on the widths, and how many are in memory at once.
const ROWS_MAX: usize = 5_000;
/// What stands for an unknown value.
const NULL: &str = "-";

/// A table in the making: its rows wait until its widths are known.
pub(super) struct Table<'a> {
    out: &'a mut Stream,
    columns: &'a [Column],
    /// The columns that this table shows; fewer once the first rows are printed and do not fit.
    shown: Vec<Column>,
    /// Those that tables have at all.
    held: Vec<Column>,
    /// Texts of the columns that tables have, made harmless when they are printed, and the remarks.
    waiting: Vec<(Vec<String>, Option<String>)>,
    /// Of the shown columns; empty until the first rows are printed.
    widths: Vec<usize>,
}

impl<'a> Table<'a> {
    pub(super) fn new(out: &'a mut Stream, columns: &'a [Column]) -> Self {
        let held: Vec<Column> =
            columns.iter().filter(|column| is_in_row(column)).copied().collect();
        let shown = held.clone();
        Self { out, columns, shown, held, waiting: Vec::new(), widths: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: &[Cell]) -> Result<()> {
        let columns = || self.columns.iter().zip(cells);
        let shown = columns().filter(|(column, _)| is_in_row(column));
        let row = shown.map(|(column, cell)| text_of(column.kind, cell)).collect::<Result<_>>()?;
        let remark = columns().find(|(column, cell)| is_remark(column) && **cell != Cell::Null);
        let remark = remark.map(|(column, cell)| text_of(column.kind, cell)).transpose()?;
        self.waiting.push((row, remark));
        if self.waiting.len() >= ROWS_MAX { self.print_waiting(false) } else { Ok(()) }
    }

    /// Prints the rows so far. What comes later may be wider, and finds some room.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.print_waiting(true)?;
        self.out.writer.flush()?;
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        self.print_waiting(false)
    }

    /// Prints the rows so far, the first time under a header.
    fn print_waiting(&mut self, with_room: bool) -> Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        if self.widths.is_empty() && !rows.is_empty() {
            self.widths = full_widths(&self.shown, &rows, self.out.terminal.width.is_some());
            if with_room {
                make_room(&self.shown, &mut self.widths);
            }
            if let Some(available) = self.out.terminal.width {
                fit(&mut self.shown, &mut self.widths, available.into());
            }
            let titles: Vec<_> = self.shown.iter().map(|column| column.title.to_owned()).collect();
            self.print_row(&titles, true)?;
        }
        let is_left_out = |at: usize| !self.shown.contains(&self.held[at]);
        let left_out: Vec<bool> = (0..self.held.len()).map(is_left_out).collect();
        rows.into_iter().try_for_each(|(row, remark)| {
            let kept = row.into_iter().zip(&left_out).filter(|(_, left_out)| !**left_out);
            let row: Vec<String> = kept.map(|(text, _)| text).collect();
            self.print_row(&row, false)?;
            remark.map_or(Ok(()), |remark| self.print_below(&remark, Style::Faint))
        })
    }

    /// Prints what has no room in a row, or no column.
    fn print_below(&mut self, text: &str, style: Style) -> Result<()> {
        let Terminal { colour, width: limit, .. } = self.out.terminal;
        let room = limit.map_or(usize::MAX, |limit| usize::from(limit).max(ID_MIN) - INDENT.len());
        for line in lines_of_words(text, room) {
            writeln!(self.out.writer, "{INDENT}{}", paint(&line, style, colour))?;
        }
        Ok(())
    }

    /// Prints one row, on several lines where an id wraps.
    fn print_row(&mut self, row: &[String], is_header: bool) -> Result<()> {
        let Terminal { colour, width: limit, .. } = self.out.terminal;
        let columns = || self.shown.iter().zip(&self.widths);
        let lines_of = |((column, &width), text): ((&Column, &usize), &String)| match column.kind {
            kind if is_shortened(kind) => vec![shortened(text, width).into_owned()],
            Kind::Id if limit.is_some() => wrapped(text, width),
            _ => vec![harmless(text).into_owned()],
        };
        let mut cells: Vec<Vec<String>> = columns().zip(row).map(lines_of).collect();
        let phrase = columns().position(|(column, _)| column.kind == Kind::Phrase);
        let below = phrase.filter(|&at| limit.is_some() && width(&row[at]) > self.widths[at]);
        if let Some(at) = below {
            cells[at].clear();
        }
        for index in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = String::new();
            // Blanks are owed until something follows them: no line ends with any.
            let mut owed = 0;
            for ((column, &column_width), lines) in columns().zip(&cells) {
                let text = lines.get(index).map_or("", String::as_str);
                let room = column_width.saturating_sub(width(text));
                let (before, after) =
                    if column.kind == Kind::Number { (room, 0) } else { (0, room) };
                owed += before;
                if !text.is_empty() {
                    line.push_str(&" ".repeat(owed));
                    line.push_str(&paint(text, style_of(column.kind, text, is_header), colour));
                    owed = 0;
                }
                owed += after + GAP.len();
            }
            writeln!(self.out.writer, "{line}")?;
        }
        below.map_or(Ok(()), |at| self.print_below(&row[at], Style::Plain))
    }
}

fn style_of(kind: Kind, text: &str, is_header: bool) -> Style {
    match kind {
        _ if is_header => Style::Heading,
        _ if text == NULL => Style::Faint,
        Kind::Word => Style::of_word(text),
        _ => Style::Plain,
    }
}

/// The text of a cell; what no table shows of it is left out.
fn text_of(kind: Kind, cell: &Cell) -> Result<String> {
    let text = match cell {
        Cell::Null => NULL.to_owned(),
        Cell::Text(text) => text.clone(),
        Cell::Integer(number) if kind == Kind::Number => {
            let sign = if *number < 0 { "-" } else { "" };
            format!("{sign}{}", grouped(number.unsigned_abs()))
        }
        Cell::Integer(number) => number.to_string(),
        Cell::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Cell::Json(value) => json::to_json(value)?,
    };
    Ok(if is_shortened(kind) { text.chars().take(CHARS_MAX).collect() } else { text })
}

fn is_in_row(column: &Column) -> bool {
    column.in_table && column.kind != Kind::Remark
}

fn is_remark(column: &Column) -> bool {
    column.in_table && column.kind == Kind::Remark
}

fn is_shortened(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Json)
}

/// The width of each column: as wide as its content, long texts and ids apart.
fn full_widths(
    columns: &[Column],
    rows: &[(Vec<String>, Option<String>)],
    is_terminal: bool,
) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|column| width(column.title)).collect();
    for (row, _) in rows {
        for ((column_width, column), text) in widths.iter_mut().zip(columns).zip(row) {
            let text_width = match width(text) {
                wide if is_shortened(column.kind) => wide.min(TEXT_MAX),
                wide => wide,
            };
            if column.kind != Kind::Id || text_width <= ID_MAX {
                *column_width = text_width.max(*column_width);
            } else if is_terminal {
                *column_width = ID_MAX.max(*column_width);
            }
        }
    }
    widths
}

/// Widens the columns to what they usually hold.
fn make_room(columns: &[Column], widths: &mut [usize]) {
    for (column, column_width) in columns.iter().zip(widths) {
        let usual = match column.kind {
            Kind::Phrase => PHRASE_USUAL,
            kind if is_shortened(kind) => TEXT_USUAL,
            Kind::Word => WORD_USUAL,
            _ => 0,
        };
        *column_width = usual.max(*column_width);
    }
}

/// Makes the columns fit a terminal: the spare ones go, then text gives way, the widest before the
/// others, and then ids. A phrase needs no room, and gets what can be spared.
fn fit(columns: &mut Vec<Column>, widths: &mut Vec<usize>, terminal: usize) {
    let available =
        |columns: &[Column]| terminal.saturating_sub(GAP.len() * columns.len().saturating_sub(1));
    let good_width = |(column, width): (&Column, &usize)| match column.kind {
        Kind::Phrase => column.title.len(),
        kind if is_shortened(kind) => (*width).min(TEXT_GOOD),
        _ => *width,
    };
    while columns.iter().zip(&*widths).map(good_width).sum::<usize>() > available(columns) {
        let spare = columns.iter().enumerate().filter(|(_, column)| column.spare > 0);
        let Some((at, _)) = spare.max_by_key(|(_, column)| column.spare) else { break };
        columns.remove(at);
        widths.remove(at);
    }
    let available = available(columns);
    shrink(widths, columns, available, is_shortened, TEXT_GOOD);
    shrink(widths, columns, available, |kind| kind == Kind::Phrase, 0);
    shrink(widths, columns, available, is_shortened, TEXT_MIN);
    shrink(widths, columns, available, |kind| kind == Kind::Id, ID_MIN);
}

/// The text in lines of at most `room` columns, broken between words where that is possible.
fn lines_of_words(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for (at, word) in text.split(' ').enumerate() {
        let word_width = width(word);
        if at > 0 && used + 1 + word_width <= room {
            if let Some(line) = lines.last_mut() {
                line.push(' ');
                line.push_str(&harmless(word));
            }
            used += 1 + word_width;
            continue;
        }
        if at == 0 {
            lines.clear();
        }
        lines.extend(wrapped(word, room));
        used = lines.last().map_or(0, |line| width(line));
    }
    lines
}

/// Takes what is too much from the widest of some columns, again and again, down to a minimum.
fn shrink(
    widths: &mut [usize],
    columns: &[Column],
    available: usize,
    which: impl Fn(Kind) -> bool,
    minimum: usize,
) {
    while widths.iter().sum::<usize>() > available {
        let candidates = widths.iter_mut().zip(columns).filter(|(_, column)| which(column.kind));
        let can_shrink = candidates
            .filter(|(column_width, column)| **column_width > minimum.max(width(column.title)));
        let Some((widest, _)) = can_shrink.max_by_key(|(column_width, _)| **column_width) else {
            return;
        };
        *widest -= 1;
    }
}
