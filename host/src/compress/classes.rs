//! Whether teacher and images mean the same classes: by their names before anything is evaluated, by the teacher's answers after.

use super::error::Error;
use crate::data::Dataset;
use crate::training::{Confusion, Guessing, Verdict, Weighing};
use crate::{units, wording};

/// Names of classes that a line shows before it says how many more there are.
const NAMES_SHOWN: usize = 5;

/// The images with their classes in the teacher's order. Equal names in another order are put in order; other names are kept,
/// and told, since files of other programs number their classes.
///
/// # Errors
/// [`Error::Mismatch`]: another number of classes.
pub(super) fn in_teachers_order(
    dataset: Dataset,
    teacher: &[String],
    classes: usize,
) -> Result<Dataset, Error> {
    if dataset.classes.len() != classes {
        let named = |count: usize, names: &[String]| match names.len() {
            0 => count.to_string(),
            _ => format!("{count} ({})", units::listed(names, NAMES_SHOWN)),
        };
        return Err(Error::Mismatch {
            what: "classes",
            teacher: named(classes, teacher),
            dataset: named(dataset.classes.len(), &dataset.classes),
        });
    }
    if teacher.is_empty() || teacher == dataset.classes {
        return Ok(dataset);
    }
    if let Some(ordered) = dataset.ordered_as(teacher) {
        tracing::warn!(
            "the teacher has the classes in another order than the data set; by name: {}",
            units::listed(teacher, NAMES_SHOWN)
        );
        return Ok(ordered);
    }
    let differing: Vec<String> = teacher
        .iter()
        .zip(&dataset.classes)
        .filter(|(teacher, dataset)| teacher != dataset)
        .map(|(teacher, dataset)| format!("`{teacher}` is here `{dataset}`"))
        .collect();
    tracing::warn!(
        "the teacher calls {} of {classes} classes otherwise than the data set: {}",
        differing.len(),
        units::listed(&differing, NAMES_SHOWN)
    );
    Ok(dataset)
}

/// Refuses a teacher that does no better than guessing, warns of one that may not, and of classes in another order.
///
/// # Errors
/// [`Error::WeakTeacher`].
pub(super) fn known(
    confusion: &Confusion,
    classes: &[String],
    weighing: Weighing,
) -> Result<Guessing, Error> {
    let guessing = Guessing::of(confusion, weighing);
    let order = confusion.better_order().map(|order| wording::order(&order, classes, NAMES_SHOWN));
    if guessing.verdict() == Verdict::Guesses {
        return Err(Error::WeakTeacher { words: wording::guessing(&guessing), order });
    }
    if let Some(order) = order {
        tracing::warn!("another order of the classes fits the teacher's answers better: {order}");
    }
    if let Some(warning) = wording::weak(&guessing) {
        tracing::warn!("the teacher {warning}");
    }
    Ok(guessing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_guessing_teacher_is_refused_with_the_order_that_would_fit() {
        let classes = names(&["dent", "ok"]);
        let swapped = Confusion::new(&[[1; 20], [0; 20]].concat(), &[[0; 20], [1; 20]].concat(), 2);
        let error = known(&swapped, &classes, Weighing::Images).unwrap_err();
        assert!(error.to_string().contains("right on 0.0 % [0.0, 8.8]"), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("`dent` is what the teacher calls `ok`"), "{hint}");
        let right = Confusion::new(&[[0; 20], [1; 20]].concat(), &[[0; 20], [1; 20]].concat(), 2);
        assert_eq!(known(&right, &classes, Weighing::Images).unwrap().model, 1.0);
    }

    #[test]
    fn classes_of_another_number_are_named() {
        let dataset =
            crate::data::load(&crate::data::DataSpec::bundled(), &crate::data::LoadOptions::default())
                .unwrap();
        let error = in_teachers_order(dataset, &names(&["a", "b"]), 2).unwrap_err().to_string();
        assert!(error.contains("the teacher has 2 (a, b), the data set 10 (T-shirt/top,"), "{error}");
        assert!(error.contains("and 5 more"), "{error}");
    }

    #[test]
    fn classes_are_put_in_the_teachers_order_by_name() {
        let dataset =
            crate::data::load(&crate::data::DataSpec::bundled(), &crate::data::LoadOptions::default())
                .unwrap();
        let mut reversed = dataset.classes.clone();
        reversed.reverse();
        let (before, labels) = (dataset.classes.clone(), dataset.test.labels.clone());
        let ordered = in_teachers_order(dataset, &reversed, 10).unwrap();
        assert_eq!(ordered.classes, reversed);
        for (old, new) in labels.iter().zip(&ordered.test.labels) {
            assert_eq!(before[usize::from(*old)], reversed[usize::from(*new)]);
        }
    }
}
