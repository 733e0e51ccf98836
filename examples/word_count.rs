//! Counts the words of text files: an aggregate without an end, whose rows are written again as they change.
//!
//! ```sh
//! cargo run --example word_count -- run --input docs/ --output /tmp/counts --checkpoint /tmp/counts-checkpoint --until-caught-up
//! ```
//!
//! Put another file into the input directory and run it again: only the new file is read, and the words that are in it are written with
//! their new counts. `cargo run -- state --checkpoint /tmp/counts-checkpoint` shows what is remembered.

use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use waterclock::command::{OutputTable, Table};
use waterclock::prelude::*;

#[derive(clap::Args)]
struct Arguments {
    /// A directory with text files
    #[arg(long)]
    input: String,
    /// A directory for JSON files with the counts that each batch changed
    #[arg(long)]
    output: String,
}

#[derive(Deserialize)]
struct Line {
    value: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Word {
    word: String,
}

fn words(line: Line) -> Vec<Word> {
    let text = line.value.unwrap_or_default().to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| Word { word: word.to_owned() }).collect()
}

fn build(arguments: &Arguments, context: &JobContext) -> Result<Job> {
    let mut pipeline = Pipeline::new();
    let lines = context.source(&mut pipeline, &Table::new("lines", &arguments.input, "text"))?;
    let counts = lines.flat_map("split", words)?.group_by([col("word")]).aggregate([count_all().alias("count")])?;
    let files = context.sink(&OutputTable::new("counts", &arguments.output, "json"))?;
    pipeline.sink_in_mode("counts", files, SinkMode::Update, counts)?;
    pipeline.build()
}

fn main() -> ExitCode {
    main_with(build)
}
