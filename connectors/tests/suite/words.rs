//! What a table may say of connectors that go one way, or have one format.

use crate::support::Place;
use waterclock_connectors::connectors;
use waterclock_core::connector::{ConnectorContext, TableDefinition};
use waterclock_core::id::SourceId;
use waterclock_core::options::Options;
use waterclock_core::source::{CutLimits, OnBadRow, SourceSettings};
use waterclock_core::storage::Location;
use waterclock_core::{ErrorKind, Result};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Source,
    Sink,
}

fn open(side: Side, location: &str, format: &str) -> Result<()> {
    let (place, connectors) = (Place::new(), connectors());
    let location = Location::parse(location)?;
    let table = TableDefinition { name: "t".into(), columns: None, format: format.into(), location: location.clone(), unbounded: true };
    let context = ConnectorContext { storage: place.storage.clone() };
    let settings = SourceSettings { id: SourceId::from("t"), event_time: None, limits: CutLimits::default(), on_bad_row: OnBadRow::Fail };
    let (connector, mut options) = (connectors.of(&location)?, Options::new("t", []));
    match side {
        Side::Source => connector.source(&table, &settings, &mut options, &context).map(|_| ()),
        Side::Sink => connector.sink(&table, &mut options, &context).map(|_| ()),
    }
}

const ONE_WAY: [(Side, &str, &str); 4] = [
    (Side::Source, "nexmark://bid", "nexmark"),
    (Side::Source, "rate://", "rate"),
    (Side::Sink, "stdout://", "stdout"),
    (Side::Sink, "blackhole://", "blackhole"),
];

#[test]
fn the_word_is_the_connectors_or_a_formats() {
    for (side, location, own) in ONE_WAY {
        for word in [own, "json", "csv", "parquet", "arrow"] {
            open(side, location, word).unwrap_or_else(|error| panic!("{location} {word}: {error}"));
        }
        for word in ["avro", "kafka", ""] {
            let error = open(side, location, word).unwrap_err();
            let text = error.to_string();
            assert!(error.kind() == ErrorKind::Config && text.contains("'t'") && text.contains(&own.to_uppercase()), "{text}");
        }
    }
}

#[test]
fn the_other_way_is_refused() {
    for (side, location, own) in ONE_WAY {
        let (other, word) = if side == Side::Source { (Side::Sink, "not written") } else { (Side::Source, "not read") };
        let error = open(other, location, own).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_scheme_that_nobody_serves_lists_those_that_are() {
    let error = open(Side::Source, "carrier-pigeon://loft", "json").unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("nexmark"), "{error}");
}

#[test]
fn parameters_that_make_no_sense_are_named() {
    let cases = [
        ("rate://?rows_per_second=0", "rows_per_second"),
        ("rate://?speed=1", "'speed'"),
        ("rate://?rows=many", "'many'"),
        ("nexmark://bid?rate=0", "'rate'"),
        ("nexmark://bid?late_share=2", "late_share"),
        ("nexmark://bid?start=yesterday", "'yesterday'"),
    ];
    for (location, said) in cases {
        let error = open(Side::Source, location, "json").unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(said), "{error}");
    }
}
