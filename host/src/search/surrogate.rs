//! A model of quality by structure, fitted to all looks of the run: what one noisy look cannot tell, many together can.
//!
//! A Gaussian process (Rasmussen and Williams 2006, algorithm 2.1) over the logarithms of widths and costs and over which layers
//! are gone; looks without training are one more coordinate. What it models is the logarithm of the error, so that a tenth of
//! the errors counts alike among good students and bad ones. Length, linearity and noise are those of the likeliest model of a
//! few (their section 5.4.1). It ranks what is trained next, and what goes to the finale; rewards are looks themselves.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

use super::answer::Rung;
use super::record::Trial;
use crate::network::{Network, Node, Role};

/// Looks that a model needs; with fewer, candidates are ranked by their own.
const LEAST_LOOKS: usize = 6;
/// Looks that a model takes, the newest: its cost grows with their cube.
const MOST_LOOKS: usize = 200;
/// Weights of the costs, and of the look without training, beside the structure's own coordinates.
const COST_WEIGHT: f64 = 2.0;
const UNTRAINED_WEIGHT: f64 = 2.0;
/// Least share of errors that is told from none.
const LEAST_ERROR: f64 = 1e-3;
/// How much a structure that little is known about is worth trying, in deviations.
const EXPLORATION: f64 = 0.3;

/// Kernels that are tried.
const LENGTHS: [f64; 3] = [0.5, 1.0, 2.0];
const LINEAR_SHARES: [f64; 3] = [0.1, 0.5, 0.9];
const NOISES: [f64; 4] = [0.02, 0.06, 0.2, 0.6];

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
    /// The teacher's costs.
    costs: [f64; COSTS],
    looks: Vec<Look>,
    /// Whether looks without training say something about trained ones.
    untrained_ranks: bool,
    fitted: Option<Fitted>,
}

/// MACs and parameters.
const COSTS: usize = 2;

#[derive(Debug)]
struct Fitted {
    kernel: Kernel,
    centre: Vec<f64>,
    scale: Vec<f64>,
    places: Vec<Vec<f64>>,
    weights: DVector<f64>,
    cholesky: Cholesky<f64, Dyn>,
    mean: f64,
    deviation: f64,
}

/// Covariance of two places, in units of the looks' own variance.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    /// In units of the square root of the number of coordinates.
    length: f64,
    /// Share of the linear part; the rest is smooth.
    linear: f64,
    /// Variance of one look.
    noise: f64,
}

impl Surrogate {
    /// Knows nothing yet.
    pub fn new(teacher: &Network) -> Self {
        Self { layers: layers(teacher), costs: costs(teacher), untrained_ranks: true, ..Self::default() }
    }

    /// One more trial, if it was looked at.
    pub fn see(&mut self, trial: &Trial, network: &Network) {
        if let Some(quality) = trial.quality() {
            self.look(&trial.lineage, trial.rung, network, quality);
        }
    }

    /// One more look: `quality` from 0 to 1 of a candidate at a rung.
    pub fn look(&mut self, lineage: &str, rung: Rung, network: &Network, quality: f64) {
        self.looks.push(Look { lineage: lineage.to_owned(), rung, place: self.place(network), quality });
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
        let values: Vec<f64> = looks.iter().map(|look| figure(look.quality)).collect();
        self.fitted = Fitted::likeliest(&places, &values);
    }

    /// Quality that the model expects of a trial's structure; of one that it cannot judge the trial's own.
    pub fn quality_of(&self, trial: &Trial) -> Option<f64> {
        let own = trial.quality()?;
        let place = self.looks.iter().find(|look| look.lineage == trial.lineage).map(|look| &look.place);
        match (&self.fitted, place) {
            (Some(fitted), Some(place)) => {
                Some(quality(fitted.expected(&self.with_untrained(place, &trial.lineage)).0))
            }
            _ => Some(own),
        }
    }

    /// What a network is worth trying for: the quality that the model expects, and a part of what it does not know; 0 where it
    /// knows nothing.
    pub fn promise_of(&self, network: &Network) -> f64 {
        self.of_network(network)
            .map_or(0.0, |(expected, deviation)| quality(expected + EXPLORATION * deviation))
    }

    /// Quality that the model expects of a network; 0 where it knows nothing.
    pub fn expected_of(&self, network: &Network) -> f64 {
        self.of_network(network).map_or(0.0, |(expected, _)| quality(expected))
    }

    /// Expected figure of a network and its deviation; `None` before a model was fitted.
    fn of_network(&self, network: &Network) -> Option<(f64, f64)> {
        Some(self.fitted.as_ref()?.expected(&self.with_untrained(&self.place(network), "")))
    }

    /// Coordinates of a network: logarithms of widths relative to the teacher's, not a number for layers that are gone; then
    /// ones for those; then logarithms of costs.
    fn place(&self, network: &Network) -> Vec<f64> {
        let own = layers(network);
        let of = |name: &str| own.iter().find(|(other, _)| other == name).map(|(_, width)| *width);
        let widths =
            self.layers.iter().map(|(name, whole)| of(name).map_or(f64::NAN, |width| (width / whole).ln()));
        let gone = self.layers.iter().map(|(name, _)| if of(name).is_some() { 0.0 } else { 1.0 });
        let costs = costs(network).into_iter().zip(self.costs).map(|(cost, whole)| (cost / whole).ln());
        widths.chain(gone).chain(costs).collect()
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

/// What is modelled of a quality: minus the logarithm of what it lacks.
fn figure(quality: f64) -> f64 {
    -(1.0 - quality).max(LEAST_ERROR).ln()
}

/// The other way round.
fn quality(figure: f64) -> f64 {
    1.0 - (-figure).exp()
}

impl Fitted {
    /// The likeliest of all kernels; `None` when no matrix can be factored.
    fn likeliest(places: &[Vec<f64>], values: &[f64]) -> Option<Self> {
        let mut best: Option<(Self, f64)> = None;
        for length in LENGTHS {
            for linear in LINEAR_SHARES {
                for noise in NOISES {
                    let Some((fitted, likelihood)) =
                        Self::to(places, values, Kernel { length, linear, noise })
                    else {
                        continue;
                    };
                    if best.as_ref().is_none_or(|(_, known)| likelihood > *known) {
                        best = Some((fitted, likelihood));
                    }
                }
            }
        }
        best.map(|(fitted, _)| fitted)
    }

    /// With its log marginal likelihood; `None` when the matrix cannot be factored.
    fn to(places: &[Vec<f64>], values: &[f64], kernel: Kernel) -> Option<(Self, f64)> {
        let dimensions = places.first()?.len();
        let centre: Vec<f64> =
            (0..dimensions).map(|index| mean_of(places.iter().map(|place| place[index]))).collect();
        let scale: Vec<f64> = (0..dimensions)
            .map(|index| {
                let variance = mean_of(places.iter().map(|place| (place[index] - centre[index]).powi(2)));
                let weight = match dimensions - index {
                    1 => UNTRAINED_WEIGHT,
                    place if place <= 1 + COSTS => COST_WEIGHT,
                    _ => 1.0,
                };
                if variance > 1e-12 { weight / variance.sqrt() } else { 0.0 }
            })
            .collect();
        let mean = mean_of(values.iter().copied());
        let variance = mean_of(values.iter().map(|value| (value - mean).powi(2)));
        let deviation = variance.sqrt().max(1e-6);
        let places: Vec<Vec<f64>> = places.iter().map(|place| scaled(place, &centre, &scale)).collect();
        let matrix = DMatrix::from_fn(places.len(), places.len(), |row, column| {
            kernel.covariance(&places[row], &places[column]) + if row == column { kernel.noise } else { 0.0 }
        });
        let cholesky = Cholesky::new(matrix)?;
        let targets =
            DVector::from_iterator(values.len(), values.iter().map(|value| (value - mean) / deviation));
        let weights = cholesky.solve(&targets);
        let log_determinant: f64 = cholesky.l_dirty().diagonal().iter().map(|entry| entry.ln()).sum();
        let likelihood = -0.5 * targets.dot(&weights) - log_determinant;
        Some((Self { kernel, centre, scale, places, weights, cholesky, mean, deviation }, likelihood))
    }

    /// Expected figure at a place, and its deviation.
    fn expected(&self, place: &[f64]) -> (f64, f64) {
        let place = scaled(place, &self.centre, &self.scale);
        let near = DVector::from_iterator(
            self.places.len(),
            self.places.iter().map(|other| self.kernel.covariance(&place, other)),
        );
        let expected = self.mean + self.deviation * near.dot(&self.weights);
        let known = near.dot(&self.cholesky.solve(&near));
        let variance = (self.kernel.covariance(&place, &place) - known).max(0.0);
        (expected, self.deviation * variance.sqrt())
    }
}

/// Of those that are numbers; 0 where none is.
fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values
        .filter(|value| !value.is_nan())
        .fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / f64::max(count, 1.0)
}

/// What is no number is in the middle.
fn scaled(place: &[f64], centre: &[f64], scale: &[f64]) -> Vec<f64> {
    let one = |((value, centre), scale): ((&f64, &f64), &f64)| {
        if value.is_nan() { 0.0 } else { (value - centre) * scale }
    };
    place.iter().zip(centre).zip(scale).map(one).collect()
}

impl Kernel {
    fn covariance(self, a: &[f64], b: &[f64]) -> f64 {
        let dimensions = a.len().max(1) as f64;
        let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
        let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
        let smooth = (-distance / (2.0 * dimensions * self.length.powi(2))).exp();
        self.linear * product / dimensions + (1.0 - self.linear) * smooth
    }
}

/// Convolutions and linear layers with what they write.
fn layers(network: &Network) -> Vec<(String, f64)> {
    let written = |(node, shape): (&Node, &crate::network::Shape)| {
        let counts = node.parameters().iter().any(|parameter| parameter.role == Role::Weight);
        counts.then(|| (node.name.clone(), shape.channels().max(1) as f64))
    };
    network.nodes().iter().zip(network.shapes()).filter_map(written).collect()
}

fn costs(network: &Network) -> [f64; COSTS] {
    let cost = network.cost();
    [cost.macs.max(1) as f64, cost.params.max(1) as f64]
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
            |place: &[f64]| 2.0 - 0.2 * (place[0] - 0.3).powi(2) - 0.3 * place[1].abs() + 0.1 * place[2];
        let places: Vec<Vec<f64>> =
            (0..60).map(|_| vec![normal(), normal(), normal(), 0.0, 0.0, 0.0]).collect();
        let looks: Vec<f64> = places.iter().map(|place| truth(place) + 0.3 * normal()).collect();
        let fitted = Fitted::likeliest(&places, &looks).unwrap();
        let correlation = |value: &dyn Fn(usize) -> f64| {
            let pairs: Vec<(f64, f64)> =
                (0..places.len()).map(|index| (value(index), truth(&places[index]))).collect();
            rank_correlation(&pairs).unwrap()
        };
        let (alone, together) =
            (correlation(&|index| looks[index]), correlation(&|index| fitted.expected(&places[index]).0));
        assert!(together > alone + 0.05, "{alone} {together}");
        // Far from all looks it knows little.
        let deviation = |place: &[f64]| fitted.expected(place).1;
        assert!(deviation(&[9.0, 9.0, 9.0, 0.0, 0.0, 0.0]) > 2.0 * deviation(&places[0]));
    }

    #[test]
    fn exact_looks_are_believed() {
        let places: Vec<Vec<f64>> =
            (0..30).map(|index| vec![f64::from(index) / 10.0, 0.0, 0.0, 0.0]).collect();
        let looks: Vec<f64> = places.iter().map(|place| (2.0 * place[0]).sin()).collect();
        let fitted = Fitted::likeliest(&places, &looks).unwrap();
        assert!(fitted.kernel.noise <= 0.02, "{:?}", fitted.kernel);
        for (place, look) in places.iter().zip(&looks) {
            assert!((fitted.expected(place).0 - look).abs() < 0.15, "{place:?}");
        }
    }

    #[test]
    fn a_figure_is_a_quality_written_otherwise() {
        for quality_of_a_student in [0.0, 0.5, 0.9, 0.99] {
            assert!((quality(figure(quality_of_a_student)) - quality_of_a_student).abs() < 1e-12);
        }
        assert!(figure(1.0).is_finite() && figure(1.5).is_finite());
    }
}
