//! What a board will say of a network, guessed from what it has said in this run: a linear model of work and traffic. An
//! ESTIMATE: it chooses widths to try, and the board's own measurement decides.

use super::answer::Measured;
use super::constraint::Resources;
use crate::network::Network;

/// Terms of the model.
const TERMS: usize = 4;
/// How strongly the guess before any measurement holds, in measurements.
const PRIOR: f64 = 0.3;
/// Shares of the terms in that guess: of latency, of memory, of the file.
const LATENCY_PRIOR: [f64; TERMS] = [0.2, 0.6, 0.1, 0.1];
const MEMORY_PRIOR: [f64; TERMS] = [0.0, 0.0, 0.5, 0.5];
const FILE_PRIOR: [f64; TERMS] = [0.02, 0.0, 0.98, 0.0];

/// Nodes, MACs, parameters and activations of a network, as shares of the teacher's.
type Terms = [f64; TERMS];

/// The model, and what it was fitted to.
#[derive(Clone, Debug)]
pub struct CostModel {
    teacher: Terms,
    measured_teacher: Measured,
    seen: Vec<(Terms, Measured)>,
    latency: Terms,
    memory: Terms,
    file: Terms,
}

impl CostModel {
    /// Knows the teacher only.
    pub fn new(teacher: &Network, measured: Measured) -> Self {
        let mut model = Self {
            teacher: raw(teacher),
            measured_teacher: measured,
            seen: Vec::new(),
            latency: LATENCY_PRIOR,
            memory: MEMORY_PRIOR,
            file: FILE_PRIOR,
        };
        model.learn(teacher, measured);
        model
    }

    /// One more measurement.
    pub fn learn(&mut self, network: &Network, measured: Measured) {
        self.seen.push((self.terms(network), measured));
        let teacher = self.measured_teacher;
        let fit = |value: fn(&Measured) -> u64, prior: &Terms| {
            let whole = value(&teacher).max(1) as f64;
            let rows: Vec<(Terms, f64)> =
                self.seen.iter().map(|(terms, measured)| (*terms, value(measured) as f64 / whole)).collect();
            fitted(&rows, prior)
        };
        let latency = fit(|measured| measured.latency_upper_ns, &LATENCY_PRIOR);
        let memory = fit(|measured| measured.model_memory_bytes, &MEMORY_PRIOR);
        let file = fit(|measured| measured.file_bytes, &FILE_PRIOR);
        (self.latency, self.memory, self.file) = (latency, memory, file);
    }

    /// The guess.
    pub fn guess(&self, network: &Network) -> Measured {
        let terms = self.terms(network);
        let of = |weights: &Terms, whole: u64| {
            let share: f64 = weights.iter().zip(&terms).map(|(weight, term)| weight * term).sum();
            (share.max(0.0) * whole as f64) as u64
        };
        let teacher = self.measured_teacher;
        let latency = of(&self.latency, teacher.latency_upper_ns);
        Measured {
            latency_ns: latency,
            latency_upper_ns: latency,
            latency_lower_ns: latency,
            model_memory_bytes: of(&self.memory, teacher.model_memory_bytes),
            file_bytes: of(&self.file, teacher.file_bytes).max(Resources::of(network).least_file_bytes),
            noise: 0.0,
        }
    }

    fn terms(&self, network: &Network) -> Terms {
        let mut terms = raw(network);
        for (term, whole) in terms.iter_mut().zip(self.teacher) {
            *term /= whole.max(1.0);
        }
        terms
    }
}

fn raw(network: &Network) -> Terms {
    let cost = network.cost();
    let activations: f64 = network.shapes().iter().map(|shape| shape.elements() as f64).sum();
    [network.nodes().len() as f64, cost.macs as f64, cost.params as f64, activations]
}

/// Ridge regression towards the prior; each row counts by its relative error, and no weight is negative.
fn fitted(rows: &[(Terms, f64)], prior: &Terms) -> Terms {
    let mut weights = *prior;
    let scaled: Vec<(Terms, f64)> = rows
        .iter()
        .map(|(terms, value)| {
            let size = value.max(1e-3);
            (terms.map(|term| term / size), value / size)
        })
        .collect();
    // Coordinate descent: few terms, a convex problem, and weights stay at 0 or above.
    for _ in 0..200 {
        for index in 0..TERMS {
            let (mut above, mut below) = (PRIOR * prior[index], PRIOR);
            for (terms, value) in &scaled {
                let others: f64 = (0..TERMS)
                    .filter(|other| *other != index)
                    .map(|other| weights[other] * terms[other])
                    .sum();
                above += terms[index] * (value - others);
                below += terms[index] * terms[index];
            }
            weights[index] = (above / below).max(0.0);
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::layer::Input;
    use crate::network::zoo::{self, Architecture};

    fn board(network: &Network) -> Measured {
        let cost = network.cost();
        let latency_ns = 4_000 * network.nodes().len() as u64 + cost.macs / 15;
        Measured {
            latency_ns,
            latency_upper_ns: latency_ns,
            latency_lower_ns: latency_ns,
            model_memory_bytes: cost.weight_bytes + 2 * cost.peak_activation_bytes,
            file_bytes: cost.weight_bytes + 100 * network.nodes().len() as u64,
            noise: 0.01,
        }
    }

    fn vgg(width: f64) -> Network {
        let input = Input { channels: 1, height: 28, width: 28 };
        zoo::build(Architecture::Vgg13, input, 10, width).unwrap()
    }

    #[test]
    fn a_few_measurements_make_good_guesses() {
        let teacher = vgg(0.25);
        let mut model = CostModel::new(&teacher, board(&teacher));
        let wrong = |model: &CostModel, network: &Network| {
            let (guess, truth) = (model.guess(network), board(network));
            guess.latency_ns as f64 / truth.latency_ns as f64 - 1.0
        };
        let unseen = vgg(0.13);
        let before = wrong(&model, &unseen).abs();
        for width in [0.22, 0.18, 0.16, 0.11, 0.08, 0.05] {
            let network = vgg(width);
            model.learn(&network, board(&network));
        }
        let after = wrong(&model, &unseen).abs();
        assert!(after < 0.05 && after < before, "{before} {after}");
        assert!(model.guess(&unseen).file_bytes >= Resources::of(&unseen).least_file_bytes);
    }

    #[test]
    fn the_teacher_itself_is_guessed_right() {
        let teacher = vgg(0.25);
        let guess = CostModel::new(&teacher, board(&teacher)).guess(&teacher);
        let share = guess.latency_ns as f64 / board(&teacher).latency_ns as f64;
        assert!((0.9..1.1).contains(&share), "{share}");
    }
}
