//! The pixels of many images: in memory, or read image by image from a file that is too large for it, ahead of their use.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::fs::{Advice, fadvise};

/// Bytes of images, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Pixels(Store);

#[derive(Clone, Debug)]
enum Store {
    Memory(Vec<u8>),
    File(Stored),
    Two(Two),
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

/// Images of two collections, as one.
#[derive(Clone, Debug)]
struct Two {
    parts: Arc<[Pixels; 2]>,
    /// Of each image, its number in the two one after the other.
    places: Vec<u32>,
    /// Bytes an image.
    length: usize,
}

impl Two {
    /// The collection that has a place, and the number there.
    fn find(&self, place: u32) -> (&Pixels, usize) {
        let [first, second] = &*self.parts;
        let (place, images) = (place as usize, first.len() / self.length.max(1));
        if place < images { (first, place) } else { (second, place - images) }
    }
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
            (Store::Two(these), Store::Two(those)) => {
                these.parts == those.parts && these.places == those.places
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
            Store::File(Stored { places, length, .. }) | Store::Two(Two { places, length, .. }) => {
                places.len() * length
            }
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
            Store::Two(two) => {
                let (part, index) = two.find(*two.places.get(index).ok_or_else(missing)?);
                part.image(index, length)
            }
        }
    }

    /// These, then those, of `length` bytes each; no byte is copied.
    pub(super) fn and(&self, other: &Self, length: usize) -> Self {
        let places = (0..((self.len() + other.len()) / length.max(1)) as u32).collect();
        Self(Store::Two(Two { parts: Arc::new([self.clone(), other.clone()]), places, length }))
    }

    /// Asks the system to read these images from their file while others are still worked on. A number without an image, or a
    /// system that does not listen, changes nothing.
    pub fn soon(&self, indices: &[usize]) {
        match &self.0 {
            Store::Memory(_) => {}
            Store::File(Stored { file, places, length }) => {
                for &place in indices.iter().filter_map(|&index| places.get(index)) {
                    let start = u64::from(place) * *length as u64;
                    // Advice: what comes of it is seen when the image is read.
                    let _ = fadvise(file, start, NonZeroU64::new(*length as u64), Advice::WillNeed);
                }
            }
            Store::Two(two) => {
                for &place in indices.iter().filter_map(|&index| two.places.get(index)) {
                    let (part, index) = two.find(place);
                    part.soon(&[index]);
                }
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
            Store::File(Stored { places, length, .. }) | Store::Two(Two { places, length, .. }) => {
                let mut bytes = Vec::with_capacity(self.len());
                for index in 0..places.len() {
                    bytes.extend_from_slice(&self.image(index, *length)?);
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
            Store::Two(two) => {
                let places = indices.iter().map(|&index| two.places[index]).collect();
                Self(Store::Two(Two { places, ..two.clone() }))
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
    fn two_collections_are_one() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1, 2, 3, 4]).unwrap();
        let both = Pixels::from(vec![5, 6]).and(&Pixels::stored(Arc::new(file), vec![1, 0], 2), 2);
        assert_eq!(*both.bytes().unwrap(), [5, 6, 3, 4, 1, 2]);
        let some = both.select(&[2, 0], 2);
        assert_eq!((some.len(), &*some.bytes().unwrap()), (4, [1, 2, 5, 6].as_slice()));
        assert!(some.image(2, 2).is_err());
        assert_eq!(some, both.select(&[2, 0], 2));
        assert_ne!(some, both.select(&[0, 2], 2));
        both.soon(&[0, 1, 2, 3]);
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1, 2, 3]).unwrap();
        let stored = Pixels::stored(Arc::new(file), vec![1], 2);
        assert!(stored.image(0, 2).is_err() && stored.bytes().is_err());
    }
}
