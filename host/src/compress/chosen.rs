//! The third step, from finalists to the student (docs/method.md#final-student): measure them properly where latency counts,
//! retrain them, choose on the second half of the validation split, distil the chosen one for long, and measure the very
//! file that ships. Each part is done once, however often the job is interrupted.
//!
//! The test split is not touched here.

use super::accuracy_bar::AccuracyBar;
use super::contender::Contender;
use super::context::JobContext;
use super::distiller::{Distillation, Distilled};
use super::gauge::Specimen;
use super::searched::Searched;
use super::side_by_side::{self, Row};
use super::{Error, Finale, Phase};
use crate::model_io::Weights;
use crate::network::Network;
use crate::run::journey::{BesideTeacher, Finding, Milestone, OnBoard};
use crate::run::summary::{AccuracyLoss, Baseline};
use crate::search::answer::Measured;
use crate::search::constraint::{Limits, Metric, Resources, violation};
use crate::search::hands::Hands as _;
use crate::search::{Counts, Finalist, NearMiss};
use crate::training::{Accuracy, PairedDifference};

/// A job whose choice is made.
pub(super) struct Chosen<'a> {
    pub(super) job: JobContext<'a>,
    /// The teacher on the board; of the student's time, where there is one and its latency counts.
    pub(super) teacher: OnBoard,
    /// The limits that follow from that teacher.
    pub(super) limits: Limits,
    /// How many candidates came how far.
    pub(super) counts: Counts,
    /// `None` if no finalist keeps the limits.
    pub(super) student: Option<ChosenStudent>,
    /// Finalists that miss a limit by a careful measurement, else the candidates that miss by least.
    pub(super) nearest: Vec<NearMiss>,
}

/// A student that keeps the limits, trained and measured.
pub(super) struct ChosenStudent {
    pub(super) network: Network,
    /// Batch norm alive.
    pub(super) weights: Weights,
    /// Digest of these weights.
    pub(super) digest: String,
    /// The file that ships.
    pub(super) specimen: Specimen,
    pub(super) on_board: OnBoard,
    pub(super) found_by: String,
    pub(super) binding: Option<Metric>,
    /// What it is compared with: uniform width, and the best of the other simple students.
    pub(super) uniform: Option<Baseline>,
    pub(super) simple: Option<Baseline>,
    /// What the limit on accuracy says, where there is one.
    pub(super) accuracy_loss: Option<AccuracyLoss>,
}

impl<'a> Searched<'a> {
    /// Measures, retrains and distils until one student keeps all limits; what the journal knows is not done again.
    ///
    /// # Errors
    /// A lost board, a stop by the user, a disk that takes nothing: the run can be resumed.
    pub(super) fn choose(self) -> Result<Chosen<'a>, Error> {
        let Self { mut job, teacher, found } = self;
        job.clock.begin(Phase::Finalists);
        let settings = job.plan.configuration.finale;
        let (mut keeping, mut row, mut nearest) = (Vec::new(), Row::default(), Vec::new());
        let mut seen = Vec::new();
        for (finalists, room) in in_turn(&found.finalists, settings.finalists) {
            let mut room = room.min(settings.finalists - keeping.len());
            for place in finalists {
                if room == 0 {
                    break;
                }
                if seen.contains(&place) {
                    continue;
                }
                seen.push(place);
                let finalist = &found.finalists[place];
                match limits_of(&mut job, &found.limits, finalist, &mut row)? {
                    Verdict::Keeps => {
                        keeping.push(finalist);
                        room -= 1;
                    }
                    Verdict::Breaks(miss) => nearest.push(miss),
                    Verdict::Untold => {}
                }
            }
        }
        let mut contenders = retrained(&mut job, settings, &keeping)?;
        let bar = AccuracyBar::new(&mut job)?;
        contenders.sort_by(|one, other| bar.order(one, other));
        let student = finished(&mut job, &teacher, &found.limits, settings, &contenders, &bar, &mut nearest)?;
        // What came to the finale is nearer than what did not.
        if nearest.is_empty() {
            nearest = found.nearest;
        }
        nearest.sort_by(|a, b| a.by().total_cmp(&b.by()));
        let (beside, student) = match student {
            Some((beside, student)) => (Some(beside), Some(student)),
            None => (None, None),
        };
        if !job.journey.milestones().is_chosen() {
            job.note(Milestone::Chosen { weights: student.as_ref().map(|it| it.digest.clone()) })?;
        }
        let (teacher, limits) =
            beside.map_or((teacher, found.limits), |beside| (beside.teacher, beside.limits));
        Ok(Chosen { job, teacher, limits, counts: found.counts, student, nearest })
    }
}

/// Places of finalists, each group with how many of it are taken: uniform width and the best other simple student, which a
/// student is compared with, as far as there is room beside the best; then all, the best first.
fn in_turn(finalists: &[Finalist], room: usize) -> [(Vec<usize>, usize); 3] {
    let of =
        |is_it: fn(&Finalist) -> bool| (0..finalists.len()).filter(|&it| is_it(&finalists[it])).collect();
    [
        (of(Finalist::is_uniform), usize::from(room > 1)),
        (of(Finalist::is_simple), usize::from(room > 2)),
        (of(|_| true), room),
    ]
}

/// Whether a finalist keeps the limits.
enum Verdict {
    Keeps,
    Breaks(NearMiss),
    /// The board cannot tell, or cannot run it.
    Untold,
}

/// What the network alone decides needs no board; where latency counts, a true interval with seeded weights does: latency
/// does not depend on them, and training is what costs.
fn limits_of(
    job: &mut JobContext<'_>,
    limits: &Limits,
    finalist: &Finalist,
    row: &mut Row,
) -> Result<Verdict, Error> {
    let network = &finalist.job.network;
    let judged = |limits: &Limits, measured: Option<Measured>| {
        let resources = Resources { measured, ..Resources::of(network) };
        NearMiss::new(&finalist.trial.searcher, finalist.trial.accuracy(), limits, &resources)
    };
    let of_search = finalist.trial.resources.and_then(|resources| resources.measured);
    let known = of_search.filter(|_| !job.latency_counts());
    if let Some(miss) = judged(limits, known) {
        job.say(format!("a finalist breaks {}", broken(limits, network, known)));
        return Ok(Verdict::Breaks(miss));
    }
    if !job.latency_counts() {
        return Ok(Verdict::Keeps);
    }
    let digest = network.digest();
    let known = job.journey.milestones().measured(&digest).cloned();
    let finding = if let Some(known) = known {
        known
    } else {
        let specimen = Specimen::untrained(network, &job.lab.info)?;
        let finding = row.measure(&mut job.lab, job.plan, &specimen)?;
        job.note(Milestone::Measured { network: digest, finding: finding.clone() })?;
        finding
    };
    Ok(match finding {
        Finding::Measured(pair) => {
            let measured = Some(pair.student.measured);
            let Some(miss) = judged(&pair.limits, measured) else { return Ok(Verdict::Keeps) };
            let broken = broken(&pair.limits, network, measured);
            job.say(format!("a finalist breaks {broken} by a careful measurement"));
            Verdict::Breaks(miss)
        }
        Finding::Infeasible { reason } => {
            job.say(format!("a finalist is infeasible by a careful measurement: {reason}; on to the next"));
            Verdict::Untold
        }
        Finding::Unknown { reason } => {
            job.say(format!(
                "a finalist cannot be measured carefully, so whether it keeps the limits is unknown: {reason}; on to the next"
            ));
            Verdict::Untold
        }
    })
}

/// The limits that are broken as far as is known, for people; empty if none.
fn broken(limits: &Limits, network: &Network, measured: Option<Measured>) -> String {
    let resources = Resources { measured, ..Resources::of(network) };
    let excess = limits.excess(&resources);
    if violation(&excess) == 0.0 {
        return String::new();
    }
    let names: Vec<String> = excess
        .iter()
        .filter(|excess| excess.relative > 0.0)
        .map(|excess| {
            let value =
                resources.bound_value(excess.metric).map_or_else(String::new, |v| excess.metric.show(v));
            format!("{} ({value})", excess.metric)
        })
        .collect();
    names.join(", ")
}

/// All finalists from all seeds, at once.
fn retrained<'a>(
    job: &mut JobContext<'_>,
    settings: Finale,
    finalists: &[&'a Finalist],
) -> Result<Vec<Contender<'a>>, Error> {
    let seed = job.plan.configuration.search.seed;
    let mut starts = Vec::with_capacity(finalists.len());
    for finalist in finalists {
        starts.push(job.lab.weights(&finalist.job)?);
    }
    let seeds = if settings.epochs == 0 { 0 } else { settings.seeds };
    let mut students = Vec::with_capacity(finalists.len() * seeds);
    for (finalist, start) in finalists.iter().zip(&starts) {
        for index in 0..seeds as u64 {
            let (network, seed) = (&finalist.job.network, seed.wrapping_add(index));
            students.push(Distillation { network, start, epochs: settings.epochs, seed });
        }
    }
    let mut distilled = job.train(&students)?.into_iter();
    let mut contenders = Vec::with_capacity(finalists.len());
    for (finalist, start) in finalists.iter().zip(&starts) {
        let network = &finalist.job.network;
        let mut tried: Vec<Distilled> = distilled.by_ref().take(seeds).collect();
        if tried.is_empty() {
            let accuracy = job.lab.distiller.accuracy(network, start, &job.dataset.validation_select)?;
            tried.push(Distilled { weights: (**start).clone(), accuracy });
        }
        let mut shares = Vec::with_capacity(tried.len());
        for one in &tried {
            shares.push(job.lab.distiller.share(network, &one.weights, &job.dataset.validation_select)?);
        }
        let accuracy = shares.iter().sum::<f64>() / shares.len() as f64;
        let best =
            (1..tried.len()).fold(0, |best, index| if shares[index] > shares[best] { index } else { best });
        let weights = tried.swap_remove(best).weights;
        let answers = job.lab.distiller.predictions(network, &weights, &job.dataset.validation_select)?;
        contenders.push(Contender { finalist, weights, accuracy, answers });
    }
    Ok(contenders)
}

/// Distils and measures the best contender; the next one, if its file breaks a limit.
fn finished(
    job: &mut JobContext<'_>,
    teacher: &OnBoard,
    limits: &Limits,
    settings: Finale,
    contenders: &[Contender<'_>],
    bar: &AccuracyBar,
    nearest: &mut Vec<NearMiss>,
) -> Result<Option<(BesideTeacher, ChosenStudent)>, Error> {
    let seed = job.plan.configuration.search.seed;
    let compared = bar.compares().then_some(contenders);
    for contender in contenders {
        job.clock.begin(Phase::Distillation);
        let network = &contender.finalist.job.network;
        let distillation =
            Distillation { network, start: &contender.weights, epochs: settings.final_epochs, seed };
        let Some(Distilled { weights, .. }) = job.train(&[distillation])?.pop() else { continue };
        let answers = job.lab.distiller.predictions(network, &weights, &job.dataset.validation_select)?;
        let loss = bar.judge(&answers, &job.dataset.validation_select.labels);
        if let Some(loss) = loss.filter(|loss| !loss.is_kept()) {
            job.say(format!("the trained student loses too much: {}; on to the next finalist", loss.words()));
            nearest.push(NearMiss::of_accuracy(&contender.finalist.trial, loss.beyond()));
            continue;
        }
        job.clock.begin(Phase::Check);
        let specimen = Specimen::trained(network, &weights, &job.lab.info)?;
        let digest = weights.digest();
        let known = job.journey.milestones().checked(&digest).cloned();
        let finding = if let Some(known) = known {
            known
        } else {
            let finding = if job.latency_counts() {
                measured_twice(job, network, &specimen)?
            } else {
                side_by_side::measure_alone(&mut job.lab, teacher, limits, &specimen)?
            };
            job.note(Milestone::Checked { weights: digest.clone(), finding: finding.clone() })?;
            finding
        };
        let beside = match finding {
            Finding::Measured(beside) => *beside,
            Finding::Infeasible { reason } | Finding::Unknown { reason } => {
                job.say(format!("the trained student cannot be measured: {reason}; on to the next finalist"));
                continue;
            }
        };
        let late = broken(&beside.limits, network, Some(beside.student.measured));
        if late.is_empty() {
            let trial = &contender.finalist.trial;
            let student = ChosenStudent {
                network: network.clone(),
                weights,
                digest,
                specimen,
                on_board: beside.student.clone(),
                found_by: trial.searcher.clone(),
                binding: trial.binding,
                uniform: compared.and_then(|all| baseline(job, contender, all, Finalist::is_uniform)),
                simple: compared.and_then(|all| baseline(job, contender, all, Finalist::is_simple)),
                accuracy_loss: loss,
            };
            return Ok(Some((beside, student)));
        }
        let resources = Resources { measured: Some(beside.student.measured), ..Resources::of(network) };
        let trial = &contender.finalist.trial;
        nearest.extend(NearMiss::new(&trial.searcher, trial.accuracy(), &beside.limits, &resources));
        job.say(format!("the trained student breaks {late}; on to the next finalist"));
    }
    Ok(None)
}

/// The file beside its teacher, in a row of its own: the board may have changed while the student was distilled. A structure
/// that has kept the limits once, and whose latency does not depend on its weights, breaks them if it does so twice of three
/// times: distilling the next one costs more than measuring.
fn measured_twice(
    job: &mut JobContext<'_>,
    network: &Network,
    specimen: &Specimen,
) -> Result<Finding, Error> {
    let first = Row::default().measure(&mut job.lab, job.plan, specimen)?;
    let Finding::Measured(beside) = &first else { return Ok(first) };
    let late = broken(&beside.limits, network, Some(beside.student.measured));
    if late.is_empty() {
        return Ok(first);
    }
    job.say(format!("the trained student breaks {late}, which it kept before: measuring once more"));
    Row::default().measure(&mut job.lab, job.plan, specimen)
}

/// The best contender of a kind, beside the one that is chosen.
fn baseline(
    job: &JobContext<'_>,
    chosen: &Contender<'_>,
    contenders: &[Contender<'_>],
    is_it: fn(&Finalist) -> bool,
) -> Option<Baseline> {
    let one = contenders.iter().find(|it| is_it(it.finalist))?;
    let (network, labels) = (&one.finalist.job.network, &job.dataset.validation_select.labels);
    let finding = job.journey.milestones().measured(&network.digest());
    let latency_ns = match finding {
        Some(Finding::Measured(pair)) => Some(pair.student.measured.latency_ns),
        Some(Finding::Infeasible { .. } | Finding::Unknown { .. }) | None => None,
    };
    let cost = network.cost();
    Some(Baseline {
        found_by: one.finalist.trial.searcher.clone(),
        params: cost.params,
        macs: cost.macs,
        latency_ns,
        validation: Accuracy::of(&one.answers, labels),
        added: PairedDifference::new(&one.answers, &chosen.answers, labels),
    })
}
