//! The statements of a file, and which tables they read and write.

use crate::error::{Error, Result};
use crate::options::Options;
use crate::pipeline::config_error;
use crate::storage::Location;
use datafusion_common::{DataFusionError, TableReference};
use datafusion_sql::parser::{CreateExternalTable, DFParser, Statement};
use datafusion_sql::resolve::resolve_table_references;
use datafusion_sql::sqlparser::ast::{self, ObjectName, ObjectNamePart, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A file of SQL, taken apart.
pub(super) struct Script {
    pub(super) tables: BTreeMap<String, Table>,
    pub(super) inserts: Vec<Insert>,
}

/// A CREATE EXTERNAL TABLE.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<ast::ColumnDef>,
    pub(super) format: String,
    pub(super) location: Location,
    pub(super) unbounded: bool,
    options: Vec<(String, String)>,
}

/// An INSERT INTO.
pub(super) struct Insert {
    pub(super) table: String,
    pub(super) columns: Vec<String>,
    pub(super) query: ast::Statement,
    /// The tables that the query reads.
    pub(super) reads: BTreeSet<String>,
}

impl Table {
    /// The options, to be taken out one by one.
    pub(super) fn options(&self) -> Options {
        Options::new(&self.name, self.options.iter().cloned())
    }

    /// The options as they are written.
    pub(super) fn option_values(&self) -> impl Iterator<Item = (String, String)> {
        self.options.iter().cloned()
    }
}

impl Script {
    /// The tables that are read, by name.
    pub(super) fn sources(&self) -> BTreeSet<&str> {
        self.inserts.iter().flat_map(|insert| insert.reads.iter().map(String::as_str)).collect()
    }

    /// # Errors
    /// `Config` if there is no such table; the message lists those that there are.
    pub(super) fn table(&self, name: &str) -> Result<&Table> {
        self.tables.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.tables.keys().map(String::as_str).collect();
            Error::config(format!("there is no table '{name}'; there are: {}", known.join(", ")))
        })
    }
}

/// Takes a file apart.
pub(super) fn parse(text: &str) -> Result<Script> {
    let statements = DFParser::parse_sql(text).map_err(|cause| unreadable(text, cause))?;
    let mut script = Script { tables: BTreeMap::new(), inserts: Vec::new() };
    for statement in statements {
        match statement {
            Statement::CreateExternalTable(create) => {
                let table = table(create)?;
                if script.tables.contains_key(&table.name) {
                    return Err(Error::config(format!("the table '{}' is created twice", table.name)));
                }
                script.tables.insert(table.name.clone(), table);
            }
            Statement::Statement(statement) => match *statement {
                ast::Statement::Insert(insert) => script.inserts.push(self::insert(insert)?),
                ast::Statement::Query(_) => {
                    return Err(Error::config(
                        "a SELECT stands alone; write INSERT INTO a table before it, for example one with LOCATION 'stdout://'",
                    ));
                }
                other => return Err(unknown(&other.to_string())),
            },
            other => return Err(unknown(&other.to_string())),
        }
    }
    check_tables(&script)?;
    Ok(script)
}

/// A parser's message ends with the token at which it gave up, and where that stands. Behind OPTIONS the token may be a credential.
fn unreadable(text: &str, cause: DataFusionError) -> Error {
    let message = config_error(cause);
    let shown = match message.message().split_once("found: ") {
        Some((expected, found)) => {
            let (token, place) = found.split_at(found.rfind(" at Line").unwrap_or(found.len()));
            if may_be_credential(text, token, place) {
                format!("{expected}found something else{place}")
            } else {
                message.message().to_owned()
            }
        }
        None => message.message().to_owned(),
    };
    Error::config(format!("the SQL can't be read: {shown}"))
}

fn may_be_credential(text: &str, token: &str, place: &str) -> bool {
    let line = place.split(|letter: char| !letter.is_ascii_digit()).find_map(|digits| digits.parse().ok());
    let before = text.lines().take(line.unwrap_or(usize::MAX)).collect::<Vec<_>>().join("\n").to_lowercase();
    let in_options = before.rfind("options") > before.rfind("insert into");
    token != "EOF" && (in_options || token.contains(['\'', '"']))
}

/// Only the first words: what follows may be a credential.
fn unknown(statement: &str) -> Error {
    let words: Vec<&str> = statement.split_whitespace().take(3).collect();
    Error::config(format!(
        "'{} ...' is not a statement of a job; a job has CREATE [UNBOUNDED] EXTERNAL TABLE and INSERT INTO ... SELECT",
        words.join(" ")
    ))
}

fn check_tables(script: &Script) -> Result<()> {
    let sources = script.sources();
    for source in &sources {
        script.table(source)?;
    }
    let mut sinks = BTreeSet::new();
    for Insert { table, .. } in &script.inserts {
        if script.table(table)?.unbounded {
            return Err(Error::config(format!(
                "the table '{table}' is UNBOUNDED, and INSERT writes to it; leave UNBOUNDED out for a sink"
            )));
        }
        if sources.contains(table.as_str()) {
            return Err(Error::config(format!("the job reads the table '{table}' and writes it; a job's output can't be its input")));
        }
        if !sinks.insert(table) {
            return Err(Error::config(format!("two INSERTs write the table '{table}'; unite their queries with UNION ALL")));
        }
    }
    Ok(())
}

/// An identifier as the planner sees it: in lower case unless it is quoted.
pub(crate) fn identifier(name: &ast::Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

fn simple_name(name: &ObjectName) -> Result<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Ok(identifier(name)),
        _ => Err(Error::config(format!("'{name}' is not a simple name; tables have no schema or catalog"))),
    }
}

fn table(create: CreateExternalTable) -> Result<Table> {
    let name = simple_name(&create.name)?;
    let refuse = |what: &str| Err(Error::config(format!("table '{name}': {what} is not supported")));
    if !create.table_partition_cols.is_empty() {
        return refuse("PARTITIONED BY");
    }
    if !create.order_exprs.is_empty() {
        return refuse("WITH ORDER");
    }
    if !create.constraints.is_empty() {
        return refuse("a constraint");
    }
    if create.if_not_exists || create.or_replace || create.temporary {
        return refuse("IF NOT EXISTS, OR REPLACE or TEMPORARY");
    }
    let kept = |option: &ast::ColumnOptionDef| matches!(option.option, ast::ColumnOption::Null | ast::ColumnOption::NotNull);
    if let Some(option) = create.columns.iter().flat_map(|column| &column.options).find(|option| !kept(option)) {
        let words = option.to_string();
        return refuse(&format!("'{}' of a column", words.split_whitespace().next().unwrap_or(&words)));
    }
    let [location] = create.locations.as_slice() else { return refuse("more than one LOCATION") };
    let location = Location::parse(location).map_err(|error| error.within(format!("table '{name}'")))?;
    let options = create.options.into_iter().map(|(key, value)| (key, text(value))).collect();
    let format = create.file_type.to_lowercase();
    Ok(Table { name, columns: create.columns, format, location, unbounded: create.unbounded, options })
}

fn text(value: Value) -> String {
    let shown = value.to_string();
    value.into_string().unwrap_or(shown)
}

fn insert(insert: ast::Insert) -> Result<Insert> {
    let ast::TableObject::TableName(table) = &insert.table else {
        return Err(Error::config("INSERT INTO needs the name of a table"));
    };
    let table = simple_name(table)?;
    let columns = insert.columns.iter().map(simple_name).collect::<Result<_>>()?;
    let refused = [
        (insert.overwrite, "OVERWRITE"),
        (insert.on.is_some(), "ON CONFLICT"),
        (insert.returning.is_some(), "RETURNING"),
        (insert.partitioned.is_some(), "PARTITION"),
    ];
    if let Some((_, what)) = refused.iter().find(|(given, _)| *given) {
        return Err(Error::config(format!("INSERT INTO {table}: {what} is not supported; a sink's table has the option 'mode'")));
    }
    let query = insert.source.ok_or_else(|| Error::config(format!("INSERT INTO {table} has no SELECT")))?;
    let query = ast::Statement::Query(query);
    let statement = Statement::Statement(Box::new(query.clone()));
    let (references, _) = resolve_table_references(&statement, true)
        .map_err(|cause| Error::config(format!("INSERT INTO {table}: {}", cause.strip_backtrace())))?;
    let reads = references.iter().map(|reference: &TableReference| reference.table().to_owned()).collect();
    Ok(Insert { table, columns, query, reads })
}
