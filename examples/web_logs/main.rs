//! Finds the requests that failed in the logs of a web server: a job in SQL as a binary of one's own.
//!
//! ```sh
//! cargo run --example web_logs -- run --checkpoint /tmp/web-logs --until-caught-up
//! cargo run --example web_logs -- run --logs /var/log/nginx/ --checkpoint /tmp/nginx-errors
//! ```
//!
//! The first reads the sample that lies beside this file. The second follows a directory of logs; rotate them into it, for a file must not
//! change after it was read.

use std::process::ExitCode;
use waterclock::prelude::*;

#[derive(clap::Args)]
struct Arguments {
    /// A directory with logs in the common or the combined log format
    #[arg(long, default_value = "examples/web_logs/access/")]
    logs: String,
    /// Which requests count as failed
    #[arg(long, default_value_t = 400)]
    least_status: u16,
}

/// Where the SQL comes from, the values in it are quoted.
fn build(arguments: &Arguments, context: &JobContext) -> Result<Job> {
    let sql = include_str!("errors.sql")
        .replace("examples/web_logs/access/", &arguments.logs.replace('\'', "''"))
        .replace(">= 400", &format!(">= {}", arguments.least_status));
    context.sql_job(&sql)
}

fn main() -> ExitCode {
    main_with(build)
}
