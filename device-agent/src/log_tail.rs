//! The newest lines of the agent's own log, for a host that asks what happened. Bounded in lines and in their length.

use n2n_protocol::limits;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::fmt::MakeWriter;

/// Longest line that is kept, bytes: with [`limits::LOG_LINES`] of them the tail takes at most half a megabyte.
const LINE_BYTES: usize = 512;

/// A ring of lines that a log can be written to; clones share it.
#[derive(Clone, Debug, Default)]
pub struct LogTail(Arc<Mutex<VecDeque<String>>>);

impl LogTail {
    /// The newest `lines` lines, oldest first.
    pub fn newest(&self, lines: u16) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = kept.len().saturating_sub(usize::from(lines));
        kept.iter().skip(skipped).cloned().collect()
    }

    /// Keep one more line, cut at [`LINE_BYTES`].
    pub(crate) fn keep(&self, line: &str) {
        let line = clip(line, LINE_BYTES);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == limits::LOG_LINES {
            kept.pop_front();
        }
        kept.push_back(line.to_owned());
    }
}

/// The longest beginning of `text` that is at most `bytes` long.
pub(crate) fn clip(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

/// One event's text on its way into the ring.
#[derive(Debug)]
pub struct LineWriter(LogTail);

impl io::Write for LineWriter {
    /// The formatter hands over one whole event at a time.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        String::from_utf8_lossy(bytes).lines().for_each(|line| self.0.keep(line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogTail {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn old_lines_make_room_and_long_ones_are_cut() {
        let tail = LogTail::default();
        for number in 0..limits::LOG_LINES + 5 {
            tail.make_writer().write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let all = tail.newest(u16::MAX);
        assert_eq!((all.len(), all[0].as_str()), (limits::LOG_LINES, "line 5"));
        assert_eq!(tail.newest(1), [format!("line {}", limits::LOG_LINES + 4)]);
        tail.make_writer().write_all("é".repeat(LINE_BYTES).as_bytes()).unwrap();
        assert_eq!(tail.newest(1)[0].len(), LINE_BYTES);
    }
}
