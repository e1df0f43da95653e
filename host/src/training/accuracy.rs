//! How often a model was right.

/// How often the largest logit was the label's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Accuracy {
    /// Images classified rightly.
    pub correct: u32,
    /// Images seen.
    pub total: u32,
}

impl Accuracy {
    /// How many predictions are the labels; both of one length.
    pub fn of(predictions: &[u16], labels: &[u16]) -> Self {
        let correct = predictions.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
        Self { correct: correct as u32, total: labels.len() as u32 }
    }

    /// Share of rightly classified images, 0 of none.
    pub fn fraction(self) -> f64 {
        if self.total == 0 { 0.0 } else { f64::from(self.correct) / f64::from(self.total) }
    }
}

impl std::fmt::Display for Accuracy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} %", 100.0 * self.fraction())
    }
}

/// On the images of one class.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClassAccuracy {
    /// The class.
    pub class: String,
    /// On its images.
    pub accuracy: Accuracy,
}
