//! Whatever the pieces in which input arrives, and however it is cut: every row once, in order, out of what was spooled.

use super::*;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use crossbeam::channel::{Receiver, Sender, bounded};
use futures::executor::block_on;
use proptest::prelude::*;
use std::collections::VecDeque;
use waterclock_core::source::BadRow;

const NO_LIMITS: CutLimits = CutLimits { max_files: None, max_bytes: None, max_rows: None };
const FORMATS: [Format; 3] = [Format::Json, Format::Csv, Format::Text];

fn columns(format: Format) -> SchemaRef {
    if format == Format::Text {
        return default_columns();
    }
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]))
}

fn rows(format: Format, ids: std::ops::Range<i64>) -> RecordBatch {
    let name = |id: i64| format!("{}é {}", if format == Format::Text { "" } else { "\"\r\n,\n" }, "x".repeat((id % 40) as usize));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(ids.clone().map(name)));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    let arrays = if format == Format::Text { vec![names] } else { vec![numbers, names] };
    RecordBatch::try_new(columns(format), arrays).unwrap()
}

fn encode(batch: &RecordBatch, format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    match format {
        Format::Json => {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut bytes);
            writer.write(batch).unwrap();
            writer.finish().unwrap();
        }
        Format::Csv => arrow::csv::Writer::new(&mut bytes).write(batch).unwrap(),
        _ => {
            for line in batch.column(0).as_any().downcast_ref::<StringArray>().unwrap() {
                bytes.extend_from_slice(line.unwrap().as_bytes());
                bytes.push(b'\n');
            }
        }
    }
    bytes
}

/// Gives its pieces one by one, then an error, if there is one, or the end.
struct Pieces(VecDeque<Vec<u8>>, Option<std::io::ErrorKind>);

impl Pieces {
    fn of(text: &[u8], size: usize) -> Self {
        Self(text.chunks(size).map(<[u8]>::to_vec).collect(), None)
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match (self.0.pop_front(), self.1) {
            (Some(piece), _) => {
                buffer[..piece.len()].copy_from_slice(&piece);
                Ok(piece.len())
            }
            (None, Some(kind)) => Err(kind.into()),
            (None, None) => Ok(0),
        }
    }
}

/// Gives what is sent; empty pieces are passed over. As the channel has no room, a piece was given once the next one is sent.
struct Pipe(Receiver<&'static [u8]>);

impl Pipe {
    fn new() -> (Sender<&'static [u8]>, Self) {
        let (sender, receiver) = bounded(0);
        (sender, Self(receiver))
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let piece = self.0.iter().find(|piece| !piece.is_empty()).unwrap_or_default();
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

fn source(format: Format, reader: impl Read + Send + 'static, buffer: usize) -> StdinSource {
    let mut settings = Settings::of_text(format, &mut Options::new("t", [])).unwrap();
    settings.sizes.split = 100;
    settings.sizes.rows = 3;
    let layout = Layout::new(settings, columns(format)).unwrap();
    StdinSource::new(Box::new(move || Ok(Box::new(reader) as Box<dyn Read + Send>)), layout, buffer)
}

fn read(source: &StdinSource, cut: &Cut) -> Result<(RecordBatch, Vec<BadRow>)> {
    let (mut batches, mut bad) = (Vec::new(), Vec::new());
    for split in source.splits(cut, &Arc::new(Scan::all(&source.schema())))? {
        let mut morsels = block_on(split.fetch()?.finish())?;
        while let Some(morsel) = morsels.next()? {
            batches.push(morsel.rows);
            bad.extend(morsel.bad);
        }
    }
    Ok((concat_batches(&source.schema(), &batches).unwrap(), bad))
}

/// What a process of its own reads out of the spool.
fn read_spooled(source: &mut StdinSource, cut: &Cut) -> RecordBatch {
    let bytes = source.spool(cut).unwrap().unwrap();
    let text = serde_json::to_string(cut).unwrap();
    let cut: Cut = serde_json::from_str(&text).unwrap();
    let mut other = self::source(source.layout.settings.format, std::io::empty(), 1);
    other.restore(&[], &cut.partitions).unwrap();
    other.unspool(&cut, bytes).unwrap();
    let (rows, bad) = read(&other, &cut).unwrap();
    assert_eq!(bad, []);
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_row_comes_once_in_order(
        count in 0i64..60, again in 0i64..20, piece in 1usize..200, buffer in 1usize..400, mark in any::<bool>(), last_break in any::<bool>(),
        max_rows in prop::option::of(1u64..20), max_bytes in prop::option::of(1u64..500),
    ) {
        let limits = CutLimits { max_files: None, max_bytes, max_rows };
        for format in FORMATS {
            let (mut all, mut last) = (Vec::new(), Vec::new());
            for ids in [0..count, count..count + again] {
                let mut text = if mark { b"\xEF\xBB\xBF".to_vec() } else { Vec::new() };
                text.extend(encode(&rows(format, ids), format));
                if !last_break && text.ends_with(b"\n") {
                    text.pop();
                }
                let mut source = source(format, Pieces::of(&text, piece), buffer);
                source.restore(&[], &last).unwrap();
                source.fix_end().unwrap();
                loop {
                    let cut = next_cut(&mut source, &limits).unwrap();
                    if cut.is_empty() {
                        prop_assert!(!cut.more);
                        break;
                    }
                    let rows = read_spooled(&mut source, &cut);
                    prop_assert!(max_rows.is_none_or(|most| rows.num_rows() as u64 <= most));
                    if let Some(before) = last.first() {
                        let before: &PartitionCut = before;
                        prop_assert_eq!(&before.end, &cut.partitions[0].start);
                    }
                    source.acknowledge(&cut).unwrap();
                    prop_assert!(source.cuts.is_empty());
                    all.push(rows);
                    last = cut.partitions;
                }
            }
            let all = concat_batches(&columns(format), &all).unwrap();
            prop_assert_eq!(all, rows(format, 0..count + again), "{}", format);
        }
    }
}

#[test]
fn a_cut_takes_what_has_arrived_and_does_not_wait() {
    let (sender, pipe) = Pipe::new();
    let mut source = source(Format::Text, pipe, 1 << 20);
    assert!(source.cut(&NO_LIMITS).unwrap().is_empty());
    for (piece, expected) in [("a\nb\nc", 2), ("d", 0), ("e\n", 1)] {
        sender.send(piece.as_bytes()).unwrap();
        sender.send(b"").unwrap();
        let cut = source.cut(&NO_LIMITS).unwrap();
        assert_eq!(cut.partitions.len(), usize::from(expected > 0), "{piece}");
        assert_eq!(read(&source, &cut).map_or(0, |(rows, _)| rows.num_rows()), expected, "{piece}");
        assert!(!cut.more && source.cut(&NO_LIMITS).unwrap().is_empty());
    }
    sender.send(b"f\ng\n").unwrap();
    sender.send(b"").unwrap();
    assert!(source.cut(&CutLimits { max_rows: Some(1), ..NO_LIMITS }).unwrap().more);
}

#[test]
fn with_a_fixed_end_there_is_more_until_the_input_ends() {
    let (sender, pipe) = Pipe::new();
    let mut source = source(Format::Text, pipe, 1 << 20);
    source.fix_end().unwrap();
    let feeder = std::thread::spawn(move || {
        sender.send(b"a\n").unwrap();
        sender
    });
    // A cut waits a little for input, and can be asked again.
    let first = next_cut(&mut source, &NO_LIMITS).unwrap();
    assert!(!first.is_empty() && first.more);
    let sender = feeder.join().unwrap();
    let waiting = source.cut(&NO_LIMITS).unwrap();
    assert!(waiting.is_empty() && waiting.more);
    drop(sender);
    while source.cut(&NO_LIMITS).unwrap().more {}
}

#[test]
fn no_more_is_held_than_the_buffers() {
    let mut source = source(Format::Text, std::io::repeat(b'\n'), 1000);
    source.fix_end().unwrap();
    for _ in 0..100 {
        source.cut(&CutLimits { max_rows: Some(1), ..NO_LIMITS }).unwrap();
    }
    // One read of the thread may come on top.
    assert!(source.pending.text.len() <= 2000 + (64 << 10), "{}", source.pending.text.len());
}

#[test]
fn bad_rows_are_located_over_all_cuts() {
    let text = b"{\"id\":1}\n{\"id\":2}\n{\"id\":1.5}\n\n{\"id\":4}\nx\n";
    let mut source = source(Format::Json, Pieces::of(text, 1000), 1 << 20);
    source.fix_end().unwrap();
    let mut lines = Vec::new();
    loop {
        let cut = next_cut(&mut source, &CutLimits { max_rows: Some(2), ..NO_LIMITS }).unwrap();
        if cut.is_empty() {
            break;
        }
        let (_, bad) = read(&source, &cut).unwrap();
        lines.extend(bad.into_iter().map(|row| source.locate(row.place).to_string()));
    }
    assert_eq!(lines, ["stdin, line 3", "stdin, line 6"]);
}

/// The next cut that is not one to wait.
fn next_cut(source: &mut StdinSource, limits: &CutLimits) -> Result<Cut> {
    loop {
        let cut = source.cut(limits)?;
        if !cut.is_empty() || !cut.more {
            return Ok(cut);
        }
    }
}

#[test]
fn a_header_is_checked_even_alone() {
    for (text, fits) in [(&b"id,name\n"[..], true), (b"id,nom", false), (b"id\n1,a\n", false)] {
        let mut source = source(Format::Csv, Pieces::of(text, 3), 1 << 20);
        source.fix_end().unwrap();
        let cut = next_cut(&mut source, &NO_LIMITS).unwrap();
        match read(&source, &cut) {
            Ok((rows, bad)) => assert!(fits && rows.num_rows() == 0 && bad.is_empty()),
            Err(error) => assert!(!fits && error.kind() == ErrorKind::BadData && error.to_string().contains("stdin"), "{error}"),
        }
    }
}

#[test]
fn what_came_before_a_failure_is_cut_first() {
    let reader = Pieces([b"a\nb".to_vec()].into(), Some(std::io::ErrorKind::BrokenPipe));
    let mut source = source(Format::Text, reader, 1 << 20);
    source.fix_end().unwrap();
    let cut = next_cut(&mut source, &NO_LIMITS).unwrap();
    assert_eq!(read(&source, &cut).unwrap().0.num_rows(), 1);
    let error = next_cut(&mut source, &NO_LIMITS).unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("stdin"), "{error}");
}

#[test]
fn other_bytes_than_those_of_the_cut_are_corrupt() {
    let mut source = source(Format::Text, Pieces::of(b"a\nb\n", 9), 1 << 20);
    source.fix_end().unwrap();
    let cut = next_cut(&mut source, &NO_LIMITS).unwrap();
    for wrong in [&b"a\n"[..], b"a\nbc", b""] {
        assert_eq!(source.unspool(&cut, Bytes::from_static(wrong)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
