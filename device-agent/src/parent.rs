//! An agent that belongs to another process: the key comes through the parent's pipe, and the end of the pipe is the end
//! of the agent, so that nothing stays behind even when the parent is killed.

use anyhow::{Context as _, Result};
use n2n_protocol::key::Key;
use std::io::{BufRead as _, BufReader, Read};
use tokio::sync::oneshot;

/// First line, bytes: 64 digits and a line end, with room for blanks.
const LINE_BYTES: u64 = 128;

/// Read the key, then watch the pipe: the receiver is ready (or fails) when the parent is gone.
///
/// # Errors
/// When the first line is no key.
pub fn meet(pipe: impl Read + Send + 'static) -> Result<(Key, oneshot::Receiver<()>)> {
    let mut pipe = BufReader::new(pipe);
    let mut line = String::new();
    pipe.by_ref().take(LINE_BYTES).read_line(&mut line).context("reading the key from the parent's pipe")?;
    let key = line.parse().context("the first line of the parent's pipe")?;
    let (gone, parent) = oneshot::channel();
    std::thread::Builder::new()
        .name("parent-pipe".to_owned())
        .spawn(move || {
            // Nothing more is expected; the end of the pipe, or any failure of it, means that the parent is gone.
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            let _ = gone.send(());
        })
        .context("a thread for the parent's pipe")?;
    Ok((key, parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn the_first_line_is_the_key_and_the_end_is_noticed() {
        let text = format!("{}\nmore", "ab".repeat(32));
        let (key, parent) = meet(Cursor::new(text)).unwrap();
        assert_eq!(key.reveal(), "ab".repeat(32));
        assert_eq!(parent.blocking_recv(), Ok(()));
        assert!(meet(Cursor::new("no key\n")).is_err());
        assert!(meet(Cursor::new(vec![b'a'; 1000])).is_err());
    }
}
