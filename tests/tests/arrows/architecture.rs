//! The laws as ARCHITECTURE.md states them: its tables, read. There is no second list of rooms or arrows anywhere.
//!
//! A cell names things in `code spans`; all other words are for people.

use std::path::{Path, PathBuf};

/// A table of the page.
#[derive(Debug)]
struct Table {
    /// The paragraph before it, in one line.
    lead: String,
    header: Vec<String>,
    rows: Vec<Row>,
}

/// A row: the code spans of each cell.
type Row = Vec<Vec<String>>;

/// The rooms below one folder.
#[derive(Debug)]
pub(super) struct Rooms {
    /// Relative to the repository, with a slash at its end.
    pub(super) folder: String,
    /// Names of files and folders; each may know those before it.
    pub(super) names: Vec<String>,
}

/// Whom a package may know.
#[derive(Debug)]
pub(super) struct Arrow {
    pub(super) package: String,
    pub(super) knows: Vec<String>,
    /// The only files that may use the knowledge that is out of the ordinary.
    pub(super) only: Vec<(String, String)>,
}

/// What some code must not touch.
#[derive(Debug)]
pub(super) struct Ban {
    /// Files and folders, relative to the repository.
    pub(super) places: Vec<String>,
    /// Paths and macros.
    pub(super) never: Vec<String>,
    /// Files and folders that may.
    pub(super) but: Vec<String>,
}

/// The repository.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Tables `Rooms of … (`folder`)`.
pub(super) fn rooms() -> Vec<Rooms> {
    let of_table = |table: Table| {
        let folder = spans(&table.lead).into_iter().next()?;
        let names = table.rows.into_iter().flat_map(|mut row| row.swap_remove(0)).collect();
        table.lead.starts_with("Rooms of ").then_some(Rooms { folder, names })
    };
    let found: Vec<Rooms> = tables().into_iter().filter_map(of_table).collect();
    assert!(!found.is_empty(), "ARCHITECTURE.md: no table after a line `Rooms of … (`folder`)`");
    found
}

/// The table with the header `package | may know | only in`.
pub(super) fn arrows() -> Vec<Arrow> {
    let rows = rows_below(&["package", "may know", "only in"]);
    let arrow = |row: Row| {
        let [package, knows, only] = <[Vec<String>; 3]>::try_from(row).unwrap();
        let only = only.chunks(2).map(|pair| {
            let [package, file] = pair else { panic!("expected `package` in `file`, got {pair:?}") };
            (package.clone(), file.clone())
        });
        Arrow { package: package[0].clone(), knows, only: only.collect() }
    };
    rows.into_iter().map(arrow).collect()
}

/// The table with the header `where | never | but`.
pub(super) fn bans() -> Vec<Ban> {
    let ban = |row: Row| {
        let [places, never, but] = <[Vec<String>; 3]>::try_from(row).unwrap();
        Ban { places, never, but }
    };
    rows_below(&["where", "never", "but"]).into_iter().map(ban).collect()
}

fn rows_below(header: &[&str]) -> Vec<Row> {
    let found = tables().into_iter().find(|table| table.header == header);
    let rows = found.unwrap_or_else(|| panic!("ARCHITECTURE.md: no table with the header {header:?}")).rows;
    assert!(!rows.is_empty(), "ARCHITECTURE.md: nothing below the header {header:?}");
    rows
}

fn tables() -> Vec<Table> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut tables: Vec<Table> = Vec::new();
    let (mut lead, mut ended) = (String::new(), true);
    let mut inside = false;
    for line in text.lines() {
        let Some(cells) = cells(line) else {
            (inside, ended) = (false, ended || line.is_empty());
            if !line.is_empty() {
                if std::mem::take(&mut ended) {
                    lead.clear();
                }
                lead += line;
            }
            continue;
        };
        let is_rule = cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|it| "-:".contains(it)));
        if !inside {
            let header = cells.iter().map(|cell| (*cell).to_owned()).collect();
            tables.push(Table { lead: std::mem::take(&mut lead), header, rows: Vec::new() });
        } else if !is_rule {
            let table = tables.last_mut().unwrap();
            assert_eq!(cells.len(), table.header.len(), "ARCHITECTURE.md: cells of the row {line}");
            table.rows.push(cells.into_iter().map(spans).collect());
        }
        inside = true;
    }
    tables
}

/// The cells of a line of a table.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// What stands between backticks.
fn spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
