//! Which class was taken for which: accuracy by class, accuracy that weighs classes alike, and the order of classes that
//! fits the answers best. Pure counting.

use serde::{Deserialize, Serialize};

use super::accuracy::{Accuracy, ClassAccuracy};
use super::paired::PairedDifference;

/// A model that makes more than this share of guessing's errors is unlikely to be fed what it was trained on: a model of ten
/// classes that sees images in another normalisation keeps some 30 %, which is 78 % of guessing's errors.
pub(super) const MOST_ERRORS: f64 = 2.0 / 3.0;

/// Images by label and answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `[label][answer]`, row-major.
    counts: Vec<u32>,
}

/// What an accuracy is an average over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighing {
    /// Images alike: a frequent class counts more.
    #[default]
    Images,
    /// Classes alike, however few images one has.
    Classes,
}

impl Confusion {
    /// Of answers to images; labels and answers are below `classes`, and what is not is left out.
    pub fn new(answers: &[u16], labels: &[u16], classes: usize) -> Self {
        let mut counts = vec![0; classes * classes];
        for (&answer, &label) in answers.iter().zip(labels) {
            let (label, answer) = (usize::from(label), usize::from(answer));
            if label < classes && answer < classes {
                counts[label * classes + answer] += 1;
            }
        }
        Self { classes, counts }
    }

    /// Of these images and those, of as many classes.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self
    }

    fn count(&self, label: usize, answer: usize) -> u32 {
        self.counts[label * self.classes + answer]
    }

    /// One accuracy a class, in label order.
    pub fn by_class(&self) -> Vec<Accuracy> {
        (0..self.classes)
            .map(|label| Accuracy {
                correct: self.count(label, label),
                total: (0..self.classes).map(|answer| self.count(label, answer)).sum(),
            })
            .collect()
    }

    /// The same with the names of the classes, in label order.
    pub fn named(&self, classes: &[String]) -> Vec<ClassAccuracy> {
        let named = classes.iter().zip(self.by_class());
        named.map(|(class, accuracy)| ClassAccuracy { class: class.clone(), accuracy }).collect()
    }

    /// Over all images.
    pub fn accuracy(&self) -> Accuracy {
        let add = |sum: Accuracy, class: Accuracy| Accuracy {
            correct: sum.correct + class.correct,
            total: sum.total + class.total,
        };
        self.by_class().into_iter().fold(Accuracy::default(), add)
    }

    /// Share of right answers, 0 to 1; classes without images do not count.
    pub fn share(&self, weighing: Weighing) -> f64 {
        match weighing {
            Weighing::Images => self.accuracy().fraction(),
            Weighing::Classes => {
                let seen: Vec<f64> =
                    self.by_class().iter().filter(|it| it.total > 0).map(|it| it.fraction()).collect();
                if seen.is_empty() { 0.0 } else { seen.iter().sum::<f64>() / seen.len() as f64 }
            }
        }
    }

    /// Share of right answers of always naming the most frequent class, 0 to 1.
    pub fn guessing(&self, weighing: Weighing) -> f64 {
        let classes = self.by_class();
        let most = classes.iter().map(|it| it.total).max().unwrap_or(0);
        let seen = classes.iter().filter(|it| it.total > 0).count().max(1);
        match weighing {
            Weighing::Images => f64::from(most) / f64::from(self.accuracy().total.max(1)),
            Weighing::Classes => 1.0 / seen as f64,
        }
    }

    /// What each label is called by the answers, if the answers fit another order of the classes clearly better than their own:
    /// label -> answer. Chosen greedily by counts; better by more than chance explains (95 %), and good enough to be one that a
    /// model knows.
    pub fn better_order(&self) -> Option<Vec<usize>> {
        let mut pairs: Vec<(usize, usize)> = (0..self.classes)
            .flat_map(|label| (0..self.classes).map(move |answer| (label, answer)))
            .filter(|&(label, answer)| self.count(label, answer) > 0)
            .collect();
        // Of equal counts the identity first: it is the order that was claimed.
        pairs.sort_by_key(|&(label, answer)| {
            (std::cmp::Reverse(self.count(label, answer)), label != answer, label, answer)
        });
        let mut order: Vec<Option<usize>> = vec![None; self.classes];
        let mut taken = vec![false; self.classes];
        for (label, answer) in pairs {
            if order[label].is_none() && !taken[answer] {
                order[label] = Some(answer);
                taken[answer] = true;
            }
        }
        let mut free = (0..self.classes).filter(|&answer| !taken[answer]);
        let order: Vec<usize> =
            order.into_iter().map(|answer| answer.or_else(|| free.next()).unwrap_or(0)).collect();
        let moved = |label: &usize| order[*label] != *label;
        let difference = PairedDifference {
            images: self.accuracy().total,
            student_only: (0..self.classes).filter(moved).map(|it| self.count(it, order[it])).sum(),
            teacher_only: (0..self.classes).filter(moved).map(|it| self.count(it, it)).sum(),
        };
        let right = self.accuracy().correct + difference.student_only - difference.teacher_only;
        let errors = 1.0 - f64::from(right) / f64::from(difference.images.max(1));
        // Among so many orders one fits even random answers a little better.
        let knows = errors <= MOST_ERRORS * (1.0 - self.guessing(Weighing::Images));
        (knows && difference.interval().0 > 0.0).then_some(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rows[label][answer]` images.
    fn confusion<const N: usize>(rows: [[u32; N]; N]) -> Confusion {
        Confusion { classes: N, counts: rows.concat() }
    }

    #[test]
    fn a_lost_class_is_seen_by_class_and_when_classes_weigh_alike() {
        let confusion = confusion([[600, 0, 0], [0, 30, 0], [30, 0, 0]]);
        assert_eq!(confusion.accuracy(), Accuracy { correct: 630, total: 660 });
        assert_eq!(confusion.by_class()[2], Accuracy { correct: 0, total: 30 });
        assert!((confusion.share(Weighing::Images) - 630.0 / 660.0).abs() < 1e-12);
        assert!((confusion.share(Weighing::Classes) - 2.0 / 3.0).abs() < 1e-12);
        assert!((confusion.guessing(Weighing::Images) - 600.0 / 660.0).abs() < 1e-12);
        assert!((confusion.guessing(Weighing::Classes) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn answers_are_counted_where_they_belong() {
        let counted = Confusion::new(&[0, 1, 1, 7], &[0, 0, 1, 1], 2);
        assert_eq!(counted, confusion([[1, 1], [0, 1]]));
    }

    #[test]
    fn swapped_classes_are_found_and_mistakes_are_not_taken_for_them() {
        assert_eq!(confusion([[2, 0, 48], [0, 50, 0], [47, 1, 2]]).better_order(), Some(vec![2, 1, 0]));
        assert_eq!(confusion([[40, 5, 5], [5, 40, 5], [5, 5, 40]]).better_order(), None);
        // A class that is mostly mistaken for another is a weak class, not another order.
        assert_eq!(confusion([[20, 30], [5, 45]]).better_order(), None);
        assert_eq!(confusion([[3, 4], [4, 3]]).better_order(), None, "eight against six says nothing");
        assert_eq!(confusion([[0, 0], [0, 0]]).better_order(), None);
        let random = confusion([[10, 30, 40, 20], [40, 10, 20, 30], [20, 40, 10, 30], [30, 20, 30, 20]]);
        assert_eq!(random.better_order(), None, "some order fits answers that mean nothing");
    }
}
