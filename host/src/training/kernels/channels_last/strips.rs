//! Padded strips of a map: what the inner loops read.
//!
//! A strip is a few rows of windows of one image, or a few whole small images. Its input is copied with its zero
//! padding, so that a window row is one contiguous run and every window an offset. Geometry and copies only.

use std::cell::RefCell;
use std::ops::Range;

/// A strip's input, in f32 values: 192 KiB, well under half of a 512 KiB second-level cache.
const STRIP_VALUES: usize = 48 * 1024;
/// Fewer output pixels than this in a strip would stream the weights too often.
const STRIP_PIXELS: usize = 48;
/// Readable values after a strip: tiles of the weight gradient read up to a tile's rows past the last run.
pub(super) const SLACK: usize = 24;

/// A padded input and the windows over it. Lengths in values, positions in pixels.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    /// Images.
    pub(super) images: usize,
    /// Rows of the source.
    pub(super) height: usize,
    /// Columns of the source.
    pub(super) width: usize,
    /// Channels of a source pixel.
    pub(super) channels: usize,
    /// First channel read.
    pub(super) first_channel: usize,
    /// Channels read.
    pub(super) read_channels: usize,
    /// Rows of a window.
    pub(super) kernel_rows: usize,
    /// Columns of a window.
    pub(super) kernel_columns: usize,
    /// Step between windows.
    pub(super) stride: usize,
    /// Zero rows above; negative cuts rows off.
    pub(super) top: isize,
    /// Zero columns left; negative cuts columns off.
    pub(super) left: isize,
    /// Windows down.
    pub(super) rows: usize,
    /// Windows across.
    pub(super) columns: usize,
}

/// A range of images and of window rows; more than one image only with all rows.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    pub(super) image: usize,
    pub(super) images: usize,
    pub(super) row: usize,
    pub(super) rows: usize,
}

/// Taps of a window along one axis that lie over the source for some of the windows.
fn reached(taps: usize, before: isize, windows: usize, stride: usize, size: usize) -> Range<usize> {
    // Tap t of window w reads position w * stride + t - before.
    let furthest = (windows.saturating_sub(1) * stride) as isize;
    let first = (before - furthest).clamp(0, taps as isize - 1);
    first as usize..(before + size as isize).clamp(first + 1, taps as isize) as usize
}

impl Windows {
    /// Without the rows and columns of the window that lie in the padding for all windows: of a 3x3 kernel over 1x1 maps,
    /// only the centre is left. Also the places of the window (row by row) that are left.
    pub(super) fn trimmed(&self) -> (Self, Vec<usize>) {
        let rows = reached(self.kernel_rows, self.top, self.rows, self.stride, self.height);
        let columns = reached(self.kernel_columns, self.left, self.columns, self.stride, self.width);
        let windows = Self {
            kernel_rows: rows.len(),
            kernel_columns: columns.len(),
            top: self.top - rows.start as isize,
            left: self.left - columns.start as isize,
            ..*self
        };
        let places = rows.flat_map(|row| columns.clone().map(move |column| (row, column)));
        (windows, places.map(|(row, column)| row * self.kernel_columns + column).collect())
    }

    /// Values of one window row in the buffer.
    pub(super) fn run(&self) -> usize {
        self.kernel_columns * self.read_channels
    }

    /// Values of one buffered row.
    pub(super) fn row_values(&self) -> usize {
        ((self.columns - 1) * self.stride + self.kernel_columns) * self.read_channels
    }

    /// Buffered rows of `rows` rows of windows.
    pub(super) fn buffered_rows(&self, rows: usize) -> usize {
        (rows - 1) * self.stride + self.kernel_rows
    }

    /// Panics unless the source has every image: what the raw reads below rely on.
    pub(super) fn assert_within(&self, source: &[f32]) {
        let expected = self.images * self.height * self.width * self.channels;
        assert!(source.len() >= expected, "expected a map of {expected} values, got {}", source.len());
    }

    /// Cuts images `from..from + count` into strips.
    pub(super) fn strips(&self, from: usize, count: usize, images_at_most: usize) -> Vec<Strip> {
        let whole = self.buffered_rows(self.rows) * self.row_values();
        if whole <= STRIP_VALUES {
            let wanted = STRIP_PIXELS.div_ceil(self.rows * self.columns).max(images_at_most);
            let images = (STRIP_VALUES / whole).clamp(1, wanted);
            (0..count)
                .step_by(images)
                .map(|start| Strip {
                    image: from + start,
                    images: images.min(count - start),
                    row: 0,
                    rows: self.rows,
                })
                .collect()
        } else {
            let buffered = (STRIP_VALUES / self.row_values()).max(self.kernel_rows);
            let rows = ((buffered - self.kernel_rows) / self.stride + 1).clamp(1, self.rows);
            (from..from + count)
                .flat_map(|image| {
                    (0..self.rows).step_by(rows).map(move |row| Strip {
                        image,
                        images: 1,
                        row,
                        rows: rows.min(self.rows - row),
                    })
                })
                .collect()
        }
    }

    /// Cuts images `from..from + count` into strips of about `windows` windows, whatever their input takes.
    pub(super) fn cut(&self, from: usize, count: usize, windows: usize) -> Vec<Strip> {
        let rows = (windows / self.columns).clamp(1, self.rows);
        let images = if rows < self.rows { 1 } else { (windows / (self.rows * self.columns)).max(1) };
        let starts = (0..count).step_by(images);
        starts
            .flat_map(|start| {
                (0..self.rows).step_by(rows).map(move |row| Strip {
                    image: from + start,
                    images: images.min(count - start),
                    row,
                    rows: rows.min(self.rows - row),
                })
            })
            .collect()
    }

    /// Copies a strip's input with its padding into `buffer`, and the offset of every window into `offsets`.
    pub(super) fn fill(&self, source: &[f32], strip: Strip, buffer: &mut Vec<f32>, offsets: &mut Vec<usize>) {
        let (row_values, read) = (self.row_values(), self.read_channels);
        let buffered = self.buffered_rows(strip.rows);
        let needed = strip.images * buffered * row_values + SLACK;
        grow(buffer, needed);
        let columns = row_values / read;
        // Buffered columns that have a source column.
        let start = self.left.clamp(0, columns as isize) as usize;
        let end = (self.width as isize + self.left).clamp(start as isize, columns as isize) as usize;
        let mut targets = buffer.chunks_exact_mut(row_values);
        for image in strip.image..strip.image + strip.images {
            for row in 0..buffered {
                let Some(target) = targets.next() else { return };
                let source_row = (strip.row * self.stride + row) as isize - self.top;
                if source_row < 0 || source_row >= self.height as isize || start == end {
                    target.fill(0.0);
                    continue;
                }
                target[..start * read].fill(0.0);
                target[end * read..].fill(0.0);
                let first = (start as isize - self.left) as usize;
                let base = ((image * self.height + source_row as usize) * self.width + first) * self.channels;
                let target = &mut target[start * read..end * read];
                if read == self.channels {
                    target.copy_from_slice(&source[base..base + target.len()]);
                } else {
                    let pixels = source[base..].chunks(self.channels);
                    for (to, from) in target.chunks_exact_mut(read).zip(pixels) {
                        to.copy_from_slice(&from[self.first_channel..self.first_channel + read]);
                    }
                }
            }
        }
        offsets.clear();
        for image in 0..strip.images {
            for row in 0..strip.rows {
                let base = (image * buffered + row * self.stride) * row_values;
                offsets.extend((0..self.columns).map(|column| base + column * self.stride * read));
            }
        }
    }
}

/// Windows in a buffer, as the inner loops read them: from each offset, rows of one run of values.
#[derive(Clone, Copy)]
pub(super) struct Gathered<'a> {
    /// Start of the buffer. A pointer, since the loops step over its bounds and back, and read past the last run.
    pub(super) input: *const f32,
    /// Of each window.
    pub(super) offsets: &'a [usize],
    /// From one row to the next.
    pub(super) row_values: usize,
    /// Rows of a window.
    pub(super) kernel_rows: usize,
    /// Values of a row of a window.
    pub(super) run: usize,
}

impl<'a> Gathered<'a> {
    /// A strip that [`Windows::fill`] filled.
    pub(super) fn strip(windows: &Windows, buffer: &'a [f32], offsets: &'a [usize]) -> Self {
        Self {
            input: buffer.as_ptr(),
            offsets,
            row_values: windows.row_values(),
            kernel_rows: windows.kernel_rows,
            run: windows.run(),
        }
    }

    /// Rows of a matrix.
    pub(super) fn rows(matrix: &'a [f32], offsets: &'a [usize], length: usize) -> Self {
        Self { input: matrix.as_ptr(), offsets, row_values: 0, kernel_rows: 1, run: length }
    }
}

/// Makes `buffer` hold `needed` values at the least; what it held may be anything.
pub(super) fn grow(buffer: &mut Vec<f32>, needed: usize) {
    if buffer.len() < needed {
        buffer.resize(needed, 0.0);
    }
}

/// Buffers that a thread keeps between strips and steps.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) input: Vec<f32>,
    pub(super) offsets: Vec<usize>,
    pub(super) places: Vec<usize>,
    pub(super) panel: Vec<f32>,
    pub(super) rows: Vec<usize>,
    pub(super) transformed: Vec<f32>,
    pub(super) products: Vec<f32>,
}

thread_local! {
    pub(super) static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(size: (usize, usize), kernel: usize, stride: usize, padding: usize) -> Windows {
        let along = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        Windows {
            images: 1,
            height: size.0,
            width: size.1,
            channels: 1,
            first_channel: 0,
            read_channels: 1,
            kernel_rows: kernel,
            kernel_columns: kernel,
            stride,
            top: padding as isize,
            left: padding as isize,
            rows: along(size.0),
            columns: along(size.1),
        }
    }

    #[test]
    fn taps_that_only_see_padding_go() {
        let kept = |size, kernel, stride, padding| windows(size, kernel, stride, padding).trimmed().1;
        assert_eq!(kept((1, 1), 3, 1, 1), [4]);
        assert_eq!(kept((1, 2), 3, 1, 1), [3, 4, 5]);
        assert_eq!(kept((2, 2), 3, 1, 1), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        // The one window of stride 2 stands with its first row and column in the padding.
        assert_eq!(kept((2, 2), 3, 2, 1), [4, 5, 7, 8]);
        let trimmed = windows((1, 1), 3, 1, 1).trimmed().0;
        assert_eq!((trimmed.kernel_rows, trimmed.kernel_columns, trimmed.top, trimmed.left), (1, 1, 0, 0));
    }

    #[test]
    fn no_tap_that_sees_the_source_goes() {
        for (size, kernel, stride, padding) in (1..6).flat_map(|s| {
            (1..6).flat_map(move |k| (1..4).flat_map(move |t| (0..4).map(move |p| (s, k, t, p))))
        }) {
            if size + 2 * padding < kernel {
                continue;
            }
            let windows = windows((size, size), kernel, stride, padding);
            let (trimmed, kept) = windows.trimmed();
            let seen = |tap: usize| {
                (0..windows.rows).any(|row| (padding..padding + size).contains(&(row * stride + tap)))
            };
            for row in (0..kernel).filter(|&row| seen(row)) {
                for column in (0..kernel).filter(|&column| seen(column)) {
                    assert!(kept.contains(&(row * kernel + column)), "{size} {kernel} {stride} {padding}");
                }
            }
            assert_eq!(kept.len(), trimmed.kernel_rows * trimmed.kernel_columns);
            assert!(!kept.is_empty());
        }
    }
}
