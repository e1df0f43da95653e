//! Bounded reading of plain and gzip files: a decompression bomb or a lying header costs no more than the stated limit.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::error::DataError;
use super::kind::DataKind;

/// Most bytes that one part of a data set may take in memory: SVHN's `extra` part, the largest of the published ones,
/// has 1.6 GB.
pub(super) const MAX_PART_BYTES: u64 = 2 << 30;

/// First two bytes of a gzip file (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Whether a format's file or folder is there.
///
/// # Errors
/// [`DataError::Missing`], whose hint says how to get the data set.
pub(super) fn existing(path: &Path, what: &'static str, kind: DataKind) -> Result<(), DataError> {
    if path.exists() { Ok(()) } else { Err(DataError::Missing { path: path.into(), what, kind }) }
}

/// Opens a file, plain or gzip by its first bytes.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    decoder(BufReader::new(file)).map_err(|source| DataError::Io { path: path.into(), source })
}

/// Unpacks what starts like a gzip stream, passes on what does not.
pub(super) fn decoder<'a>(mut reader: impl BufRead + 'a) -> std::io::Result<Box<dyn Read + 'a>> {
    if reader.fill_buf()?.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(MultiGzDecoder::new(reader)))
    } else {
        Ok(Box::new(reader))
    }
}

/// Fills an array; a file that ends before is an error that says so.
pub(super) fn header<const N: usize>(reader: &mut impl Read, path: &Path) -> Result<[u8; N], DataError> {
    let got = up_to(reader, N as u64, path)?;
    got.as_slice().try_into().map_err(|_| DataError::Format {
        path: path.into(),
        expected: format!("a header of {N} bytes"),
        got: format!("a file of {} bytes", got.len()),
    })
}

/// The rest of the file, which must be `expected` bytes long. Memory grows with what is there, never with what a
/// header claims.
pub(super) fn exactly(reader: &mut impl Read, expected: u64, path: &Path) -> Result<Vec<u8>, DataError> {
    let bytes = at_most(reader, expected, path, "bytes after the header")?;
    if bytes.len() as u64 == expected {
        Ok(bytes)
    } else {
        Err(DataError::Format {
            path: path.into(),
            expected: format!("{expected} bytes after the header"),
            got: format!("{}", bytes.len()),
        })
    }
}

/// The rest of the file, at most `limit` bytes of it.
pub(super) fn at_most(
    reader: &mut impl Read,
    limit: u64,
    path: &Path,
    what: &'static str,
) -> Result<Vec<u8>, DataError> {
    let bytes = up_to(reader, limit.saturating_add(1), path)?;
    if bytes.len() as u64 > limit {
        return Err(DataError::Limit { path: path.into(), what, limit, got: bytes.len() as u64 });
    }
    Ok(bytes)
}

fn up_to(reader: &mut impl Read, bytes: u64, path: &Path) -> Result<Vec<u8>, DataError> {
    let mut read = Vec::new();
    reader.take(bytes).read_to_end(&mut read).map_err(|source| match source.kind() {
        // What flate2 says of a stream that is cut short or whose checksum is wrong.
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => DataError::Format {
            path: path.into(),
            expected: "a whole compressed stream".into(),
            got: source.to_string(),
        },
        _ => DataError::Io { path: path.into(), source },
    })?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(packed.len() < 2000);
        let mut reader = decoder(packed.as_slice()).unwrap();
        let error = at_most(&mut reader, 1000, Path::new("bomb.gz"), "bytes").unwrap_err();
        assert!(matches!(error, DataError::Limit { limit: 1000, got: 1001, .. }), "{error}");
    }

    #[test]
    fn a_wrong_checksum_is_seen() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(b"some bytes").unwrap();
        let mut packed = encoder.finish().unwrap();
        let checksum = packed.len() - 8;
        packed[checksum] ^= 1;
        let mut reader = decoder(packed.as_slice()).unwrap();
        let error = exactly(&mut reader, 10, Path::new("x.gz")).unwrap_err();
        assert!(matches!(error, DataError::Format { .. }), "{error}");
    }
}
