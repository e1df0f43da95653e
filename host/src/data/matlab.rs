//! The part of MATLAB's level 5 MAT-file format that SVHN uses: named, dense, real arrays, compressed or not.
//!
//! Format: "MAT-File Format", The MathWorks (matfile_format.pdf), chapter 1. Anything else in a file is skipped or an
//! error, never guessed at.

use std::io::Read as _;
use std::path::Path;

use flate2::bufread::ZlibDecoder;

use super::error::DataError;
use super::source::MAX_PART_BYTES;

/// A named array, column-major.
#[derive(Debug)]
pub(super) struct MatArray {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<u8>,
}

const HEADER_BYTES: usize = 128;
/// Version 1.0 and the endian mark, as a little-endian file has them at byte 124.
const LITTLE_ENDIAN_V5: [u8; 4] = [0x00, 0x01, b'I', b'M'];
/// SVHN has 4.
const MAX_DIMS: usize = 8;
/// SVHN files hold 2.
const MAX_ARRAYS: usize = 64;
const MAX_NAME_BYTES: usize = 63;

/// Data types of elements (table 1-1).
mod element {
    pub(super) const INT8: u32 = 1;
    pub(super) const UINT8: u32 = 2;
    pub(super) const INT16: u32 = 3;
    pub(super) const UINT16: u32 = 4;
    pub(super) const INT32: u32 = 5;
    pub(super) const UINT32: u32 = 6;
    pub(super) const DOUBLE: u32 = 9;
    pub(super) const MATRIX: u32 = 14;
    pub(super) const COMPRESSED: u32 = 15;
}

/// Bit of the array flags that says that there is an imaginary part.
const COMPLEX_FLAG: u32 = 0x0800;

/// Reads all arrays of a file. Values of any numeric type must be whole numbers from 0 to 255.
pub(super) fn read(file: &[u8], path: &Path) -> Result<Vec<MatArray>, DataError> {
    let reader = Reader { path };
    // HDF5's signature, after MATLAB's own header or in its place.
    if file.starts_with(b"MATLAB 7.3") || file.starts_with(b"\x89HDF") {
        return Err(DataError::Layout {
            path: path.into(),
            expected: "a MATLAB level 5 file".into(),
            got: "one of MATLAB 7.3 (HDF5)".into(),
            hint: "save it in MATLAB with save(NAME, '-v7')".into(),
        });
    }
    let header = file.get(..HEADER_BYTES).ok_or_else(|| {
        reader.wrong("a MATLAB file header of 128 bytes", format!("a file of {} bytes", file.len()))
    })?;
    if header[124..] != LITTLE_ENDIAN_V5 {
        return Err(
            reader.wrong("a little-endian MATLAB level 5 file", format!("header {:02x?}", &header[124..]))
        );
    }
    let mut rest = &file[HEADER_BYTES..];
    let mut arrays = Vec::new();
    while !rest.is_empty() {
        if arrays.len() == MAX_ARRAYS {
            return Err(reader.wrong("at most 64 arrays", "more"));
        }
        let (kind, data) = reader.element(&mut rest, Padding::OnlyInside)?;
        arrays.push(match kind {
            element::COMPRESSED => reader.array(&reader.inflate(data)?)?,
            element::MATRIX => reader.array(data)?,
            other => return Err(reader.wrong("an array", format!("an element of type {other}"))),
        });
    }
    Ok(arrays)
}

/// Whether an element is padded to 8 bytes: all are, but for a compressed one at the top of a file.
#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Always,
    OnlyInside,
}

struct Reader<'a> {
    path: &'a Path,
}

impl Reader<'_> {
    fn wrong(&self, expected: impl Into<String>, got: impl Into<String>) -> DataError {
        DataError::Format { path: self.path.into(), expected: expected.into(), got: got.into() }
    }

    /// Takes one data element, in its long or its small form, off the front.
    fn element<'b>(&self, bytes: &mut &'b [u8], padding: Padding) -> Result<(u32, &'b [u8]), DataError> {
        let cut = |bytes: &mut &'b [u8], length: usize| {
            let left = bytes.len();
            bytes.split_off(..length).ok_or_else(|| {
                self.wrong(format!("{length} more bytes"), format!("{left}, the file is cut short"))
            })
        };
        let first = word(cut(bytes, 4)?);
        if first >> 16 != 0 {
            // Small form: length and type in one word, up to 4 bytes of data in the next.
            let data = cut(bytes, 4)?;
            let length = (first >> 16) as usize;
            return match data.get(..length) {
                Some(data) => Ok((first & 0xffff, data)),
                None => Err(self.wrong("a small element of at most 4 bytes", length.to_string())),
            };
        }
        let length = word(cut(bytes, 4)?) as usize;
        let data = cut(bytes, length)?;
        if padding == Padding::Always || first != element::COMPRESSED {
            // The last element of a file may lack its padding.
            let pad = (8 - length % 8) % 8;
            cut(bytes, pad.min(bytes.len()))?;
        }
        Ok((first, data))
    }

    /// Unpacks a compressed element, which holds exactly one array, to no more than what its tag says.
    fn inflate(&self, packed: &[u8]) -> Result<Vec<u8>, DataError> {
        let corrupt = |source: std::io::Error| self.wrong("a whole compressed array", source.to_string());
        let mut decoder = ZlibDecoder::new(packed);
        let mut tag = [0; 8];
        decoder.read_exact(&mut tag).map_err(corrupt)?;
        let (kind, length) = (word(&tag[..4]), u64::from(word(&tag[4..])));
        if kind != element::MATRIX {
            return Err(self.wrong("a compressed array", format!("a compressed element of type {kind}")));
        }
        if length > MAX_PART_BYTES {
            return Err(DataError::Limit {
                path: self.path.into(),
                what: "bytes of an array",
                limit: MAX_PART_BYTES,
                got: length,
            });
        }
        let mut array = Vec::new();
        decoder.take(length).read_to_end(&mut array).map_err(corrupt)?;
        if array.len() as u64 == length {
            Ok(array)
        } else {
            Err(self.wrong(format!("an array of {length} bytes"), array.len().to_string()))
        }
    }

    /// The elements inside an array: flags, dimensions, name, real part.
    fn array(&self, mut bytes: &[u8]) -> Result<MatArray, DataError> {
        let mut next = |what: &str, kinds: &[u32]| {
            let (kind, data) = self.element(&mut bytes, Padding::Always)?;
            if kinds.contains(&kind) {
                Ok((kind, data))
            } else {
                Err(self.wrong(format!("{what} of an array"), format!("an element of type {kind}")))
            }
        };
        let (_, flags) = next("the flags", &[element::UINT32])?;
        if flags.len() != 8 || word(&flags[..4]) & COMPLEX_FLAG != 0 {
            return Err(self.wrong("an array of real numbers", format!("flags {flags:02x?}")));
        }
        let (_, dims) = next("the dimensions", &[element::INT32])?;
        if dims.len() % 4 != 0 || dims.is_empty() || dims.len() / 4 > MAX_DIMS {
            return Err(self.wrong("1 to 8 dimensions", format!("{} bytes of them", dims.len())));
        }
        let dims: Vec<usize> = dims.chunks_exact(4).map(|dim| word(dim) as usize).collect();
        let (_, name) = next("the name", &[element::INT8])?;
        if name.len() > MAX_NAME_BYTES {
            return Err(self.wrong("a name of at most 63 bytes", name.len().to_string()));
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let numeric = [
            element::INT8,
            element::UINT8,
            element::INT16,
            element::UINT16,
            element::INT32,
            element::UINT32,
            element::DOUBLE,
        ];
        let (kind, data) = next("the numbers", &numeric)?;
        let values = self.bytes(&name, kind, data)?;
        let expected = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        if expected == Some(values.len()) {
            Ok(MatArray { name, dims, values })
        } else {
            Err(self.wrong(format!("array `{name}` of {dims:?}"), format!("{} values", values.len())))
        }
    }

    /// Values of any stored type as bytes.
    fn bytes(&self, name: &str, kind: u32, data: &[u8]) -> Result<Vec<u8>, DataError> {
        let width = match kind {
            element::UINT8 => return Ok(data.to_vec()),
            element::INT8 => 1,
            element::INT16 | element::UINT16 => 2,
            element::INT32 | element::UINT32 => 4,
            _ => 8,
        };
        let values = data.chunks_exact(width);
        if !values.remainder().is_empty() {
            return Err(
                self.wrong(format!("whole numbers of {width} bytes"), format!("{} bytes", data.len()))
            );
        }
        values
            .map(|bytes| {
                // All fit: a negative number's top bit makes it far too large for a byte.
                let whole = bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
                let value = if kind == element::DOUBLE { f64::from_bits(whole) } else { whole as f64 };
                if value.fract() == 0.0
                    && (0.0..=255.0).contains(&value)
                    && !(kind == element::INT8 && whole > 127)
                {
                    Ok(value as u8)
                } else {
                    Err(self.wrong(format!("whole numbers from 0 to 255 in `{name}`"), value.to_string()))
                }
            })
            .collect()
    }
}

/// The little-endian word of 4 bytes.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flate2::{Compression, write::ZlibEncoder};
    use proptest::prelude::*;
    use std::io::Write as _;

    pub(crate) fn header() -> Vec<u8> {
        let mut header = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".to_vec();
        header.resize(124, b' ');
        header.extend(LITTLE_ENDIAN_V5);
        header
    }

    fn long(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn small(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u16).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(8, 0);
        bytes
    }

    /// An array as MATLAB writes it: short names in the small form.
    pub(crate) fn array(name: &str, dims: &[i32], kind: u32, data: &[u8]) -> Vec<u8> {
        let dims: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let inside = [
            long(element::UINT32, &[9, 0, 0, 0, 0, 0, 0, 0]),
            long(element::INT32, &dims),
            if name.len() <= 4 {
                small(element::INT8 as u16, name.as_bytes())
            } else {
                long(element::INT8, name.as_bytes())
            },
            long(kind, data),
        ];
        long(element::MATRIX, &inside.concat())
    }

    pub(crate) fn compressed(array: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(array).unwrap();
        let packed = encoder.finish().unwrap();
        // No padding: compressed elements have none.
        [&element::COMPRESSED.to_le_bytes()[..], &(packed.len() as u32).to_le_bytes(), &packed].concat()
    }

    #[test]
    fn reads_plain_and_compressed_arrays_of_several_types() {
        let doubles: Vec<u8> = [1.0_f64, 10.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let file = [
            header(),
            compressed(&array("X", &[1, 3], element::UINT8, &[1, 2, 255])),
            array("label", &[2, 1], element::DOUBLE, &doubles),
            compressed(&array("z", &[1, 1], element::UINT16, &[200, 0])),
        ]
        .concat();
        let arrays = read(&file, Path::new("x.mat")).unwrap();
        let seen: Vec<_> =
            arrays.iter().map(|a| (a.name.as_str(), a.dims.clone(), a.values.clone())).collect();
        assert_eq!(
            seen,
            [
                ("X", vec![1, 3], vec![1, 2, 255]),
                ("label", vec![2, 1], vec![1, 10]),
                ("z", vec![1, 1], vec![200])
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let good = array("X", &[1, 3], element::UINT8, &[1, 2, 3]);
        let half = f64::to_le_bytes(0.5);
        let bomb = [&element::MATRIX.to_le_bytes()[..], &u32::MAX.to_le_bytes(), &[0; 64]].concat();
        let cases: [(Vec<u8>, &str); 7] = [
            (good[..good.len() - 16].to_vec(), "cut short"),
            (compressed(&good[..good.len() - 8]), "expected an array of"),
            (array("X", &[2, 3], element::UINT8, &[1, 2, 3]), "expected array `X` of [2, 3], got 3 values"),
            (array("X", &[1, 1], element::DOUBLE, &half), "whole numbers from 0 to 255"),
            (array("X", &[1, 1], element::INT8, &[0xff]), "whole numbers from 0 to 255"),
            (compressed(&bomb), "bytes of an array: expected at most"),
            (long(element::UINT8, &[1]), "expected an array, got an element of type 2"),
        ];
        for (element, expected) in cases {
            let error = read(&[header(), element].concat(), Path::new("x.mat")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(read(b"short", Path::new("x")).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, flips in proptest::collection::vec((0_usize..400, any::<u8>()), 0..6)) {
            let _ = read(&[header(), bytes].concat(), Path::new("x"));
            let mut file = [header(), array("X", &[1, 3], element::UINT8, &[1, 2, 3]), compressed(&array("y", &[1, 1], element::UINT8, &[1]))].concat();
            for (place, value) in flips {
                let place = place % file.len();
                file[place] = value;
            }
            let _ = read(&file, Path::new("x"));
        }
    }
}
