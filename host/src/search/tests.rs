//! Whole searches against an analytic world: every property that the product promises of a search.

mod faults;
mod many_hands;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::genome::BaseId;
use super::policy::PolicyError;
use super::record::{Purpose, Step, TrialOutcome};
use super::replay::Replay;
use super::simple::SIMPLE;
use super::*;
use crate::model_io::Weights;
use crate::network::layer::Input;
use crate::network::{Network, zoo};
use crate::training::inheritance;

/// Answers by formula: latency by work and depth, accuracy by the width of each layer and by depth. Time passes only
/// when it works.
struct Formula {
    seconds: Cell<f64>,
    /// Calls until the board is lost; `None`: never.
    calls_left: Option<usize>,
    measured: usize,
    trained: usize,
    /// Whether looks without training rank candidates the wrong way round.
    blind: bool,
    /// Of which networks the board, and of which the trainer, cannot tell the worth.
    unknown: [fn(&Network) -> bool; 2],
    seconds_a_step: f64,
    deadline: Option<Duration>,
}

impl Formula {
    fn new() -> Self {
        let none: fn(&Network) -> bool = |_| false;
        Self {
            seconds: Cell::new(0.0),
            calls_left: None,
            measured: 0,
            trained: 0,
            blind: false,
            unknown: [none; 2],
            seconds_a_step: 0.005,
            deadline: None,
        }
    }

    fn call(&mut self, fault: Fault) -> Result<(), Fault> {
        match &mut self.calls_left {
            Some(0) => Err(fault),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn measurement(network: &Network) -> Measured {
        let cost = network.cost();
        let latency_ns = 5_000 * network.nodes().len() as u64 + cost.macs / 20;
        Measured {
            latency_ns,
            latency_upper_ns: latency_ns + latency_ns / 100,
            latency_lower_ns: latency_ns - latency_ns / 100,
            model_memory_bytes: cost.weight_bytes + cost.peak_activation_bytes,
            file_bytes: cost.weight_bytes + 5000,
            noise: 0.01,
        }
    }

    /// 0.9 for the teacher; every layer that is narrower, and every one that is missing, costs some of it.
    fn accuracy(network: &Network, rung: Rung) -> f64 {
        let widths: Vec<f64> = network
            .nodes()
            .iter()
            .filter_map(|node| node.layer.convolution().map(|conv| conv.out_channels as f64))
            .collect();
        let width_loss: f64 = widths.iter().map(|width| 0.3 * (-width / 8.0).exp()).sum();
        let depth_loss = 0.012 * (10.0 - widths.len() as f64).max(0.0);
        let training = match rung {
            Rung::Inherited => -0.1,
            Rung::Steps(steps) => f64::from(steps.min(2000)) * 1e-5,
            Rung::Epochs(_) => 0.02,
        };
        (0.88 + training - width_loss - depth_loss).clamp(0.1, 0.9)
    }
}

impl Hands for Formula {
    fn measure(&mut self, networks: &[(&str, &Network)]) -> Result<Vec<Option<Outcome<Measured>>>, Fault> {
        self.call(Fault::Board("link lost".into()))?;
        self.measured += networks.len();
        self.seconds.set(self.seconds.get() + 0.3 * networks.len() as f64);
        let measure = |(_, network): &(&str, &Network)| {
            if (self.unknown[0])(network) {
                return Outcome::Unknown("the engine crashed on the model".into());
            }
            Outcome::Done(Self::measurement(network))
        };
        Ok(networks.iter().map(|network| Some(measure(network))).collect())
    }

    fn train(&mut self, jobs: &[&Job]) -> Result<Vec<Option<Outcome<Trained>>>, Fault> {
        self.call(Fault::Training("out of disk".into()))?;
        self.trained += jobs.len();
        let cost = |job: &Job| match job.rung {
            Rung::Inherited => 0.3,
            Rung::Steps(steps) => self.seconds_a_step * f64::from(steps),
            Rung::Epochs(_) => 2.0,
        };
        let judge = |job: &Job| {
            if (self.unknown[1])(&job.network) {
                return Outcome::Unknown("the GPU's memory is full".into());
            }
            let accuracy = Self::accuracy(&job.network, job.rung);
            // Finer than accuracy, and of the same order; without training of none, if so told.
            let blind = self.blind && job.rung == Rung::Inherited;
            let agreement = if blind { 1.0 - accuracy } else { accuracy };
            let (nll, fresh_tensors) = (1.0 - accuracy, Vec::new());
            Outcome::Done(Trained { accuracy, agreement, nll, fresh_tensors, seconds: 2.0 })
        };
        let train = |job: &&Job| {
            let done = self.seconds.get() + cost(job);
            if self.deadline.is_some_and(|deadline| done > deadline.as_secs_f64()) {
                self.seconds.set(self.deadline.unwrap().as_secs_f64().max(self.seconds.get()));
                return None;
            }
            self.seconds.set(done);
            Some(judge(job))
        };
        Ok(jobs.iter().map(train).collect())
    }

    fn give_up_at(&mut self, deadline: Option<Duration>) {
        self.deadline = deadline;
    }

    fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault> {
        self.call(Fault::Training("out of disk".into()))?;
        Replay::new(&[]).weights(job)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.get())
    }

    fn cancelled(&self) -> bool {
        false
    }
}

fn teacher() -> Teacher {
    let input = Input { channels: 1, height: 28, width: 28 };
    let network = zoo::build(zoo::Architecture::Vgg13, input, 10, 0.25).unwrap();
    let weights = Arc::new(inheritance::initial_weights(&network, 1));
    let measured = Formula::measurement(&network);
    Teacher { network, weights, accuracy: 0.9, chance: 0.1, measured }
}

fn settings(preset: Preset, seed: u64, candidates: usize) -> Settings {
    let limits = vec!["latency=0.5x".parse().unwrap(), "params=0.2x".parse().unwrap()];
    let limits = if preset == Preset::Edge { limits } else { Vec::new() };
    Settings {
        limits,
        budget: Budget::Candidates(candidates),
        board_key: "formula".into(),
        ..Settings::new(preset, seed)
    }
}

fn only(searcher: &str) -> Vec<(String, f64)> {
    vec![(searcher.to_owned(), 1.0)]
}

/// Runs a search; gives its result and all lines, the earlier ones included.
fn run(
    settings: &Settings,
    hands: &mut impl Hands,
    recorded: &[Record],
) -> (Result<SearchResult, SearchError>, Vec<Record>) {
    run_with(settings, &mut Desk::new(hands), recorded)
}

fn run_with(
    settings: &Settings,
    evaluator: &mut dyn Evaluator,
    recorded: &[Record],
) -> (Result<SearchResult, SearchError>, Vec<Record>) {
    let mut lines = recorded.to_vec();
    let mut journal = |record: &Record| {
        // Through text and back, as on disk.
        let text = serde_json::to_string(record).unwrap();
        lines.push(serde_json::from_str(&text).unwrap());
        Ok(())
    };
    let result =
        search(settings, &teacher(), &Policies::default(), evaluator, &mut journal, recorded, &mut |_| {});
    (result, lines)
}

fn total(trial: &Trial) -> f64 {
    trial.reward.as_ref().expect("a reward").total
}

fn trials(lines: &[Record]) -> Vec<&Trial> {
    let mut trials = Vec::new();
    for line in lines {
        if let Record::Trial(trial) = line {
            trials.push(trial.as_ref());
        }
    }
    trials
}

/// What must be equal between a disturbed and an undisturbed search. What an answer cost may differ, and when that was paid.
fn essence(lines: &[Record]) -> Vec<Record> {
    let is_note = |line: &&Record| matches!(line, Record::Started(_) | Record::Fault(_) | Record::Resumed(_));
    let progress = lines.iter().filter(|line| !is_note(line));
    progress
        .cloned()
        .map(|mut line| {
            match &mut line {
                Record::Trial(trial) => (trial.measure_s, trial.train_s, trial.known) = (0.0, 0.0, false),
                Record::Batch(batch) => (batch.elapsed_ns, batch.spent) = (0, 0.0),
                Record::Finished(finished) => finished.elapsed_ns = 0,
                Record::Measured(_)
                | Record::Update(_)
                | Record::Started(_)
                | Record::Fault(_)
                | Record::Resumed(_) => {}
            }
            line
        })
        .collect()
}

fn assert_same(left: &[Record], right: &[Record], when: &str) {
    let (left, right) = (essence(left), essence(right));
    for (index, (a, b)) in left.iter().zip(&right).enumerate() {
        assert_eq!(a, b, "line {index}, {when}");
    }
    assert_eq!(left.len(), right.len(), "{when}");
}

fn names(result: &SearchResult) -> Vec<(String, f64)> {
    result.finalists.iter().map(|finalist| (finalist.job.digest.clone(), finalist.reward)).collect()
}

#[test]
fn a_search_finds_students_at_the_limits() {
    let mut lab = Formula::new();
    let (result, lines) = run(&settings(Preset::Edge, 1, 160), &mut lab, &[]);
    let result = result.unwrap();
    let best = &result.finalists[0];
    let teacher = teacher();
    let limits = [
        (Metric::Params, 0.2 * teacher.network.cost().params as f64),
        (Metric::Latency, 0.5 * teacher.measured.latency_ns as f64),
    ];
    let used = |trial: &Trial| {
        let resources = trial.resources.unwrap();
        limits.map(|(metric, bound)| resources.bound_value(metric).unwrap() / bound)
    };
    assert!(best.trial.feasible && used(&best.trial).iter().all(|used| *used <= 1.0));
    assert_eq!(best.trial.rung, Rung::Steps(1200), "finalists come from the highest rung");
    assert_eq!(result.finalists[0].trial.violation, 0.0);
    assert!(matches!(best.trial.binding, Some(Metric::Params | Metric::Latency)), "{:?}", best.trial.binding);
    let proposed: Vec<_> = trials(&lines)
        .into_iter()
        .filter(|trial| trial.purpose == Purpose::Explore && trial.feasible)
        .collect();
    let tight = proposed.iter().filter(|trial| used(trial).iter().copied().fold(0.0, f64::max) > 0.9);
    assert!(tight.count() * 10 > proposed.len() * 9, "nearly every candidate is at its limit");
    // Without enough of its units a network may be within the limits at its whole width.
    assert!(proposed.iter().all(|trial| trial.binding.is_some() || trial.genome.widths.is_empty()));
    assert!(result.policies.removal.is_some() && result.policies.shrinkage.is_some());
    let searched = trials(&lines).into_iter().map(|trial| trial.searcher.as_str()).collect::<BTreeSet<_>>();
    for entry in registry::SEARCHERS.iter().filter(|entry| entry.edge > 0.0) {
        assert!(searched.contains(entry.name), "{} had its turn", entry.name);
    }
}

#[test]
fn simple_students_come_first_and_stay_to_be_compared_with() {
    let (result, lines) = run(&settings(Preset::Edge, 2, 120), &mut Formula::new(), &[]);
    let result = result.unwrap();
    let all = trials(&lines);
    let first = all.iter().take_while(|trial| trial.purpose == Purpose::Simple).count();
    assert!(first >= 12, "without training and trained: {first}");
    assert_eq!(all[0].searcher, simple::UNIFORM);
    let finalists: Vec<&str> =
        result.finalists.iter().map(|finalist| finalist.trial.searcher.as_str()).collect();
    assert!(finalists.contains(&simple::UNIFORM), "{finalists:?}");
    assert!(finalists.iter().any(|it| it.starts_with(SIMPLE) && *it != simple::UNIFORM), "{finalists:?}");
    let uniform = all.iter().filter(|trial| trial.searcher == simple::UNIFORM).max_by_key(|it| it.rung);
    let found = total(&result.finalists[0].trial);
    assert!(found >= total(uniform.unwrap()), "what was found is at least as good as uniform width");
}

#[test]
fn the_best_that_was_trained_is_trained_longest_before_any_other() {
    for seed in [2, 14, 15] {
        let (_, lines) = run(&settings(Preset::Edge, seed, 120), &mut Formula::new(), &[]);
        let all = trials(&lines);
        let place = all.iter().position(|trial| trial.purpose == Purpose::Choose).unwrap();
        let quality = |trial: &&&Trial| trial.quality().unwrap();
        let trained = all[..place].iter().filter(|trial| trial.rung == Rung::Steps(400));
        let mut best: Vec<f64> = trained.map(|trial| quality(&trial)).collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let chosen = all[..place].iter().filter(|trial| trial.lineage == all[place].lineage);
        let chosen = chosen.map(|trial| quality(&trial)).fold(0.0, f64::max);
        // The model smooths looks, so it may prefer a near equal.
        assert!(chosen >= best[2], "seed {seed}: {chosen} of {:?}", &best[..5]);
    }
}

#[test]
fn a_promotion_never_trains_less_and_only_what_keeps_the_limits_is_trained() {
    let (_, lines) = run(&settings(Preset::Edge, 3, 100), &mut Formula::new(), &[]);
    let mut before: std::collections::HashMap<&str, Rung> = std::collections::HashMap::new();
    for trial in trials(&lines) {
        if trial.accuracy().is_some() {
            assert!(trial.feasible, "{trial:?}");
            let earlier = before.insert(&trial.lineage, trial.rung);
            let proposed = matches!(trial.purpose, Purpose::Explore | Purpose::Simple);
            assert!(proposed || earlier.is_some_and(|earlier| earlier < trial.rung), "{trial:?}");
        }
    }
    assert!(before.values().any(|rung| *rung == Rung::Inherited), "not all were worth training");
}

#[test]
fn a_rung_that_ranks_no_better_than_chance_is_left() {
    let settings = Settings { searchers: only("random"), ..settings(Preset::Edge, 4, 160) };
    let rungs = |lines: &[Record]| {
        let explored = trials(lines).into_iter().filter(|trial| trial.purpose == Purpose::Explore);
        explored.map(|trial| trial.rung).collect::<BTreeSet<_>>()
    };
    let (_, lines) = run(&settings, &mut Formula::new(), &[]);
    assert_eq!(rungs(&lines), BTreeSet::from([Rung::Inherited]));
    let (_, lines) = run(&settings, &mut Formula { blind: true, ..Formula::new() }, &[]);
    assert_eq!(rungs(&lines), BTreeSet::from([Rung::Inherited, Rung::Steps(400)]));
    let Some(Record::Finished(finished)) = lines.last() else { panic!("{:?}", lines.last()) };
    assert!(finished.untrained_correlation.unwrap() < 0.2, "{finished:?}");
}

#[test]
fn without_a_limit_on_what_the_board_says_it_is_not_asked() {
    let params = vec!["params=0.1x".parse().unwrap()];
    let settings = Settings { limits: params, ..settings(Preset::Edge, 5, 60) };
    let mut lab = Formula::new();
    let (result, _) = run(&settings, &mut lab, &[]);
    assert!(result.unwrap().finalists[0].trial.feasible);
    assert_eq!(lab.measured, 0);
}

#[test]
fn with_a_goal_and_no_limit_small_students_are_found() {
    let settings =
        Settings { limits: Vec::new(), goal: Some(Metric::Params), ..settings(Preset::Edge, 6, 80) };
    let (result, lines) = run(&settings, &mut Formula::new(), &[]);
    let whole = teacher().network.cost().params;
    let best = &result.unwrap().finalists[0];
    assert!(best.trial.resources.unwrap().params * 2 < whole);
    let sizes: BTreeSet<u64> =
        trials(&lines).iter().filter_map(|trial| Some(whole / trial.resources?.params.max(1))).collect();
    assert!(sizes.len() > 3, "of many sizes: {sizes:?}");
}

#[test]
fn each_searcher_alone_repeats_itself_and_keeps_the_limits() {
    for entry in registry::SEARCHERS.iter().filter(|entry| entry.name != "paper") {
        let settings = Settings { searchers: only(entry.name), ..settings(Preset::Edge, 7, 50) };
        let (result, lines) = run(&settings, &mut Formula::new(), &[]);
        let best = &result.unwrap().finalists[0];
        assert!(best.trial.feasible, "{}", entry.name);
        let (_, again) = run(&settings, &mut Formula::new(), &[]);
        assert_same(&again, &lines, entry.name);
    }
}

#[test]
fn the_same_seed_and_recorded_answers_give_the_same_candidates() {
    let settings = settings(Preset::Edge, 3, 60);
    let (result, lines) = run(&settings, &mut Formula::new(), &[]);
    let result = result.unwrap();
    let (again, all) = run(&settings, &mut Replay::new(&lines), &lines);
    assert_eq!(names(&again.unwrap()), names(&result));
    let new = &all[lines.len()..];
    assert!(matches!(new, [Record::Resumed(_)]), "a replay writes nothing else: {new:?}");
    let (other, other_lines) = run(&Settings { seed: 4, ..settings.clone() }, &mut Formula::new(), &[]);
    other.unwrap();
    assert_ne!(essence(&other_lines), essence(&lines));
    let (replayed, _) = run(&Settings { seed: 4, ..settings }, &mut Replay::new(&lines), &[]);
    assert!(matches!(replayed, Err(SearchError::Fault(_))), "what was not recorded is a fault, not a guess");
}

#[test]
fn a_time_budget_is_kept_and_survives_an_interruption() {
    let mut settings = settings(Preset::Edge, 7, 0);
    settings.budget = Budget::Time(Duration::from_mins(5));
    let mut lab = Formula::new();
    let (result, lines) = run(&settings, &mut lab, &[]);
    result.unwrap();
    let spent = lab.seconds.get();
    assert!((270.0..330.0).contains(&spent), "{spent} s of 300");
    let purposes: BTreeSet<String> =
        trials(&lines).iter().map(|trial| format!("{:?}", trial.purpose)).collect();
    assert_eq!(purposes.len(), 4, "all have their time: {purposes:?}");
    let cut = lines.len() / 2;
    let elapsed = Replay::new(&lines[..cut]).elapsed().as_secs_f64();
    let mut lab = Formula { seconds: Cell::new(elapsed), ..Formula::new() };
    let (resumed, _) = run(&settings, &mut lab, &lines[..cut]);
    assert!(resumed.unwrap().finalists[0].trial.feasible);
    assert!((270.0..350.0).contains(&lab.seconds.get()), "{} s of 300", lab.seconds.get());
}

#[test]
fn a_larger_budget_goes_on_where_the_smaller_one_ended() {
    let settings = settings(Preset::Edge, 13, 40);
    let (small, lines) = run(&settings, &mut Formula::new(), &[]);
    small.unwrap();
    let more = Settings { extensions: vec![Budget::Candidates(30)], ..settings };
    let (large, all) = run(&more, &mut Formula::new(), &lines);
    let large = large.unwrap();
    assert_same(&all[..lines.len()], &lines, "what ran stays");
    assert!(large.counts.proposed > 60, "{}", large.counts.proposed);
    let later = &trials(&all)[trials(&lines).len()..];
    for purpose in [Purpose::Explore, Purpose::Promote, Purpose::Choose] {
        assert!(later.iter().any(|trial| trial.purpose == purpose), "{purpose:?} had its turn again");
    }
    let (_, at_once) = run(&more, &mut Formula::new(), &[]);
    assert_same(&at_once, &all, "as if it had been asked for at once");
}

#[test]
fn a_search_that_finds_nothing_new_ends_early_and_says_so() {
    let mut settings = settings(Preset::Edge, 8, 0);
    settings.searchers = only("saliency");
    settings.budget = Budget::Time(Duration::from_hours(1));
    let mut lab = Formula::new();
    let (result, lines) = run(&settings, &mut lab, &[]);
    result.unwrap();
    assert!(lab.seconds.get() < 1800.0, "{} s", lab.seconds.get());
    let Some(Record::Finished(finished)) = lines.last() else { panic!("{:?}", lines.last()) };
    assert!(finished.reason.contains("no searcher finds anything new"), "{}", finished.reason);
}

#[test]
fn the_published_method_removes_then_shrinks_and_is_scored_against_the_teacher() {
    let (result, lines) = run(&settings(Preset::Paper, 9, 80), &mut Formula::new(), &[]);
    let result = result.unwrap();
    let params = teacher().network.cost().params as f64;
    let all = trials(&lines);
    let (first, second): (Vec<&Trial>, Vec<&Trial>) =
        all.iter().copied().partition(|trial| trial.genome.base == BaseId::Teacher);
    assert!(first.iter().all(|trial| trial.genome.widths.is_empty()), "the first stage removes units");
    assert!(second.len() >= 30 && second.iter().all(|trial| trial.genome.removed.is_empty()));
    for trial in all {
        assert_eq!(trial.rung, Rung::Epochs(5));
        let (Some(accuracy), Some(resources)) = (trial.accuracy(), trial.resources) else { continue };
        let saved = 1.0 - resources.params as f64 / params;
        assert!((total(trial) - saved * (2.0 - saved) * accuracy / 0.9).abs() < 1e-9);
    }
    assert!(result.finalists.iter().all(|finalist| matches!(finalist.job.start, StartingWeights::Fresh)));
    // Interrupted in either stage it goes the same way.
    for cut in [lines.len() / 4, 3 * lines.len() / 4] {
        let (_, again) = run(&settings(Preset::Paper, 9, 80), &mut Formula::new(), &lines[..cut]);
        assert_same(&again, &lines, &format!("cut at {cut}"));
    }
}

#[test]
fn in_edge_students_inherit_slices_of_the_teacher() {
    let (result, _) = run(&settings(Preset::Edge, 10, 60), &mut Formula::new(), &[]);
    for finalist in result.unwrap().finalists {
        let StartingWeights::Inherited { source, inheritance: slices } = &finalist.job.start else {
            panic!("fresh weights")
        };
        let (weights, _) = inheritance::inherit(&finalist.job.network, slices, source, finalist.job.seed);
        weights.verify(&finalist.job.network).unwrap();
    }
}

#[test]
fn a_resumed_search_must_be_the_same_search() {
    let settings = settings(Preset::Edge, 11, 20);
    let (_, lines) = run(&settings, &mut Formula::new(), &[]);
    let other = Settings { rollouts: 4, ..settings.clone() };
    let (refused, _) = run(&other, &mut Formula::new(), &lines);
    assert!(refused.unwrap_err().to_string().contains("`rollouts` differs: expected 8"));
    let mut forged = lines;
    let position = forged.iter().position(|line| matches!(line, Record::Trial(_))).unwrap();
    if let Record::Trial(trial) = &mut forged[position] {
        trial.digest = "0".repeat(64);
    }
    let (refused, _) = run(&settings, &mut Formula::new(), &forged);
    assert!(matches!(refused, Err(SearchError::Diverged { .. })));
}

#[test]
fn settings_that_no_search_can_be_run_with_are_refused() {
    let good = settings(Preset::Edge, 1, 20);
    let wrong = [
        Settings { rollouts: 0, ..good.clone() },
        Settings { channel_multiple: 0, ..good.clone() },
        Settings { budget: Budget::Candidates(0), ..good.clone() },
        Settings { searchers: vec![("random".to_owned(), 0.0)], ..good.clone() },
        Settings { searchers: only("nobody"), ..good.clone() },
        Settings { finalists: 0, ..good.clone() },
        Settings { rungs: Rungs { choose_share: 0.95, ..good.rungs }, ..good.clone() },
    ];
    for settings in wrong {
        let (refused, lines) = run(&settings, &mut Formula::new(), &[]);
        assert!(matches!(refused, Err(SearchError::Settings(_))), "{settings:?}");
        assert!(trials(&lines).is_empty());
    }
}

#[test]
fn a_policy_file_of_another_kind_is_refused_before_anything_is_done() {
    let start = Policies { removal: Some(b"no policy".to_vec()), shrinkage: None };
    let settings = Settings { searchers: only("reinforce"), ..settings(Preset::Edge, 1, 20) };
    let mut lab = Formula::new();
    let refused =
        search(&settings, &teacher(), &start, &mut Desk::new(&mut lab), &mut |_| Ok(()), &[], &mut |_| {});
    assert!(matches!(refused, Err(SearchError::Policy(PolicyError::File(_)))));
    assert_eq!(lab.measured + lab.trained, 0);
}
