//! Splits text files into words, with a function of one's own on typed rows.
//!
//! ```sh
//! cargo run --example word_split -- run --input docs/ --output /tmp/words --checkpoint /tmp/words-checkpoint --until-caught-up
//! ```
//!
//! Put another file into the input directory and run it again: only the new file is read. Without `--until-caught-up` it goes on looking
//! for new files, once a second. The other flags, `explain` and `batches` are those of the `waterclock` command.

use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use waterclock::command::{OutputTable, Table};
use waterclock::prelude::*;

#[derive(clap::Args)]
struct Arguments {
    /// A directory with text files
    #[arg(long)]
    input: String,
    /// A directory for JSON files with a word per row
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
    length: i64,
}

fn words(line: Line) -> Vec<Word> {
    let text = line.value.unwrap_or_default();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| Word { word: word.to_lowercase(), length: word.chars().count() as i64 }).collect()
}

fn build(arguments: &Arguments, context: &JobContext) -> Result<Job> {
    let mut pipeline = Pipeline::new();
    let lines = context.source(&mut pipeline, &Table::new("lines", &arguments.input, "text"))?;
    let long = lines.flat_map("split", words)?.filter(col("length").gt(lit(3)))?;
    pipeline.sink("words", context.sink(&OutputTable::new("words", &arguments.output, "json"))?, long)?;
    pipeline.build()
}

fn main() -> ExitCode {
    main_with(build)
}
