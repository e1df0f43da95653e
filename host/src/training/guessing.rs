//! A model beside guessing: always naming the most frequent class. Says whether it knows anything, never what to do about it.

use super::accuracy::Accuracy;
use super::confusion::{Confusion, MOST_ERRORS, Weighing};
use super::paired::Z_95;

/// A model's share of right answers and guessing's, on the same images.
#[derive(Clone, Debug, PartialEq)]
pub struct Guessing {
    /// Of the model, 0 to 1.
    pub model: f64,
    /// Of guessing, 0 to 1.
    pub guess: f64,
    /// 95 % interval of [`Self::model`].
    pub interval: (f64, f64),
}

/// What the comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The model knows its classes.
    Knows,
    /// Better than guessing, with too many errors to be trusted.
    Weak,
    /// Guessing is within the interval, and so is a good model: too few images to tell.
    Unsure,
    /// No better than guessing, or so little that even the best that the images allow would be weak.
    Guesses,
}

impl Guessing {
    /// Of a model's answers.
    pub fn of(confusion: &Confusion, weighing: Weighing) -> Self {
        let interval = match weighing {
            Weighing::Images => wilson(confusion.accuracy()),
            Weighing::Classes => {
                // A mean of independent shares: the half-widths add as squares.
                let classes: Vec<Accuracy> =
                    confusion.by_class().into_iter().filter(|it| it.total > 0).collect();
                let count = classes.len().max(1) as f64;
                let ends: Vec<(f64, f64)> = classes.iter().map(|&it| wilson(it)).collect();
                let centre = ends.iter().map(|(low, high)| f64::midpoint(*low, *high)).sum::<f64>() / count;
                let squares: f64 = ends.iter().map(|(low, high)| ((high - low) / 2.0).powi(2)).sum();
                (centre - squares.sqrt() / count, centre + squares.sqrt() / count)
            }
        };
        Self { model: confusion.share(weighing), guess: confusion.guessing(weighing), interval }
    }

    /// Whether the model knows anything.
    pub fn verdict(&self) -> Verdict {
        let weak = |share: f64| 1.0 - share > MOST_ERRORS * (1.0 - self.guess);
        let may_guess = self.interval.0 <= self.guess;
        if self.model <= self.guess || may_guess && weak(self.interval.1) {
            Verdict::Guesses
        } else if may_guess {
            Verdict::Unsure
        } else if weak(self.model) {
            Verdict::Weak
        } else {
            Verdict::Knows
        }
    }
}

/// 95 % interval of a share (Wilson 1927): right also at 0 and 1 and for few images, where the normal one has no width.
fn wilson(accuracy: Accuracy) -> (f64, f64) {
    let (images, share) = (f64::from(accuracy.total), accuracy.fraction());
    if accuracy.total == 0 {
        return (0.0, 1.0);
    }
    let squared = Z_95 * Z_95;
    let centre = (share + squared / (2.0 * images)) / (1.0 + squared / images);
    let half = Z_95 * (share * (1.0 - share) / images + squared / (4.0 * images * images)).sqrt()
        / (1.0 + squared / images);
    (centre - half, centre + half)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model that is right on `correct[c]` of `total[c]` images of class c, and names the next class else.
    fn guessing(correct: &[usize], total: &[usize], weighing: Weighing) -> Guessing {
        let (mut answers, mut labels) = (Vec::new(), Vec::new());
        for (class, (&correct, &total)) in correct.iter().zip(total).enumerate() {
            labels.extend(vec![class as u16; total]);
            answers.extend(vec![class as u16; correct]);
            answers.extend(vec![((class + 1) % 2) as u16; total - correct]);
        }
        Guessing::of(&Confusion::new(&answers, &labels, total.len()), weighing)
    }

    #[test]
    fn two_and_three_classes_can_be_right() {
        let verdict =
            |correct: &[usize], total: &[usize]| guessing(correct, total, Weighing::Images).verdict();
        assert_eq!(verdict(&[9, 9], &[9, 9]), Verdict::Knows, "a perfect teacher of two classes");
        assert_eq!(verdict(&[22, 22, 22], &[36, 36, 36]), Verdict::Knows, "61 % of three classes");
        assert_eq!(verdict(&[5, 5], &[9, 9]), Verdict::Unsure);
        assert_eq!(verdict(&[9, 9], &[18, 18]), Verdict::Guesses);
        assert_eq!(verdict(&[600, 600], &[1000, 1000]), Verdict::Weak);
        assert_eq!(verdict(&[255, 255], &[500, 500]), Verdict::Guesses, "51 % of 1,000 images is chance");
    }
    #[test]
    fn the_frequent_class_alone_is_guessing_however_often_it_is_right() {
        let imbalanced = |weighing| guessing(&[900, 0], &[900, 100], weighing);
        assert_eq!(imbalanced(Weighing::Images).verdict(), Verdict::Guesses);
        assert_eq!(imbalanced(Weighing::Images).guess, 0.9);
        assert_eq!(imbalanced(Weighing::Classes).verdict(), Verdict::Guesses);
        assert_eq!(guessing(&[890, 80], &[900, 100], Weighing::Classes).verdict(), Verdict::Knows);
    }

    #[test]
    fn an_interval_holds_its_share_and_is_open_at_its_ends() {
        let all = guessing(&[9, 9], &[9, 9], Weighing::Images);
        assert_eq!(all.model, 1.0);
        // By hand: (18 + 3.8415 / 2) / (18 + 3.8415) less as much again as to 1.
        assert!((all.interval.0 - 0.8241).abs() < 1e-3 && (all.interval.1 - 1.0).abs() < 1e-9, "{all:?}");
        let classes = guessing(&[9, 9], &[9, 9], Weighing::Classes);
        assert!(classes.interval.0 < all.interval.0 + 0.05 && classes.interval.0 > 0.5, "{classes:?}");
    }
}
