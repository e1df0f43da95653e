//! Where each tensor of a student comes from: a slice of one teacher tensor, or nowhere.

use std::collections::BTreeMap;

use crate::network::Network;

/// Origin of one student tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A slice of a teacher tensor.
    Slice {
        /// Name of the teacher's tensor.
        tensor: String,
        /// Per axis the teacher's indices to take, in order; `None` takes all.
        axes: Vec<Option<Vec<usize>>>,
    },
    /// No slice fits, because the tensor's operand is another one now: initialise anew.
    Fresh,
}

/// Origins of all tensors of a student, by the student's tensor name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inheritance(BTreeMap<String, Source>);

impl Inheritance {
    /// From one origin per tensor.
    pub(super) fn new(sources: impl IntoIterator<Item = (String, Source)>) -> Self {
        Self(sources.into_iter().collect())
    }

    /// Every tensor of `network` whole, under its own name.
    pub fn identity(network: &Network) -> Self {
        Self::new(network.parameters().into_iter().map(|parameter| {
            let source = Source::whole(&parameter.name, parameter.dims.len());
            (parameter.name, source)
        }))
    }

    /// Origin of the student's tensor `name`.
    pub fn get(&self, name: &str) -> Option<&Source> {
        self.0.get(name)
    }

    /// All origins, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.0.iter().map(|(name, source)| (name.as_str(), source))
    }

    /// Origins in the network that `earlier` began from, for a student of the student that `earlier` made: surgery in two
    /// steps as one.
    #[must_use]
    pub fn after(&self, earlier: &Self) -> Self {
        let origin = |(name, source): (&str, &Source)| {
            let source = match source {
                Source::Slice { tensor, axes } => {
                    earlier.get(tensor).map_or(Source::Fresh, |first| first.sliced(axes))
                }
                Source::Fresh => Source::Fresh,
            };
            (name.to_owned(), source)
        };
        Self::new(self.iter().map(origin))
    }

    /// Whether every tensor is taken whole from the teacher's tensor of its own name.
    pub fn is_identity(&self) -> bool {
        self.iter().all(|(name, source)| match source {
            Source::Slice { tensor, axes } => tensor == name && axes.iter().all(Option::is_none),
            Source::Fresh => false,
        })
    }
}

impl Source {
    /// What is left of it when of each axis only these indices are taken.
    fn sliced(&self, taken: &[Option<Vec<usize>>]) -> Self {
        let Self::Slice { tensor, axes } = self else { return Self::Fresh };
        let axis = |(first, then): (&Option<Vec<usize>>, &Option<Vec<usize>>)| match (first, then) {
            (None, then) => then.clone(),
            (first, None) => first.clone(),
            (Some(first), Some(then)) => {
                Some(then.iter().filter_map(|&index| first.get(index).copied()).collect())
            }
        };
        Self::Slice { tensor: tensor.clone(), axes: axes.iter().zip(taken).map(axis).collect() }
    }

    /// All of the teacher's tensor `name`, which has `rank` axes.
    pub(super) fn whole(name: &str, rank: usize) -> Self {
        Self::Slice { tensor: name.to_owned(), axes: vec![None; rank] }
    }
}
