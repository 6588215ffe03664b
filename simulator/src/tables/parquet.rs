//! Parquet by the low-level writer and reader of the `parquet` crate, without Arrow.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::get_typed_column_reader;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use super::{Column, Held, Kind, TableError, Values};

/// What stands in each file as its maker.
const CREATED_BY: &str = concat!("kith-sim version ", env!("CARGO_PKG_VERSION"));
/// Values that are read at a time.
const BATCH: usize = 1 << 16;

/// Tells which file it is that the crate complains about.
pub(super) fn failed(path: &Path) -> impl Fn(ParquetError) -> TableError + '_ {
    move |error| TableError::Damaged { path: path.to_owned(), cause: error.to_string() }
}

/// A file that is being written.
pub(super) struct Output(SerializedFileWriter<File>);

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Output {
    /// Begins a file. Units and meanings of the columns stand in its metadata, under `column.` and their names.
    pub(super) fn new(file: File, name: &str, columns: &[Column]) -> Result<Self, ParquetError> {
        let told = columns.iter().map(|column| {
            let unit = if column.unit.is_empty() { String::new() } else { format!("[{}] ", column.unit) };
            KeyValue::new(format!("column.{}", column.name), format!("{unit}{}", column.about))
        });
        let properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(Compression::SNAPPY)
            .set_key_value_metadata(Some(told.collect()))
            .build();
        let fields = columns.iter().map(field).collect::<Result<Vec<TypePtr>, _>>()?;
        let schema = Type::group_type_builder(name).with_fields(fields).build()?;
        Ok(Self(SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?))
    }

    /// Writes what is held as a row group.
    pub(super) fn group(&mut self, held: &mut [Held]) -> Result<(), ParquetError> {
        let mut group = self.0.next_row_group()?;
        for held in held {
            let Some(mut column) = group.next_column()? else { break };
            let present = held.column.optional.then_some(&held.present[..]);
            match (column.untyped(), &mut held.values) {
                (ColumnWriter::Int64ColumnWriter(writer), Values::Whole(values)) => {
                    writer.write_batch(values, present, None)?;
                    values.clear();
                }
                (ColumnWriter::DoubleColumnWriter(writer), Values::Real(values)) => {
                    writer.write_batch(values, present, None)?;
                    values.clear();
                }
                (ColumnWriter::ByteArrayColumnWriter(writer), Values::Text(values)) => {
                    writer.write_batch(values, present, None)?;
                    values.clear();
                }
                (ColumnWriter::BoolColumnWriter(writer), Values::Flag(values)) => {
                    writer.write_batch(values, present, None)?;
                    values.clear();
                }
                _ => return Err(ParquetError::General(format!("{}: not the column's type", held.column.name))),
            }
            held.present.clear();
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    /// Writes the end of the file.
    pub(super) fn close(self) -> Result<(), ParquetError> {
        self.0.close().map(drop)
    }
}

fn field(column: &Column) -> Result<TypePtr, ParquetError> {
    let (physical, logical) = match column.kind {
        Kind::Whole => (Physical::INT64, None),
        Kind::Real => (Physical::DOUBLE, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Flag => (Physical::BOOLEAN, None),
    };
    let repetition = if column.optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let builder = Type::primitive_type_builder(&column.name, physical);
    Ok(Arc::new(builder.with_repetition(repetition).with_logical_type(logical).build()?))
}

/// A table that is read, column by column.
pub struct Frame {
    path: PathBuf,
    reader: SerializedFileReader<File>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Frame {
    /// Opens a file.
    ///
    /// # Errors
    /// When there is none, or it is no Parquet file.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let file = File::open(path).map_err(|cause| TableError::File { path: path.to_owned(), cause })?;
        let reader = SerializedFileReader::new(file).map_err(failed(path))?;
        Ok(Self { path: path.to_owned(), reader })
    }

    /// A column of whole numbers.
    ///
    /// # Errors
    /// When it is not there, of another type, or damaged; as all that follow.
    pub fn wholes(&self, column: &str) -> Result<Vec<Option<i64>>, TableError> {
        self.read::<Int64Type>(column)
    }

    /// A column of other numbers.
    ///
    /// # Errors
    /// As [`Frame::wholes`].
    pub fn reals(&self, column: &str) -> Result<Vec<Option<f64>>, TableError> {
        self.read::<DoubleType>(column)
    }

    /// A column of yes and no.
    ///
    /// # Errors
    /// As [`Frame::wholes`].
    pub fn flags(&self, column: &str) -> Result<Vec<Option<bool>>, TableError> {
        self.read::<BoolType>(column)
    }

    /// A column of text.
    ///
    /// # Errors
    /// As [`Frame::wholes`]; also when it is no UTF-8.
    pub fn texts(&self, column: &str) -> Result<Vec<Option<String>>, TableError> {
        let read = self.read::<ByteArrayType>(column)?;
        let text = |value: ByteArray| String::from_utf8(value.data().to_vec());
        read.into_iter()
            .map(|value| value.map(text).transpose().map_err(|_| self.wrong(column, "has text that is not UTF-8")))
            .collect()
    }

    /// As [`Frame::wholes`], of which each row must have one.
    ///
    /// # Errors
    /// As [`Frame::wholes`], and when one has none.
    pub fn all_wholes(&self, column: &str) -> Result<Vec<i64>, TableError> {
        self.all(column, self.wholes(column)?)
    }

    /// As [`Frame::reals`], of which each row must have one.
    ///
    /// # Errors
    /// As [`Frame::wholes`], and when one has none.
    pub fn all_reals(&self, column: &str) -> Result<Vec<f64>, TableError> {
        self.all(column, self.reals(column)?)
    }

    fn all<T>(&self, column: &str, values: Vec<Option<T>>) -> Result<Vec<T>, TableError> {
        let all: Option<Vec<T>> = values.into_iter().collect();
        all.ok_or_else(|| self.wrong(column, "has rows without a value"))
    }

    fn wrong(&self, column: &str, wrong: &'static str) -> TableError {
        TableError::Column { path: self.path.clone(), column: column.to_owned(), wrong }
    }

    fn read<T: DataType>(&self, name: &str) -> Result<Vec<Option<T::T>>, TableError> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let found = schema.columns().iter().position(|column| column.path().string() == name);
        let index = found.ok_or_else(|| self.wrong(name, "is not there"))?;
        let descriptor = schema.column(index);
        if descriptor.physical_type() != T::get_physical_type() || descriptor.max_rep_level() > 0 {
            return Err(self.wrong(name, "is of another type"));
        }
        let optional = descriptor.max_def_level() > 0;
        // A damaged page must be an error wherever the damage is; the crate has panicked on some before.
        let read = catch_unwind(AssertUnwindSafe(|| self.pages::<T>(index, optional)));
        let damaged = || TableError::Damaged { path: self.path.clone(), cause: format!("the pages of {name:?}") };
        read.map_err(|_| damaged())?.map_err(failed(&self.path))
    }

    fn pages<T: DataType>(&self, index: usize, optional: bool) -> Result<Vec<Option<T::T>>, ParquetError> {
        let mut rows = Vec::new();
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group)?;
            let mut reader = get_typed_column_reader::<T>(group.get_column_reader(index)?);
            loop {
                let (mut present, mut values) = (Vec::new(), Vec::new());
                let (count, ..) = reader.read_records(BATCH, optional.then_some(&mut present), None, &mut values)?;
                if count == 0 {
                    break;
                }
                if optional {
                    let mut values = values.into_iter();
                    rows.extend(present.into_iter().map(|present| if present > 0 { values.next() } else { None }));
                } else {
                    rows.extend(values.into_iter().map(Some));
                }
            }
        }
        Ok(rows)
    }
}
