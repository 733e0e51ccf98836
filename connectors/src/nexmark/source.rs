//! The source: event numbers as offsets, rows made by the workers.

use super::columns::{average_bytes, column, schema};
use super::event::{Kind, Settings};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use std::ops::Range;
use std::sync::Arc;
use waterclock_core::connector::{ConnectorContext, TableDefinition};
use waterclock_core::id::PartitionId;
use waterclock_core::options::Options;
use waterclock_core::source::{
    Cut, CutLimits, Fetch, Morsel, Morsels, Offset, Origin, PartitionCut, Positions, Scan, Skipped, Source, SourceCapabilities,
    SourceSettings, Split,
};
use waterclock_core::state::StateLayer;
use waterclock_core::time::{Timestamp, parse_duration};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

const PARTITION: &str = "events";
/// Rows of a batch where nothing else limits it.
const DEFAULT_ROWS: u64 = 1_000_000;
const SPLIT_ROWS: u64 = 65_536;
const MORSEL_ROWS: u64 = 8_192;
const PARAMETERS: &str = "events, seed, rate, start, out_of_order, late_share, late_by";

struct NexmarkSource {
    generator: Arc<Generator>,
    schema: SchemaRef,
    events: Option<u64>,
    next: u64,
}

#[derive(Debug)]
struct Generator {
    kind: Kind,
    settings: Settings,
    input: Arc<str>,
    partition: PartitionId,
}

/// The source of a `nexmark://` table.
///
/// # Errors
/// `Config` for an unknown kind, parameter or format word, or declared columns that the table has not.
pub fn nexmark_source(
    table: &TableDefinition,
    _settings: &SourceSettings,
    _options: &mut Options,
    _context: &ConnectorContext,
) -> Result<Box<dyn Source>> {
    let location = &table.location;
    let kind = match location.host() {
        "person" => Kind::Person,
        "auction" => Kind::Auction,
        "bid" => Kind::Bid,
        other => return Err(Error::config(format!("{location}: there is no '{other}'; there are nexmark://person, auction and bid"))),
    };
    let mut settings = Settings::default();
    let mut events = None;
    for (key, value) in location.parameters() {
        read_parameter(&key, &value, &mut settings, &mut events).map_err(|error| error.within(location))?;
    }
    let schema = declared(table, kind)?;
    let generator = Generator { kind, settings, input: location.to_string().into(), partition: PartitionId::from(PARTITION) };
    Ok(Box::new(NexmarkSource { generator: Arc::new(generator), schema, events, next: 0 }))
}

fn read_parameter(key: &str, value: &str, settings: &mut Settings, events: &mut Option<u64>) -> Result<()> {
    let number = || value.parse::<u64>().or_error(ErrorKind::Config, || format!("'{key}' is '{value}', which is not a number"));
    let micros = || Ok::<u64, Error>(parse_duration(value)?.as_micros() as u64);
    match key {
        "events" => *events = Some(number()?),
        "seed" => settings.seed = number()?,
        "rate" => match number()? {
            0 => return Err(Error::config("'rate' is 0; time needs at least one event per second")),
            rate => settings.rate = rate,
        },
        "out_of_order" => settings.out_of_order_us = micros()?,
        "late_by" => settings.late_by_us = micros()?,
        "late_share" => {
            let share = value.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
            settings.late_share = share.ok_or_else(|| Error::config(format!("'late_share' is '{value}'; it goes from 0 to 1")))?;
        }
        "start" => {
            let time: Timestamp = serde_json::from_value(value.into())
                .or_error(ErrorKind::Config, || format!("'start' is '{value}'; write a time such as 2024-01-01T00:00:00Z"))?;
            settings.start = time;
        }
        _ => return Err(Error::config(format!("there is no parameter '{key}'; there are: {PARAMETERS}"))),
    }
    Ok(())
}

/// The declared columns, if they are some of the table's; else all.
fn declared(table: &TableDefinition, kind: Kind) -> Result<SchemaRef> {
    let all = schema(kind);
    let Some(columns) = &table.columns else { return Ok(all) };
    for field in columns.fields() {
        let same = all.field_with_name(field.name()).is_ok_and(|known| known.data_type() == field.data_type());
        if !same {
            let known: Vec<String> = all.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
            let (name, asked) = (field.name(), field.data_type());
            return Err(Error::config(format!(
                "table '{}': {} has no column {name} {asked}; it has: {}",
                table.name,
                table.location,
                known.join(", ")
            )));
        }
    }
    Ok(Arc::clone(columns))
}

impl Generator {
    /// Event numbers of another seed or rate are of another stream.
    fn check(&self, range: &PartitionCut) -> Result<()> {
        let begun: Settings = serde_json::from_value(range.detail.clone())
            .or_error(ErrorKind::Corrupt, || format!("the cut of {} does not say how its rows are made", self.input))?;
        match begun == self.settings {
            true => Ok(()),
            false => Err(Error::config(format!(
                "{} makes other rows than those that this checkpoint was begun with; only 'events' may change: write seed={} and rate={} \
                 (start, out_of_order, late_share and late_by as they were), or begin with a new checkpoint",
                self.input, begun.seed, begun.rate
            ))),
        }
    }
}

impl NexmarkSource {
    fn rows_left(&self) -> Option<u64> {
        let kind = self.generator.kind;
        self.events.map(|events| kind.rows_before(events) - kind.rows_before(self.next.min(events)))
    }
}

fn event_number(offset: &Offset) -> Result<u64> {
    offset.0.as_u64().ok_or_else(|| Error::corrupt(format!("the offset {} of a nexmark source is not an event's number", offset.0)))
}

impl Source for NexmarkSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { replayable: true, has_end: self.events.is_some() }
    }

    fn restore(&mut self, _layers: &[StateLayer], last: &[PartitionCut]) -> Result<()> {
        let Some(cut) = last.last() else { return Ok(()) };
        self.generator.check(cut)?;
        self.next = event_number(&cut.end)?;
        Ok(())
    }

    fn fix_end(&mut self) -> Result<()> {
        if self.events.is_none() {
            return Err(Error::config(format!("{} has no end to run up to; add events=N to it", self.generator.input)));
        }
        Ok(())
    }

    fn cut(&mut self, limits: &CutLimits) -> Result<Cut> {
        let kind = self.generator.kind;
        let limit = limits.max_bytes.map(|bytes| (bytes / average_bytes(kind)).max(1)).into_iter().chain(limits.max_rows).min();
        let rows = limit.unwrap_or(DEFAULT_ROWS).min(self.rows_left().unwrap_or(u64::MAX));
        if rows == 0 {
            return Ok(Cut::empty());
        }
        let start = self.next;
        // Behind the last row of the kind; the events of other kinds up to the next row belong to the next cut.
        self.next = kind.event_of_row(kind.rows_before(start) + rows - 1) + 1;
        let lag = self.rows_left();
        let partition = PartitionCut {
            partition: self.generator.partition.clone(),
            start: Offset(start.into()),
            end: Offset(self.next.into()),
            detail: serde_json::to_value(&self.generator.settings).or_error(ErrorKind::Internal, || "writing a cut".into())?,
        };
        Ok(Cut { partitions: vec![partition], more: lag != Some(0), lag })
    }

    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        Ok(Vec::new())
    }

    fn splits(&self, cut: &Cut, scan: &Arc<Scan>) -> Result<Vec<Box<dyn Split>>> {
        let kind = self.generator.kind;
        let projected = scan.projected(&self.schema)?;
        let mut splits: Vec<Box<dyn Split>> = Vec::new();
        for range in &cut.partitions {
            self.generator.check(range)?;
            let rows = kind.rows_before(event_number(&range.start)?)..kind.rows_before(event_number(&range.end)?);
            let mut first = rows.start;
            while first < rows.end {
                let last = (first + SPLIT_ROWS).min(rows.end);
                let (generator, schema) = (Arc::clone(&self.generator), Arc::clone(&projected));
                splits.push(Box::new(Rows { generator, schema, rows: first..last }));
                first = last;
            }
        }
        Ok(splits)
    }
}

/// A run of rows to be made.
struct Rows {
    generator: Arc<Generator>,
    schema: SchemaRef,
    rows: Range<u64>,
}

impl Split for Rows {
    fn partition(&self) -> &PartitionId {
        &self.generator.partition
    }

    fn held_bytes(&self) -> usize {
        0
    }

    fn work_bytes(&self) -> usize {
        ((self.rows.end - self.rows.start) * average_bytes(self.generator.kind)) as usize
    }

    fn fetch(self: Box<Self>) -> Result<Fetch> {
        Ok(Fetch::AtHand(self))
    }
}

impl Morsels for Rows {
    fn next(&mut self) -> Result<Option<Morsel>> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let end = (self.rows.start + MORSEL_ROWS).min(self.rows.end);
        let rows = self.rows.start..end;
        self.rows.start = end;
        let Generator { kind, settings, input, .. } = self.generator.as_ref();
        let make = |name: &str| column(settings, *kind, name, rows.clone());
        let columns = self.schema.fields().iter().map(|field| make(field.name())).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some((rows.end - rows.start) as usize));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        let batch = batch.or_error(ErrorKind::Internal, || "making rows".into())?;
        let origin = Origin { input: Arc::clone(input), positions: Positions::Rows(rows.start + 1) };
        Ok(Some(Morsel { rows: batch, latest: None, origin, bad: Vec::new(), skipped: Skipped::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waterclock_core::storage::{Location, Storage};

    fn open(location: &str) -> Result<Box<dyn Source>> {
        use waterclock_core::id::SourceId;
        use waterclock_core::source::OnBadRow;
        let table = TableDefinition {
            name: "t".into(),
            columns: None,
            format: "nexmark".into(),
            location: Location::parse(location)?,
            unbounded: true,
        };
        let settings =
            SourceSettings { id: SourceId::from("t"), event_time: None, limits: CutLimits::default(), on_bad_row: OnBadRow::Fail };
        let context = ConnectorContext { storage: Storage::builder().start()? };
        nexmark_source(&table, &settings, &mut Options::new("t", []), &context)
    }

    fn rows(source: &dyn Source, cut: &Cut) -> u64 {
        let scan = Arc::new(Scan { projection: vec![], filters: vec![], event_time: None, watermark_only: false });
        let count = |split: Box<dyn Split>| {
            let mut morsels = futures::executor::block_on(split.fetch().unwrap().finish()).unwrap();
            std::iter::from_fn(move || morsels.next().unwrap()).map(|morsel| morsel.rows.num_rows() as u64).sum::<u64>()
        };
        source.splits(cut, &scan).unwrap().into_iter().map(count).sum()
    }

    #[test]
    fn every_cutting_gives_every_row_once() {
        for (kind, expected) in [("person", 21), ("auction", 63), ("bid", 940)] {
            for limit in [1, 7, 64, 10_000] {
                let mut source = open(&format!("nexmark://{kind}?events=1024")).unwrap();
                source.fix_end().unwrap();
                let limits = CutLimits { max_rows: Some(limit), ..CutLimits::default() };
                let mut total = 0;
                loop {
                    let cut = source.cut(&limits).unwrap();
                    if cut.is_empty() {
                        break;
                    }
                    let read = rows(source.as_ref(), &cut);
                    assert!(read <= limit && cut.lag.is_some());
                    total += read;
                    let mut again = open(&format!("nexmark://{kind}?events=1024")).unwrap();
                    again.restore(&[], &cut.partitions).unwrap();
                    source = again;
                }
                assert_eq!(total, expected, "{kind} {limit}");
            }
        }
    }

    #[test]
    fn a_job_goes_on_with_more_events_and_not_with_other_ones() {
        let cut = open("nexmark://bid?events=500&seed=3").unwrap().cut(&CutLimits::default()).unwrap();
        let mut longer = open("nexmark://bid?events=1000&seed=3").unwrap();
        longer.restore(&[], &cut.partitions).unwrap();
        let rest = longer.cut(&CutLimits::default()).unwrap();
        assert_eq!(rows(longer.as_ref(), &rest), 460);
        for other in ["nexmark://bid?seed=4", "nexmark://bid?seed=3&rate=7", "nexmark://bid?seed=3&out_of_order=1s"] {
            let mut other = open(other).unwrap();
            let error = other.restore(&[], &cut.partitions).unwrap_err();
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains("seed=3"), "{error}");
            assert_eq!(other.splits(&cut, &Arc::new(Scan::all(&other.schema()))).err().unwrap().kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn without_events_there_is_no_end() {
        let mut source = open("nexmark://bid").unwrap();
        assert_eq!(source.fix_end().unwrap_err().kind(), ErrorKind::Config);
        let cut = source.cut(&CutLimits::default()).unwrap();
        assert_eq!(rows(source.as_ref(), &cut), DEFAULT_ROWS);
    }

    #[test]
    fn wrong_parameters_are_named() {
        for (location, said) in [("nexmark://bids", "bids"), ("nexmark://bid?event=1", "'event'"), ("nexmark://bid?rate=x", "'x'")] {
            let error = open(location).err().unwrap().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
