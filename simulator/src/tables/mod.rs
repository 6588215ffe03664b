//! Tables of a run: columns with a type, a unit and a line on what they say, written as Parquet, and beside it as CSV on request.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`columns`] | the tables that a run leaves |
//! | [`run`] | writes them |
//! | `parquet` | the file format |
//!
//! A file is the same for the same rows: it names neither the hour nor the machine.

pub mod columns;
mod parquet;
pub mod run;

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

pub use self::parquet::Frame;

/// Rows that are kept in memory until they are written as one row group.
const GROUP_ROWS: usize = 1 << 16;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whole numbers: Parquet's INT64.
    Whole,
    /// Other numbers: DOUBLE.
    Real,
    /// Text: BYTE_ARRAY in UTF-8.
    Text,
    /// Yes or no: BOOLEAN.
    Flag,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its type.
    pub kind: Kind,
    /// Whether rows may have no value.
    pub optional: bool,
    /// The unit; empty for what has none.
    pub unit: &'static str,
    /// What it says.
    pub about: &'static str,
}

impl Column {
    /// A column where each row has a value.
    pub const fn new(name: &'static str, kind: Kind, unit: &'static str, about: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), kind, optional: false, unit, about }
    }

    /// The same, where rows may have none.
    pub const fn or_none(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    None,
    /// A whole number.
    Whole(i64),
    /// Another number.
    Real(f64),
    /// Text.
    Text(&'a str),
    /// Yes or no.
    Flag(bool),
}

impl From<u64> for Cell<'_> {
    /// Numbers above 2^63 do not occur; they would be the greatest that does.
    fn from(value: u64) -> Self {
        Self::Whole(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Cell<'_> {
    fn from(value: u32) -> Self {
        Self::Whole(i64::from(value))
    }
}

impl From<Option<u32>> for Cell<'_> {
    fn from(value: Option<u32>) -> Self {
        value.map_or(Self::None, Self::from)
    }
}

impl From<bool> for Cell<'_> {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

/// Why a table cannot be written or read. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be opened, read or written.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// It is no Parquet file, or a damaged one.
    #[error("{} is damaged, or no Parquet file: {cause}", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A column is not there, or not as it must be.
    #[error("{}: the column {column:?} {wrong}", .path.display())]
    Column {
        /// Which file.
        path: PathBuf,
        /// Which column.
        column: String,
        /// What is wrong.
        wrong: &'static str,
    },
}

/// A column's values while its row group is collected.
#[derive(Debug)]
struct Held {
    column: Column,
    /// Whether each row has a value; for optional columns only.
    present: Vec<i16>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Whole(Vec<i64>),
    Real(Vec<f64>),
    Text(Vec<::parquet::data_type::ByteArray>),
    Flag(Vec<bool>),
}

impl Held {
    fn new(column: Column) -> Self {
        let values = match column.kind {
            Kind::Whole => Values::Whole(Vec::new()),
            Kind::Real => Values::Real(Vec::new()),
            Kind::Text => Values::Text(Vec::new()),
            Kind::Flag => Values::Flag(Vec::new()),
        };
        Self { column, present: Vec::new(), values }
    }

    /// Takes a value, and says what is wrong with it.
    fn push(&mut self, cell: Cell<'_>) -> Result<(), &'static str> {
        match (&mut self.values, cell) {
            (_, Cell::None) if self.column.optional => {}
            (_, Cell::None) => return Err("must have a value in each row"),
            (Values::Whole(values), Cell::Whole(value)) => values.push(value),
            (Values::Real(values), Cell::Real(value)) => values.push(value),
            (Values::Text(values), Cell::Text(value)) => values.push(value.into()),
            (Values::Flag(values), Cell::Flag(value)) => values.push(value),
            _ => return Err("is given a value of another type"),
        }
        self.present.push(i16::from(cell != Cell::None));
        Ok(())
    }
}

/// A table that is being written.
#[derive(Debug)]
pub struct Sheet {
    path: PathBuf,
    held: Vec<Held>,
    rows: usize,
    parquet: parquet::Output,
    csv: Option<(PathBuf, BufWriter<File>)>,
}

impl Sheet {
    /// Begins `name.parquet` in a folder, and `name.csv` if that is wanted.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn create(folder: &Path, name: &str, columns: Vec<Column>, csv: bool) -> Result<Self, TableError> {
        let make = |path: &Path| File::create(path).map_err(|cause| TableError::File { path: path.to_owned(), cause });
        let path = folder.join(format!("{name}.parquet"));
        let parquet = parquet::Output::new(make(&path)?, name, &columns).map_err(parquet::failed(&path))?;
        let csv = if csv {
            let path = folder.join(format!("{name}.csv"));
            let mut file = BufWriter::new(make(&path)?);
            let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
            writeln!(file, "{}", names.join(",")).map_err(|cause| TableError::File { path: path.clone(), cause })?;
            Some((path, file))
        } else {
            None
        };
        Ok(Self { path, held: columns.into_iter().map(Held::new).collect(), rows: 0, parquet, csv })
    }

    /// Adds a row: as many cells as there are columns, in their order.
    ///
    /// # Errors
    /// When it does not fit the columns, or cannot be written.
    pub fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), TableError> {
        let path = &self.path;
        let wrong = |column: &str, wrong| TableError::Column { path: path.clone(), column: column.to_owned(), wrong };
        if cells.len() != self.held.len() {
            return Err(wrong("*", "is given rows of another length"));
        }
        for (held, cell) in self.held.iter_mut().zip(cells) {
            held.push(*cell).map_err(|reason| wrong(&held.column.name, reason))?;
        }
        if let Some((path, file)) = &mut self.csv {
            let cells: Vec<String> = cells.iter().map(plain).collect();
            writeln!(file, "{}", cells.join(",")).map_err(|cause| TableError::File { path: path.clone(), cause })?;
        }
        self.rows += 1;
        if self.rows >= GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), TableError> {
        self.rows = 0;
        self.parquet.group(&mut self.held).map_err(parquet::failed(&self.path))
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn close(mut self) -> Result<(), TableError> {
        if self.rows > 0 {
            self.flush()?;
        }
        if let Some((path, mut file)) = self.csv.take() {
            file.flush().map_err(|cause| TableError::File { path, cause })?;
        }
        self.parquet.close().map_err(parquet::failed(&self.path))
    }
}

/// A value as it stands in CSV (RFC 4180).
fn plain(cell: &Cell<'_>) -> String {
    match cell {
        Cell::None => String::new(),
        Cell::Whole(value) => value.to_string(),
        Cell::Real(value) => value.to_string(),
        Cell::Text(value) => quoted(value),
        Cell::Flag(value) => value.to_string(),
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        vec![
            Column::new("at_ns", Kind::Whole, "ns", "when"),
            Column::new("share", Kind::Real, "", "how much").or_none(),
            Column::new("name", Kind::Text, "", "who"),
            Column::new("good", Kind::Flag, "", "whether").or_none(),
        ]
    }

    /// More rows than a row group has.
    const MANY: u32 = 70_000;

    fn write(folder: &Path, rows: u32) -> PathBuf {
        let mut sheet = Sheet::create(folder, "things", columns(), true).unwrap();
        for row in 0..rows {
            let share = if row % 3 == 0 { Cell::None } else { Cell::Real(f64::from(row) / 7.0) };
            let good = if row % 5 == 0 { Cell::None } else { Cell::Flag(row % 2 == 0) };
            let name = format!("node \"{}\", of many", row % 100);
            sheet.row(&[Cell::from(row), share, Cell::Text(&name), good]).unwrap();
        }
        sheet.close().unwrap();
        folder.join("things.parquet")
    }

    #[test]
    fn a_table_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let frame = Frame::open(&write(folder.path(), MANY)).unwrap();
        let at = frame.wholes("at_ns").unwrap();
        assert!(at.iter().copied().eq((0..70_000).map(Some)));
        let share = frame.reals("share").unwrap();
        assert_eq!(share[..4], [None, Some(1.0 / 7.0), Some(2.0 / 7.0), None]);
        assert_eq!(share.len(), 70_000);
        assert_eq!(share[69_998], Some(69_998.0 / 7.0));
        let names = frame.texts("name").unwrap();
        assert_eq!(names[69_999].as_deref(), Some("node \"99\", of many"));
        assert_eq!(frame.flags("good").unwrap()[..3], [None, Some(false), Some(true)]);
        let csv = std::fs::read_to_string(folder.path().join("things.csv")).unwrap();
        assert_eq!(csv.lines().nth(2), Some("1,0.14285714285714285,\"node \"\"1\"\", of many\",false"));
        assert_eq!(csv.lines().count(), 70_001);
    }

    #[test]
    fn the_same_rows_give_the_same_bytes() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes = |folder: &Path| std::fs::read(write(folder, MANY)).unwrap();
        assert!(bytes(one.path()) == bytes(other.path()));
    }

    #[test]
    fn a_table_without_rows_has_its_columns_nevertheless() {
        let folder = tempfile::tempdir().unwrap();
        Sheet::create(folder.path(), "none", columns(), false).unwrap().close().unwrap();
        let frame = Frame::open(&folder.path().join("none.parquet")).unwrap();
        assert_eq!(frame.wholes("at_ns").unwrap(), []);
        assert!(!folder.path().join("none.csv").exists());
    }

    #[test]
    fn rows_that_do_not_fit_are_refused_with_the_column() {
        let folder = tempfile::tempdir().unwrap();
        let mut sheet = Sheet::create(folder.path(), "things", columns(), false).unwrap();
        let error = sheet.row(&[Cell::Whole(1)]).unwrap_err().to_string();
        assert!(error.contains("another length"), "{error}");
        let error = sheet.row(&[Cell::None, Cell::None, Cell::Text("x"), Cell::None]).unwrap_err().to_string();
        assert!(error.contains("\"at_ns\" must have a value"), "{error}");
        let error = sheet.row(&[Cell::Real(1.0), Cell::None, Cell::Text("x"), Cell::None]).unwrap_err().to_string();
        assert!(error.contains("\"at_ns\" is given a value of another type"), "{error}");
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_told_with_file_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let frame = Frame::open(&write(folder.path(), 10)).unwrap();
        let error = frame.wholes("when").unwrap_err().to_string();
        assert!(error.contains("things.parquet") && error.contains("\"when\" is not there"), "{error}");
        let error = frame.wholes("name").unwrap_err().to_string();
        assert!(error.contains("\"name\" is of another type"), "{error}");
        let error = frame.all_reals("share").unwrap_err().to_string();
        assert!(error.contains("\"share\" has rows without a value"), "{error}");
        let error = Frame::open(&folder.path().join("nothing.parquet")).unwrap_err().to_string();
        assert!(error.contains("nothing.parquet"), "{error}");
    }

    #[test]
    fn damaged_files_are_errors_wherever_the_damage_is() {
        let folder = tempfile::tempdir().unwrap();
        let whole = std::fs::read(write(folder.path(), 500)).unwrap();
        let path = folder.path().join("damaged.parquet");
        let read = |bytes: &[u8]| -> Result<usize, TableError> {
            std::fs::write(&path, bytes).unwrap();
            let frame = Frame::open(&path)?;
            Ok(frame.wholes("at_ns")?.len() + frame.texts("name")?.len() + frame.reals("share")?.len())
        };
        for end in [0, 3, 12, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
            let error = read(&whole[..end]).unwrap_err().to_string();
            assert!(error.contains("damaged.parquet"), "{error}");
        }
        // A flipped bit in a value is only another value; it must not be a panic.
        for at in (0..whole.len()).step_by(whole.len() / 500) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            let _ = read(&bytes);
        }
    }
}
