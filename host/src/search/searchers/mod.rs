//! Who proposes candidates, one file each. All get the same limits, the same evaluation and the same budget, so that the report
//! may compare them (docs/method.md#baselines).

pub(super) mod evolution;
pub(super) mod greedy;
pub(super) mod paper;
pub(super) mod random;
pub(super) mod reinforce;
pub(super) mod saliency;
pub(super) mod uniform;
