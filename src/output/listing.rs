//! Listings: the same rows as a table, JSON, lines of JSON, or CSV.
//!
//! A command names its columns once and hands over row after row. JSON and CSV are written as the
//! rows come, in constant memory; a table waits for the first rows to find its widths.
//!
//! A JSON array is closed by [`ListingWriter::finish`] alone: where the rows end early, the output
//! does not parse, rather than look complete.

use std::borrow::Cow;
use std::io::Write;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::printer::{Out, Stream};
use super::table::Table;
use super::{Printer, Result, json, spreadsheet};

/// How a listing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    // Plain comments: as documentation they would spread every `--help` over three screens.
    // Aligned columns for people.
    #[default]
    Table,
    // One JSON array of objects.
    Json,
    // One JSON object a line.
    Ndjson,
    // Comma-separated values with a header (RFC 4180).
    Csv,
}

/// What a column holds, and so how a table shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For copying: always in full, wrapped where the terminal is too narrow.
    Id,
    /// Text of others, shortened to fit.
    Text,
    /// RFC 3339.
    Time,
    /// To the right, thousands apart.
    Number,
    /// An event or a status, coloured by its meaning.
    Word,
    /// `yes` or `no`.
    Flag,
    /// Embedded in JSON output, shortened in tables.
    Json,
    /// The last of a table, and always in full: where a row has no room for it, below the row.
    Phrase,
    /// In tables a line of its own below the row, in full, where there is anything to say.
    Remark,
}

/// A column of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// In JSON and CSV: the name of the view's column.
    pub name: &'static str,
    /// In tables.
    pub title: &'static str,
    pub kind: Kind,
    /// Tables show fewer columns than the other formats.
    pub in_table: bool,
    /// Where a terminal is too narrow, tables leave out the columns of the highest number first; those of
    /// 0 always stay.
    pub spare: u8,
}

impl Column {
    /// A column that tables show.
    #[must_use]
    pub const fn new(name: &'static str, title: &'static str, kind: Kind) -> Self {
        Self { name, title, kind, in_table: true, spare: 0 }
    }

    /// The same column, left out of tables where there is no room for it.
    #[must_use]
    pub const fn spare(self, spare: u8) -> Self {
        Self { spare, ..self }
    }

    /// A column that only JSON and CSV have.
    #[must_use]
    pub const fn hidden(name: &'static str, kind: Kind) -> Self {
        Self { name, title: name, kind, in_table: false, spare: 0 }
    }
}

/// A value in a row. Text is given as it is: the listing makes it harmless.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Text(String),
    Integer(i64),
    Bool(bool),
    Json(serde_json::Value),
}

impl Cell {
    /// JSON kept as text; what does not parse stays text.
    #[must_use]
    pub fn parse_json(text: Option<String>) -> Self {
        text.map_or(Self::Null, |text| match serde_json::from_str(&text) {
            Ok(value) => Self::Json(value),
            Err(_) => Self::Text(text),
        })
    }

    fn to_csv(&self) -> Result<Cow<'_, str>> {
        Ok(match self {
            Self::Null => Cow::Borrowed(""),
            Self::Text(text) => spreadsheet::cell(text),
            Self::Integer(number) => Cow::Owned(number.to_string()),
            Self::Bool(flag) => Cow::Borrowed(if *flag { "1" } else { "0" }),
            Self::Json(value) => Cow::Owned(spreadsheet::json_cell(json::to_json(value)?)),
        })
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<crate::clock::Timestamp> for Cell {
    fn from(time: crate::clock::Timestamp) -> Self {
        Self::Text(time.to_string())
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Json(value) => value.serialize(serializer),
        }
    }
}

/// A row as a JSON object, its columns in order.
struct Object<'a> {
    columns: &'a [Column],
    cells: &'a [Cell],
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len()))?;
        for (column, cell) in self.columns.iter().zip(self.cells) {
            map.serialize_entry(column.name, cell)?;
        }
        map.end()
    }
}

/// Takes the rows of one listing. It must be [finished](ListingWriter::finish).
#[must_use = "a listing must be finished"]
pub struct ListingWriter<'a> {
    columns: &'a [Column],
    sink: Sink<'a>,
    err: &'a mut Stream,
    /// Said on standard error if no row comes; `None` when quiet.
    none: Option<&'a str>,
    rows: u64,
}

enum Sink<'a> {
    Table(Table<'a>),
    Json(&'a mut Out),
    Ndjson(&'a mut Out),
    Csv(Box<csv::Writer<&'a mut Out>>),
}

impl Printer {
    /// Begins a listing on standard output.
    ///
    /// A table without rows prints nothing there (`keydrift keys | wc -l` says 0); `none`, such as
    /// `no keys match`, is then said on standard error unless quiet or empty. Without rows JSON is `[]`,
    /// and CSV its header.
    pub fn listing<'a>(
        &'a mut self,
        format: Format,
        columns: &'a [Column],
        none: &'a str,
    ) -> Result<ListingWriter<'a>> {
        let Self { out, err, quiet } = self;
        let sink = match format {
            Format::Table => Sink::Table(Table::new(out, columns)),
            Format::Json => Sink::Json(&mut out.writer),
            Format::Ndjson => Sink::Ndjson(&mut out.writer),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(&mut out.writer);
                writer.write_record(columns.iter().map(|column| column.name))?;
                Sink::Csv(Box::new(writer))
            }
        };
        let is_said = format == Format::Table && !*quiet && !none.is_empty();
        let none = is_said.then_some(none);
        Ok(ListingWriter { columns, sink, err, none, rows: 0 })
    }
}

impl ListingWriter<'_> {
    /// One row, its cells in the order of the columns.
    pub fn row(&mut self, cells: &[Cell]) -> Result<()> {
        debug_assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column");
        let object = Object { columns: self.columns, cells };
        match &mut self.sink {
            Sink::Table(table) => table.row(cells)?,
            Sink::Json(out) => {
                out.write_all(if self.rows == 0 { b"[\n" } else { b",\n" })?;
                json::write(out, &object)?;
            }
            Sink::Ndjson(out) => {
                json::write(out, &object)?;
                out.write_all(b"\n")?;
            }
            Sink::Csv(writer) => {
                for cell in cells {
                    writer.write_field(cell.to_csv()?.as_bytes())?;
                }
                writer.write_record(None::<&[u8]>)?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Shows the rows so far without waiting for more (`log --follow`). From then on a table keeps
    /// its widths.
    pub fn flush(&mut self) -> Result<()> {
        match &mut self.sink {
            Sink::Table(table) => table.flush()?,
            Sink::Json(out) | Sink::Ndjson(out) => out.flush()?,
            Sink::Csv(writer) => writer.flush()?,
        }
        Ok(())
    }

    /// Ends the listing and says how many rows it had.
    pub fn finish(mut self) -> Result<u64> {
        match &mut self.sink {
            Sink::Table(table) => table.finish()?,
            Sink::Json(out) => out.write_all(if self.rows == 0 { b"[]\n" } else { b"\n]\n" })?,
            Sink::Ndjson(_) => {}
            // Out of its own buffer at least, where an error can still be told.
            Sink::Csv(writer) => writer.flush()?,
        }
        if let (0, Some(none)) = (self.rows, self.none) {
            let line = format!("{}\n", super::harmless(none));
            self.err.writer.write_all(line.as_bytes()).ok();
        }
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests;
