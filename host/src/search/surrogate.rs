//! A model of quality by structure, fitted to all looks of the run: what one noisy look cannot tell, many together can.
//!
//! A Gaussian process (Rasmussen and Williams 2006, algorithm 2.1) with a linear and a smooth kernel over the logarithms of
//! widths and over which layers are gone; looks without training are one more coordinate. It ranks what is trained next, and
//! what goes to the finale; rewards are looks themselves.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

use super::base::Base;
use super::genome::{Genome, Shape};
use super::laboratory::Rung;
use super::record::Trial;
use crate::network::Network;

/// Variances of the linear and the smooth kernel and of a look's noise, in units of the looks' own variance.
const LINEAR: f64 = 0.5;
const SMOOTH: f64 = 0.5;
const NOISE: f64 = 0.08;
/// Looks that a model needs; with fewer, candidates are ranked by their own.
const LEAST_LOOKS: usize = 6;
/// Looks that a model takes, the newest: its cost grows with their cube.
const MOST_LOOKS: usize = 300;
/// Weight of the look without training beside the structure's own coordinates.
const UNTRAINED_WEIGHT: f64 = 2.0;

/// What a look says of one structure.
#[derive(Clone, Debug)]
struct Look {
    lineage: String,
    rung: Rung,
    place: Vec<f64>,
    quality: f64,
}

/// The fitted model, or what there is to fit.
#[derive(Debug, Default)]
pub struct Surrogate {
    /// Names of the teacher's convolutions and linear layers, with their widths.
    layers: Vec<(String, f64)>,
    looks: Vec<Look>,
    /// Whether looks without training say something about trained ones.
    untrained_ranks: bool,
    fitted: Option<Fitted>,
}

#[derive(Debug)]
struct Fitted {
    scale: Vec<f64>,
    places: Vec<Vec<f64>>,
    weights: DVector<f64>,
    cholesky: Cholesky<f64, Dyn>,
    mean: f64,
    deviation: f64,
}

impl Surrogate {
    /// Knows nothing yet.
    pub fn new(teacher: &Network) -> Self {
        Self { layers: layers(teacher), untrained_ranks: true, ..Self::default() }
    }

    /// One more trial, if it was looked at.
    pub fn see(&mut self, trial: &Trial, network: &Network) {
        let Some(quality) = trial.quality() else { return };
        let look =
            Look { lineage: trial.lineage.clone(), rung: trial.rung, place: self.place(network), quality };
        self.looks.push(look);
    }

    /// Fits the model to the looks at this rung. `untrained_ranks`: whether looks without training are worth a coordinate.
    pub fn fit(&mut self, rung: Rung, untrained_ranks: bool) {
        self.untrained_ranks = untrained_ranks;
        let looks: Vec<&Look> = self.looks.iter().filter(|look| look.rung == rung).collect();
        let looks = &looks[looks.len().saturating_sub(MOST_LOOKS)..];
        if looks.len() < LEAST_LOOKS {
            self.fitted = None;
            return;
        }
        let places: Vec<Vec<f64>> =
            looks.iter().map(|look| self.with_untrained(&look.place, &look.lineage)).collect();
        let values: Vec<f64> = looks.iter().map(|look| look.quality).collect();
        self.fitted = Fitted::to(&places, &values);
    }

    /// Quality that the model expects of a trial's structure; of one that it cannot judge the trial's own.
    pub fn quality_of(&self, trial: &Trial) -> Option<f64> {
        let own = trial.quality()?;
        let place = self.looks.iter().find(|look| look.lineage == trial.lineage).map(|look| &look.place);
        match (&self.fitted, place) {
            (Some(fitted), Some(place)) => {
                Some(fitted.expected(&self.with_untrained(place, &trial.lineage)).0)
            }
            _ => Some(own),
        }
    }

    /// Quality that the model expects of a shape's widths, whatever their common scale; 0 where it knows nothing.
    pub fn quality_of_shape(&self, base: &Base, shape: &Shape) -> f64 {
        let Some(fitted) = &self.fitted else { return 0.0 };
        // The scale is what the limits say: about that of the looks.
        let scale = self.typical_scale(base, shape);
        let genome: Genome = base.scaled(shape, scale);
        let Ok(network) = base.network_of(&genome) else { return f64::NEG_INFINITY };
        let place = self.place(&network);
        let (expected, deviation) = fitted.expected(&self.with_untrained(&place, ""));
        expected + EXPLORATION * deviation
    }

    /// Whether a model was fitted.
    pub fn is_fitted(&self) -> bool {
        self.fitted.is_some()
    }

    /// The scale at which a shape has as many parameters as the looks have on average.
    fn typical_scale(&self, base: &Base, shape: &Shape) -> f64 {
        let looked = self.looks.iter().rev().take(LEAST_LOOKS);
        let (sum, count) = looked.fold((0.0, 0.0), |(sum, count), look| {
            (sum + look.place.iter().take(self.layers.len()).sum::<f64>(), count + 1.0)
        });
        let wanted = sum / f64::max(count, 1.0) / self.layers.len().max(1) as f64;
        let factors = base.groups.iter().map(|group| shape.factor(&group.name).ln());
        let mean = factors.sum::<f64>() / base.groups.len().max(1) as f64;
        (wanted - mean).exp()
    }

    /// Coordinates of a network: logarithms of widths relative to the teacher's, then ones for layers that are gone.
    fn place(&self, network: &Network) -> Vec<f64> {
        let own = layers(network);
        let of = |name: &str| own.iter().find(|(other, _)| other == name).map(|(_, width)| *width);
        let widths =
            self.layers.iter().map(|(name, whole)| of(name).map_or(0.0, |width| (width / whole).ln()));
        let gone = self.layers.iter().map(|(name, _)| if of(name).is_some() { 0.0 } else { 1.0 });
        widths.chain(gone).collect()
    }

    /// The place with what a look without training said as its last coordinate.
    fn with_untrained(&self, place: &[f64], lineage: &str) -> Vec<f64> {
        let of = |look: &&Look| look.rung == Rung::Inherited;
        let untrained = || self.looks.iter().filter(of);
        let mut all = place.to_vec();
        if self.untrained_ranks && untrained().next().is_some() {
            let own = untrained().find(|look| look.lineage == lineage).map(|look| look.quality);
            let count = untrained().count() as f64;
            let mean = untrained().map(|look| look.quality).sum::<f64>() / count;
            all.push(own.unwrap_or(mean));
        } else {
            all.push(0.0);
        }
        all
    }
}

/// How much a structure that little is known about is worth trying, in deviations.
const EXPLORATION: f64 = 0.3;

impl Fitted {
    /// `None` when the matrix cannot be factored.
    fn to(places: &[Vec<f64>], values: &[f64]) -> Option<Self> {
        let count = places.len() as f64;
        let dimensions = places.first()?.len();
        let scale: Vec<f64> = (0..dimensions)
            .map(|index| {
                let mean = places.iter().map(|place| place[index]).sum::<f64>() / count;
                let variance = places.iter().map(|place| (place[index] - mean).powi(2)).sum::<f64>() / count;
                let weight = if index + 1 == dimensions { UNTRAINED_WEIGHT } else { 1.0 };
                if variance > 1e-12 { weight / variance.sqrt() } else { 0.0 }
            })
            .collect();
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let deviation = variance.sqrt().max(1e-6);
        let places: Vec<Vec<f64>> = places.iter().map(|place| scaled(place, &scale)).collect();
        let kernel = DMatrix::from_fn(places.len(), places.len(), |row, column| {
            covariance(&places[row], &places[column]) + if row == column { NOISE } else { 0.0 }
        });
        let cholesky = Cholesky::new(kernel)?;
        let targets =
            DVector::from_iterator(values.len(), values.iter().map(|value| (value - mean) / deviation));
        let weights = cholesky.solve(&targets);
        Some(Self { scale, places, weights, cholesky, mean, deviation })
    }

    /// Expected quality at a place, and its deviation.
    fn expected(&self, place: &[f64]) -> (f64, f64) {
        let place = scaled(place, &self.scale);
        let near = DVector::from_iterator(
            self.places.len(),
            self.places.iter().map(|other| covariance(&place, other)),
        );
        let expected = self.mean + self.deviation * near.dot(&self.weights);
        let known = near.dot(&self.cholesky.solve(&near));
        let variance = (covariance(&place, &place) - known).max(0.0);
        (expected, self.deviation * variance.sqrt())
    }
}

fn scaled(place: &[f64], scale: &[f64]) -> Vec<f64> {
    place.iter().zip(scale).map(|(value, scale)| value * scale).collect()
}

fn covariance(a: &[f64], b: &[f64]) -> f64 {
    let dimensions = a.len().max(1) as f64;
    let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    LINEAR * product / dimensions + SMOOTH * (-distance / (2.0 * dimensions)).exp()
}

/// Convolutions and linear layers with what they write.
fn layers(network: &Network) -> Vec<(String, f64)> {
    let written = |(node, shape): (&crate::network::Node, &crate::network::Shape)| {
        let counts = node.parameters().iter().any(|parameter| parameter.role == crate::network::Role::Weight);
        counts.then(|| (node.name.clone(), shape.channels().max(1) as f64))
    };
    network.nodes().iter().zip(network.shapes()).filter_map(written).collect()
}

/// Spearman's rank correlation; `None` for fewer than two pairs, or without any difference. Equal values share a rank.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let ranks = |values: Vec<f64>| -> Vec<f64> {
        let rank = |value: &f64| {
            let below = values.iter().filter(|other| *other < value).count() as f64;
            let equal = values.iter().filter(|other| *other == value).count() as f64;
            below + (equal - 1.0) / 2.0
        };
        values.iter().map(rank).collect()
    };
    let (left, right) =
        (ranks(pairs.iter().map(|pair| pair.0).collect()), ranks(pairs.iter().map(|pair| pair.1).collect()));
    let mean = (pairs.len() as f64 - 1.0) / 2.0;
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let spread = (sum(&left, &left) * sum(&right, &right)).sqrt();
    (pairs.len() > 1 && spread > 0.0).then(|| sum(&left, &right) / spread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::random;

    #[test]
    fn ranks_and_not_values_are_correlated() {
        let pairs = [(1.0, 10.0), (2.0, 20.0), (3.0, 1e9)];
        assert_eq!(rank_correlation(&pairs), Some(1.0));
        assert_eq!(rank_correlation(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), Some(-1.0));
        assert_eq!(rank_correlation(&[(1.0, 3.0)]), None);
        assert_eq!(rank_correlation(&[(1.0, 3.0), (1.0, 4.0)]), None);
        // By hand: ranks 1 2 3 4 and 2 1 4 3.
        let mixed = rank_correlation(&[(1.0, 2.0), (2.0, 1.0), (3.0, 4.0), (4.0, 3.0)]).unwrap();
        assert!((mixed - 0.6).abs() < 1e-12, "{mixed}");
    }

    #[test]
    fn noisy_looks_together_rank_better_than_alone() {
        let mut rng = random::stream(3, "surrogate");
        let mut normal = || crate::search::mutation::normal(&mut rng);
        let truth =
            |place: &[f64]| 0.9 - 0.02 * (place[0] - 0.3).powi(2) - 0.03 * place[1].abs() + 0.01 * place[2];
        let places: Vec<Vec<f64>> = (0..60).map(|_| vec![normal(), normal(), normal(), 0.0]).collect();
        let looks: Vec<f64> = places.iter().map(|place| truth(place) + 0.03 * normal()).collect();
        let fitted = Fitted::to(&places, &looks).unwrap();
        let correlation = |value: &dyn Fn(usize) -> f64| {
            let pairs: Vec<(f64, f64)> =
                (0..places.len()).map(|index| (value(index), truth(&places[index]))).collect();
            rank_correlation(&pairs).unwrap()
        };
        let (alone, together) =
            (correlation(&|index| looks[index]), correlation(&|index| fitted.expected(&places[index]).0));
        assert!(together > alone + 0.05, "{alone} {together}");
        // Far from all looks it knows little.
        let (near, far) = (fitted.expected(&places[0]).1, fitted.expected(&[9.0, 9.0, 9.0, 0.0]).1);
        assert!(far > 2.0 * near, "{near} {far}");
    }
}
