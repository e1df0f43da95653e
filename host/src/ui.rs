//! The only place that prints.
//!
//! Standard output carries the result and nothing else: a table, or one JSON object. Logs (`tracing`) and progress
//! (`indicatif`) go to standard error. Where standard error is no terminal, progress becomes an occasional log line.
//! Colours only on terminals and never against `NO_COLOR`.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod progress;
mod prompt;

pub use progress::Progress;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use n2n_protocol::text::printable;
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::exit::Failure;

/// A terminal that claims to be narrower is not believed: a table broken to fit could not be read anyway.
const FEWEST_COLUMNS: u16 = 40;
/// Environment variable with a log filter, as in `N2N_LOG=n2n=debug`; wins over `-v` and `-q`.
pub const LOG_VARIABLE: &str = "N2N_LOG";

/// How much to say on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only, no progress.
    Quiet,
    /// What happens, one line a step.
    Normal,
    /// Decisions too.
    Verbose,
    /// Everything of ours.
    Debug,
}

/// Where results, progress and errors go.
#[derive(Debug)]
pub struct Ui {
    json: bool,
    verbosity: Verbosity,
    bars: MultiProgress,
}

impl Ui {
    /// Starts logging. To be called once, at the start of the program.
    pub fn start(json: bool, verbosity: Verbosity) -> Self {
        let terminal = io::stderr().is_terminal();
        let target = if terminal && verbosity != Verbosity::Quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bars = MultiProgress::with_draw_target(target);
        let level = match verbosity {
            Verbosity::Quiet => "error",
            Verbosity::Normal => "warn,n2n=info,n2n_agent=warn",
            Verbosity::Verbose => "warn,n2n=debug,n2n_agent=info",
            Verbosity::Debug => "info,n2n=trace,n2n_agent=trace",
        };
        let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
            .with_target(verbosity == Verbosity::Debug)
            .with_writer(AboveBars(bars.clone()))
            .with_timer(Elapsed(Instant::now()))
            .finish();
        // A second call (tests in one process) keeps the first subscriber: harmless.
        let _ = tracing::subscriber::set_global_default(subscriber);
        Self { json, verbosity, bars }
    }

    /// Whether the result is wanted as JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// How much the user wants to hear.
    pub fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// The result of a verb: the object with `--json`, else the text.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn result(&self, object: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        let written =
            if self.json { serde_json::to_string_pretty(object).map_err(io::Error::other)? } else { text() };
        self.bars.suspend(|| writeln!(io::stdout().lock(), "{}", written.trim_end()))
    }

    /// A result that has no JSON form.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn text(&self, text: &str) -> io::Result<()> {
        self.bars.suspend(|| writeln!(io::stdout().lock(), "{}", text.trim_end()))
    }

    /// Asks the user at the terminal for a secret of at most `most` bytes, which is not shown; `None` if `stop` was set
    /// first.
    ///
    /// # Errors
    /// Standard input is no terminal; the answer is longer, or no text.
    pub fn ask_secret(&self, question: &str, most: u64, stop: &AtomicBool) -> io::Result<Option<String>> {
        self.bars.suspend(|| prompt::secret(question, most, stop))
    }

    /// Progress of something with a known number of steps (0: unknown), removed when dropped.
    pub fn progress(&self, title: impl Into<String>, steps: u64) -> Progress {
        let bar = self.bars.add(if steps == 0 { ProgressBar::no_length() } else { ProgressBar::new(steps) });
        let shown = !self.bars.is_hidden();
        let log = !shown && self.verbosity != Verbosity::Quiet;
        Progress::start(title.into(), bar, shown, log)
    }
}

/// The last words of a program that failed; its bars must be gone.
pub fn complain(failure: &Failure) {
    let mut stderr = io::stderr().lock();
    // Nothing is left to be done if even this fails.
    let _ = write!(stderr, "{}", failure.render());
    let _ = stderr.flush();
}

/// A table in the house style, as wide as the terminal allows: words left, numbers right.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.into_iter().collect();
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    // A terminal that does not know its size says that it has no columns.
    let narrow = table.width().is_some_and(|columns| columns < FEWEST_COLUMNS);
    table.set_content_arrangement(if narrow {
        ContentArrangement::Disabled
    } else {
        ContentArrangement::Dynamic
    });
    table.set_header(header.map(Cell::new));
    for (index, column) in table.column_iter_mut().enumerate() {
        if index > 0 && rows.iter().all(|row| is_number_or_gap(&row[index])) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in rows {
        // Names of bundles, boards and clients come from elsewhere: a terminal must not obey them.
        table.add_row(row.map(|cell| Cell::new(printable(&cell))));
    }
    table.trim_fmt()
}

/// Whether a cell belongs into a column of numbers.
fn is_number_or_gap(cell: &str) -> bool {
    cell.is_empty()
        || cell == "-"
        || cell == "unknown"
        || cell.starts_with(|it: char| it.is_ascii_digit() || "+-".contains(it))
}

/// Facts by name, one a line, aligned.
pub fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let rows: Vec<(&str, String)> = rows.into_iter().collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:<width$}  {}\n", printable(value));
    rows.iter().map(line).collect()
}

/// Log lines step aside for the bars.
#[derive(Clone, Debug)]
struct AboveBars(MultiProgress);

impl io::Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().lock().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

impl MakeWriter<'_> for AboveBars {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Log lines carry the seconds since the start: what a user compares, and the same on every machine.
#[derive(Debug)]
struct Elapsed(Instant);

impl tracing_subscriber::fmt::time::FormatTime for Elapsed {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:7.1}s", self.0.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_elsewhere_give_no_orders_to_the_terminal() {
        let name = "s\x1b[2J\n3".to_owned();
        let shown = table(["slot"], [[name.clone()]]) + &facts([("name", name)]);
        assert!(!shown.contains('\x1b') && shown.matches("s\\u{1b}[2J\\n3").count() == 2, "{shown}");
    }

    #[test]
    fn facts_are_aligned() {
        assert_eq!(facts([("a", "1".into()), ("long", "2".into())]), "a     1\nlong  2\n");
    }

    #[test]
    fn tables_have_no_trailing_blanks_and_right_aligned_numbers() {
        let row = |name: &str, params: &str, kind: &str| [name.into(), params.into(), kind.into()];
        let text =
            table(["layer", "params", "kind"], [row("conv1", "9", "a"), row("fc", "123456", "linear")]);
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
        assert!(text.contains("conv1        9   a") && text.contains("fc      123456   linear"), "{text}");
    }
}
