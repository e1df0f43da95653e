//! The pixels of many images: in memory, or read image by image from a file that is too large for it.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Bytes of images, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Pixels(Store);

#[derive(Clone, Debug)]
enum Store {
    Memory(Vec<u8>),
    File(Stored),
}

/// Images in a file.
#[derive(Clone, Debug)]
struct Stored {
    file: Arc<File>,
    /// Place in the file of each image, counted in images.
    places: Vec<u32>,
    /// Bytes an image.
    length: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self::Memory(Vec::new())
    }
}

impl From<Vec<u8>> for Pixels {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Store::Memory(bytes))
    }
}

impl FromIterator<u8> for Pixels {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        Vec::from_iter(bytes).into()
    }
}

impl PartialEq for Pixels {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Store::Memory(these), Store::Memory(those)) => these == those,
            (Store::File(these), Store::File(those)) => {
                Arc::ptr_eq(&these.file, &those.file) && these.places == those.places
            }
            _ => false,
        }
    }
}

impl Eq for Pixels {}

impl Pixels {
    /// Images of `length` bytes at these places of a file, counted in images.
    pub(super) fn stored(file: Arc<File>, places: Vec<u32>, length: usize) -> Self {
        Self(Store::File(Stored { file, places, length }))
    }

    /// All bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Store::Memory(bytes) => bytes.len(),
            Store::File(stored) => stored.places.len() * stored.length,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Image number `index` of those of `length` bytes each.
    ///
    /// # Errors
    /// There is none, or its file cannot be read.
    pub fn image(&self, index: usize, length: usize) -> io::Result<Cow<'_, [u8]>> {
        let missing = || io::Error::new(io::ErrorKind::UnexpectedEof, format!("no image {index}"));
        match &self.0 {
            Store::Memory(bytes) => {
                let start = index.checked_mul(length).ok_or_else(missing)?;
                bytes.get(start..start.saturating_add(length)).map(Cow::Borrowed).ok_or_else(missing)
            }
            Store::File(stored) => {
                let place = *stored.places.get(index).ok_or_else(missing)?;
                let mut bytes = vec![0; stored.length];
                stored.file.read_exact_at(&mut bytes, u64::from(place) * stored.length as u64)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// All of them at once.
    ///
    /// # Errors
    /// Their file cannot be read.
    pub fn bytes(&self) -> io::Result<Cow<'_, [u8]>> {
        match &self.0 {
            Store::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            Store::File(stored) => {
                let mut bytes = Vec::with_capacity(self.len());
                for index in 0..stored.places.len() {
                    bytes.extend_from_slice(&self.image(index, stored.length)?);
                }
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// The images of these numbers; those of a file stay there.
    ///
    /// # Panics
    /// There is no image of one of the numbers.
    pub(super) fn select(&self, indices: &[usize], length: usize) -> Self {
        match &self.0 {
            Store::Memory(bytes) => {
                let mut selected = Vec::with_capacity(indices.len() * length);
                for &index in indices {
                    selected.extend_from_slice(&bytes[index * length..(index + 1) * length]);
                }
                selected.into()
            }
            Store::File(stored) => {
                let places = indices.iter().map(|&index| stored.places[index]).collect();
                Self(Store::File(Stored { places, ..stored.clone() }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_gives_the_same_images_as_memory() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1, 2, 3, 4, 5, 6]).unwrap();
        let stored = Pixels::stored(Arc::new(file), vec![2, 0], 2);
        let memory = Pixels::from(vec![5, 6, 1, 2]);
        assert_eq!((stored.len(), memory.len()), (4, 4));
        for index in 0..2 {
            assert_eq!(stored.image(index, 2).unwrap(), memory.image(index, 2).unwrap());
        }
        assert_eq!(stored.bytes().unwrap(), memory.bytes().unwrap());
        assert_eq!(*stored.select(&[1], 2).image(0, 2).unwrap(), [1, 2]);
        for pixels in [&stored, &memory] {
            assert!(pixels.image(2, 2).is_err());
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1, 2, 3]).unwrap();
        let stored = Pixels::stored(Arc::new(file), vec![1], 2);
        assert!(stored.image(0, 2).is_err() && stored.bytes().is_err());
    }
}
