//! `state`: what operators and sources remember behind a batch, listed, or printed table by table. Writes nothing.

use super::context::open_existing;
use super::flags::StateFlags;
use super::print;
use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use arrow::util::pretty::pretty_format_batches;
use serde_json::json;
use waterclock_core::id::BatchId;
use waterclock_core::state::StateLayer;
use waterclock_core::storage::{Location, Storage};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};
use waterclock_scheduler::StateView;
use waterclock_scheduler::checkpoint::{Owner, TableSummary};

/// Prints state of a checkpoint.
///
/// # Errors
/// `Unavailable` if there is no checkpoint; `Config` if there is no such batch or operator; `Corrupt` if it is damaged.
pub(super) fn show(storage: &Storage, location: &Location, flags: &StateFlags) -> Result<()> {
    let checkpoint = open_existing(storage, location)?;
    let text = StateView::look(&checkpoint, flags.batch.map(BatchId), |view| match &flags.operator {
        None if flags.json => Ok(listed(view).map(|(owner, table)| line(&owner.to_string(), table.as_ref())).collect()),
        None => Ok(list(view)),
        Some(name) => content(view, find(view, name)?, flags.json),
    })?;
    print(&text)
}

/// Every owner with each of its tables; with none if it has no table yet.
fn listed(view: &StateView) -> impl Iterator<Item = (&Owner, Option<TableSummary>)> {
    view.owners().iter().flat_map(|owner| {
        let tables = view.tables(owner);
        let none = tables.is_empty().then_some((owner, None));
        tables.into_iter().map(move |table| (owner, Some(table))).chain(none)
    })
}

fn line(owner: &str, table: Option<&TableSummary>) -> String {
    let object = match table {
        Some(TableSummary { table, layers, rows, bytes }) => json!({
            "operator": owner, "table": table.name, "key_columns": table.key_columns, "layers": layers, "rows": rows, "bytes": bytes,
        }),
        None => json!({ "operator": owner }),
    };
    format!("{object}\n")
}

fn list(view: &StateView) -> String {
    let width = view.owners().iter().map(|owner| owner.to_string().len()).max().unwrap_or(0).max("operator".len());
    let note = if view.is_retained() { "" } else { ", no longer retained" };
    let mut text = format!("behind batch {}{note}\n", view.batch());
    let mut row = |owner: &str, cells: [&str; 5]| {
        let [table, keys, layers, rows, bytes] = cells;
        let shown = format!("{owner:<width$}  {table:<24} {keys:>11} {layers:>6} {rows:>12} {bytes:>14}");
        text.push_str(shown.trim_end());
        text.push('\n');
    };
    row("operator", ["table", "key columns", "layers", "rows", "bytes"]);
    for (owner, table) in listed(view) {
        match table {
            Some(TableSummary { table, layers, rows, bytes }) => {
                let [keys, layers, rows, bytes] = [table.key_columns as u64, layers as u64, rows, bytes].map(|number| number.to_string());
                row(&owner.to_string(), [&table.name, &keys, &layers, &rows, &bytes]);
            }
            None => row(&owner.to_string(), ["", "", "", "", ""]),
        }
    }
    text
}

fn find<'a>(view: &'a StateView, name: &str) -> Result<&'a Owner> {
    let owners = view.owners();
    owners.iter().find(|owner| owner.to_string() == name).ok_or_else(|| {
        let known: Vec<String> = owners.iter().map(|owner| format!("'{owner}'")).collect();
        let known = if known.is_empty() { "nothing has state".to_owned() } else { format!("there are {}", known.join(", ")) };
        Error::config(format!("there is no operator '{name}' with state behind batch {}; {known}", view.batch()))
    })
}

fn content(view: &StateView, owner: &Owner, json: bool) -> Result<String> {
    let mut text = String::new();
    for parts in view.content(owner)?.chunk_by(|one, next| one.table == next.table) {
        if json {
            for part in parts {
                text.push_str(&rows(part)?);
            }
        } else {
            let name = &parts[0].table.name;
            let all: Vec<RecordBatch> = parts.iter().map(|part| part.rows.clone()).collect();
            let shown = pretty_format_batches(&all).or_error(ErrorKind::Internal, || format!("showing the state table '{name}'"))?;
            text.push_str(&format!("{name}, behind batch {}\n{shown}\n", view.batch()));
        }
    }
    Ok(text)
}

/// One object per row, with the table's name: an operator may have several.
fn rows(table: &StateLayer) -> Result<String> {
    let name = &table.table.name;
    let failed = || format!("writing the state table '{name}' as JSON");
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(&table.rows).and_then(|()| writer.finish()).or_error(ErrorKind::Internal, failed)?;
    drop(writer);
    let lines = String::from_utf8(bytes).or_error(ErrorKind::Internal, failed)?;
    Ok(lines.lines().map(|row| format!("{{\"table\":{},\"row\":{row}}}\n", json!(name))).collect())
}
