//! A network that genomes apply to, and the students that they make of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::genome::{BaseId, Genome, Shape};
use crate::model_io::Weights;
use crate::network::surgery::{self, Surgery, rounded_width};
use crate::network::{Group, Inheritance, Network, Unit};
use crate::training::inheritance::{importance, inherit, keep_largest};

/// Removals whose results are remembered; beyond that all are forgotten and found again.
const REMEMBERED: usize = 256;
/// Seed of the tensors that a removal leaves without an origin, where only the importance of channels is asked for.
const IMPORTANCE_SEED: u64 = 0;

/// A network with weights to inherit.
pub struct Base {
    /// By what genomes name it.
    pub id: BaseId,
    /// Of the network and its weights: by what a task names it, wherever it is done.
    pub digest: String,
    /// The network, batch norm live.
    pub network: Network,
    /// Its weights.
    pub weights: Arc<Weights>,
    /// Its removable units, in execution order.
    pub units: Vec<Unit>,
    /// Its shrinkable groups, in execution order.
    pub groups: Vec<Group>,
    /// Widths are multiples of this many channels.
    pub channel_multiple: usize,
    removals: RefCell<Removals>,
}

/// By the units that are out.
type Removals = HashMap<BTreeSet<String>, Result<Rc<Removal>, String>>;

/// The base without some units.
struct Removal {
    network: Network,
    inheritance: Inheritance,
    groups: Vec<Group>,
    importance: Vec<Vec<f32>>,
    /// Of each group the base's groups that its channels came from, by name.
    origins: Vec<Vec<String>>,
}

impl Base {
    /// A base; `channel_multiple` is the board's preference.
    pub fn new(id: BaseId, network: Network, weights: Arc<Weights>, channel_multiple: usize) -> Self {
        let digest = digest_of(&network, &weights);
        let units = network.units();
        let groups = network.groups().into_iter().filter(|group| group.shrinkable).collect();
        Self { id, digest, network, weights, units, groups, channel_multiple, removals: RefCell::default() }
    }

    /// The student of a genome, or why there is none.
    ///
    /// # Errors
    /// A unit that does not exist or cannot be removed, a width that cannot be; in words.
    pub fn student(&self, genome: &Genome) -> Result<Surgery, String> {
        let removal = self.removal(&genome.removed)?;
        let kept: Vec<Vec<usize>> = removal
            .groups
            .iter()
            .zip(&removal.importance)
            .zip(&removal.origins)
            .map(|((group, importance), origins)| {
                keep_largest(importance, width_of(group, origins, |name| genome.widths.get(name).copied()))
            })
            .collect();
        let cut = surgery::shrink(&removal.network, &kept).map_err(|infeasible| infeasible.to_string())?;
        Ok(Surgery { network: cut.network, inheritance: cut.inheritance.after(&removal.inheritance) })
    }

    /// The network of a genome alone: what it costs does not depend on which channels are kept.
    ///
    /// # Errors
    /// As [`Self::student`].
    pub fn network_of(&self, genome: &Genome) -> Result<Network, String> {
        let removal = self.removal(&genome.removed)?;
        let kept: Vec<Vec<usize>> = removal
            .groups
            .iter()
            .zip(&removal.origins)
            .map(|(group, origins)| {
                (0..width_of(group, origins, |name| genome.widths.get(name).copied())).collect()
            })
            .collect();
        surgery::shrink(&removal.network, &kept)
            .map(|cut| cut.network)
            .map_err(|infeasible| infeasible.to_string())
    }

    /// The genome of a shape at a common scale of its factors; a width never exceeds the base's.
    pub fn scaled(&self, shape: &Shape, scale: f64) -> Genome {
        let width = |group: &Group| {
            let factor = shape.factor(&group.name) * scale;
            (group.name.clone(), rounded_width(group.channels, factor, self.channel_multiple))
        };
        let differs = |(name, width): &(String, usize)| {
            self.groups.iter().any(|group| group.name == *name && group.channels != *width)
        };
        let widths: BTreeMap<String, usize> = self.groups.iter().map(width).filter(differs).collect();
        self.tidied(Genome { base: shape.base.clone(), removed: shape.removed.clone(), widths })
    }

    /// The same candidate without widths of groups that went with their units: one student, one genome.
    pub fn tidied(&self, genome: Genome) -> Genome {
        let Ok(removal) = self.removal(&genome.removed) else { return genome };
        let is_left = |name: &String| removal.origins.iter().flatten().any(|origin| origin == name);
        let widths = genome.widths.into_iter().filter(|(name, _)| is_left(name)).collect();
        Genome { widths, ..genome }
    }

    /// Whether the network without these units can be built.
    pub fn can_remove(&self, removed: &BTreeSet<String>) -> bool {
        self.removal(removed).is_ok()
    }

    /// Width of a group in a candidate.
    pub fn width(&self, genome: &Genome, group: &Group) -> usize {
        genome.widths.get(&group.name).copied().unwrap_or(group.channels)
    }

    fn removal(&self, removed: &BTreeSet<String>) -> Result<Rc<Removal>, String> {
        if let Some(known) = self.removals.borrow().get(removed) {
            return known.clone();
        }
        let made = self.remove(removed).map(Rc::new);
        let mut removals = self.removals.borrow_mut();
        if removals.len() >= REMEMBERED {
            removals.clear();
        }
        removals.insert(removed.clone(), made.clone());
        made
    }

    fn remove(&self, removed: &BTreeSet<String>) -> Result<Removal, String> {
        if let Some(unknown) = removed.iter().find(|name| !self.units.iter().any(|unit| unit.name == **name))
        {
            return Err(format!("unit `{unknown}`: there is none of that name"));
        }
        let (network, inheritance) = if removed.is_empty() {
            (self.network.clone(), Inheritance::identity(&self.network))
        } else {
            let keep: Vec<bool> = self.units.iter().map(|unit| !removed.contains(&unit.name)).collect();
            let done = surgery::remove(&self.network, &keep).map_err(|infeasible| infeasible.to_string())?;
            (done.network, done.inheritance)
        };
        let groups = network.groups();
        let (weights, _) = inherit(&network, &inheritance, &self.weights, IMPORTANCE_SEED);
        let importance = importance(&network, &groups, &weights);
        let origins = groups.iter().map(|group| self.origins(&network, group)).collect();
        Ok(Removal { network, inheritance, groups, importance, origins })
    }

    /// Names of the base's groups whose producers write this group: node names survive surgery.
    fn origins(&self, network: &Network, group: &Group) -> Vec<String> {
        let names: Vec<&str> =
            group.producers.iter().map(|&node| network.nodes()[node].name.as_str()).collect();
        let writes = |origin: &&Group| {
            origin.producers.iter().any(|&node| names.contains(&self.network.nodes()[node].name.as_str()))
        };
        self.groups.iter().filter(writes).map(|origin| origin.name.clone()).collect()
    }
}

fn digest_of(network: &Network, weights: &Weights) -> String {
    let mut hash = Sha256::new();
    hash.update(network.digest().as_bytes());
    hash.update(weights.digest().as_bytes());
    hex::encode(hash.finalize())
}

/// The narrowest of what its origins say; a group that was coupled to what cannot be cut keeps its channels.
fn width_of(group: &Group, origins: &[String], width: impl Fn(&str) -> Option<usize>) -> usize {
    if !group.shrinkable {
        return group.channels;
    }
    let narrowest = origins.iter().filter_map(|name| width(name)).min();
    narrowest.unwrap_or(group.channels).clamp(1, group.channels.max(1))
}
