//! Teacher against student on the same images: the difference of two accuracies and its interval.
//!
//! The two answer the same questions, so their errors are correlated and only the images on which they disagree say
//! anything (the idea behind McNemar's test); an interval from two independent accuracies would be far too wide.

use serde::{Deserialize, Serialize};

/// Normal quantile of a two-sided 95 % interval.
pub(super) const Z_95: f64 = 1.959_964;

/// Student accuracy minus teacher accuracy, on one set of images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Images.
    pub images: u32,
    /// Images that only the student got right.
    pub student_only: u32,
    /// Images that only the teacher got right.
    pub teacher_only: u32,
}

impl PairedDifference {
    /// Compares two lists of predicted classes with the labels; all three of one length.
    pub fn new(teacher: &[u16], student: &[u16], labels: &[u16]) -> Self {
        let mut difference = Self { images: labels.len() as u32, student_only: 0, teacher_only: 0 };
        for ((teacher, student), label) in teacher.iter().zip(student).zip(labels) {
            match (teacher == label, student == label) {
                (false, true) => difference.student_only += 1,
                (true, false) => difference.teacher_only += 1,
                _ => {}
            }
        }
        difference
    }

    /// Student minus teacher, as a fraction of all images.
    pub fn estimate(&self) -> f64 {
        (f64::from(self.student_only) - f64::from(self.teacher_only)) / f64::from(self.images.max(1))
    }

    /// 95 % interval of [`Self::estimate`] (Agresti and Min 2005: half a pseudo-observation in each of the four cells, so
    /// that perfect agreement does not give an interval of width zero).
    pub fn interval(&self) -> (f64, f64) {
        let images = f64::from(self.images) + 2.0;
        let (gained, lost) = (f64::from(self.student_only) + 0.5, f64::from(self.teacher_only) + 0.5);
        let centre = (gained - lost) / images;
        let half = Z_95 * ((gained + lost - (gained - lost).powi(2) / images).max(0.0)).sqrt() / images;
        (centre - half, centre + half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disagreements_count() {
        let labels = [0, 1, 2, 3, 4];
        let difference = PairedDifference::new(&[0, 1, 2, 0, 0], &[0, 0, 2, 3, 0], &labels);
        assert_eq!(difference, PairedDifference { images: 5, student_only: 1, teacher_only: 1 });
        assert_eq!(difference.estimate(), 0.0);
    }

    #[test]
    fn interval_holds_the_estimate_and_narrows_with_images() {
        let few = PairedDifference { images: 200, student_only: 4, teacher_only: 10 };
        let many = PairedDifference { images: 20_000, student_only: 400, teacher_only: 1000 };
        for difference in [few, many] {
            let (low, high) = difference.interval();
            assert!(low < difference.estimate() && difference.estimate() < high);
        }
        let width = |(low, high): (f64, f64)| high - low;
        assert!(width(many.interval()) < width(few.interval()) / 8.0);
        // By hand for `many`: 1.96 * sqrt(1401 - 600^2/20002) / 20002 = 0.003644.
        assert!((width(many.interval()) / 2.0 - 0.003_644).abs() < 2e-6);
    }

    #[test]
    fn perfect_agreement_still_has_an_interval() {
        let (low, high) = PairedDifference { images: 1000, student_only: 0, teacher_only: 0 }.interval();
        assert!(low < 0.0 && high > 0.0);
    }
}
