//! A question whose answer must not be seen: a key, typed or pasted at a terminal.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Between two looks at whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// The terminal as it was; given back however the question ends, or the shell would be left without an echo.
struct Echo(Termios);

impl Drop for Echo {
    fn drop(&mut self) {
        // Nothing else can be done about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// One line from the terminal on standard input, at most `most` bytes, not echoed; `None` if `stop` was set first.
///
/// # Errors
/// Standard input is no terminal, or is gone; the line is no text.
pub(super) fn secret(question: &str, most: u64, stop: &AtomicBool) -> io::Result<Option<String>> {
    let before = tcgetattr(io::stdin())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // The end of the line is seen, so that the next words begin on their own.
    silent.local_modes.insert(LocalModes::ECHONL);
    let _echo = Echo(before);
    tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
    let mut terminal = io::stderr().lock();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let (sender, answer) = channel();
    // A thread, because nothing ends a read of a terminal; a user who stops ends the program, and the thread with it.
    std::thread::Builder::new().name("prompt".to_owned()).spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().take(most).read_line(&mut line);
        let _ = sender.send(read.map(|_| line));
    })?;
    while !stop.load(Ordering::Relaxed) {
        match answer.recv_timeout(LOOK) {
            Ok(line) => return line.map(Some),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the terminal is gone")),
        }
    }
    Ok(None)
}
