//! Whole searches against an analytic laboratory: every property that the product promises of a search.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::kinds::BaseKind;
use super::laboratory::{Admit, Evaluated, Task, in_turns};
use super::policy::PolicyError;
use super::record::TrialOutcome;
use super::replay::Replay;
use super::*;
use crate::model_io::Weights;
use crate::network::layer::Input;
use crate::network::{Network, zoo};
use crate::training::inheritance;

/// Answers by formula: latency by work and depth, accuracy by the width of each layer and by depth. Time passes only
/// when it works.
struct Formula {
    seconds: Cell<f64>,
    /// Laboratory calls until the board is lost; `None`: never.
    calls_left: Option<usize>,
    measured: usize,
    trained: usize,
    /// Of which networks the board, and of which the trainer, cannot tell the worth.
    unknown: [fn(&Network) -> bool; 2],
}

impl Formula {
    fn new() -> Self {
        let none: fn(&Network) -> bool = |_| false;
        Self { seconds: Cell::new(0.0), calls_left: None, measured: 0, trained: 0, unknown: [none; 2] }
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
        let training = if matches!(rung, Rung::Epochs(_)) { 0.02 } else { 0.0 };
        (0.88 + training - width_loss - depth_loss).clamp(0.1, 0.9)
    }
}

impl Laboratory for Formula {
    fn measure(&mut self, networks: &[(&str, &Network)]) -> Result<Vec<Outcome<Measured>>, Fault> {
        self.call(Fault::Board("link lost".into()))?;
        self.measured += networks.len();
        self.seconds.set(self.seconds.get() + 0.3 * networks.len() as f64);
        let measure = |(_, network): &(&str, &Network)| {
            if (self.unknown[0])(network) {
                return Outcome::Unknown("the engine crashed on the model".into());
            }
            Outcome::Done(Self::measurement(network))
        };
        Ok(networks.iter().map(measure).collect())
    }

    fn train(&mut self, jobs: &[&Job]) -> Result<Vec<Outcome<Trained>>, Fault> {
        self.call(Fault::Training("out of disk".into()))?;
        self.trained += jobs.len();
        self.seconds.set(self.seconds.get() + 2.0 * jobs.len() as f64);
        let train = |job: &&Job| {
            if (self.unknown[1])(&job.network) {
                return Outcome::Unknown("the GPU's memory is full".into());
            }
            let accuracy = Self::accuracy(&job.network, job.rung);
            Outcome::Done(Trained { accuracy, fresh_tensors: Vec::new(), seconds: 2.0 })
        };
        Ok(jobs.iter().map(train).collect())
    }

    fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault> {
        self.call(Fault::Training("out of disk".into()))?;
        Replay::new(&[]).weights(job)
    }

    fn evaluate(&mut self, tasks: &[Task], admit: Admit<'_>) -> Result<Vec<Evaluated>, Fault> {
        in_turns(self, tasks, admit)
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
    let (limits, promotion) = match preset {
        Preset::Edge => (limits, Some(Promotion { rung: Rung::Epochs(1), count: 3, share: 0.2 })),
        Preset::Paper => (Vec::new(), None),
    };
    Settings {
        limits,
        promotion,
        budget: Budget::Candidates(candidates),
        shares: Shares { reinforce: 0.6, random: 0.2, uniform: 0.2 },
        board_key: "formula".into(),
        ..Settings::new(preset, seed)
    }
}

/// Runs a search; gives its result and all lines, the earlier ones included.
fn run(
    settings: &Settings,
    lab: &mut dyn Laboratory,
    recorded: &[Record],
) -> (Result<SearchResult, SearchError>, Vec<Record>) {
    let mut lines = recorded.to_vec();
    let mut journal = |record: &Record| {
        // Through text and back, as on disk.
        let text = serde_json::to_string(record).unwrap();
        lines.push(serde_json::from_str(&text).unwrap());
        Ok(())
    };
    let result = search(settings, &teacher(), &Policies::default(), lab, &mut journal, recorded, &mut |_| {});
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

/// What must be equal between a disturbed and an undisturbed search. Costs in seconds may differ.
fn essence(lines: &[Record]) -> Vec<Record> {
    let progress =
        lines.iter().filter(|line| matches!(line, Record::Trial(_) | Record::Update(_) | Record::Stage(_)));
    progress
        .cloned()
        .map(|mut line| {
            match &mut line {
                Record::Trial(trial) => (trial.measure_s, trial.train_s, trial.elapsed_ns) = (0.0, 0.0, 0),
                Record::Update(update) => update.elapsed_ns = 0,
                Record::Stage(stage) => stage.elapsed_ns = 0,
                Record::Started(_) | Record::Fault(_) | Record::Resumed(_) => {}
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
fn a_search_finds_students_that_meet_the_limits() {
    let mut lab = Formula::new();
    let (result, lines) = run(&settings(Preset::Edge, 1, 160), &mut lab, &[]);
    let result = result.unwrap();
    let best = &result.finalists[0];
    let teacher = teacher();
    let cost = best.job.network.cost();
    assert!(best.trial.feasible && best.trial.violation == 0.0);
    assert!(cost.params as f64 <= 0.2 * teacher.network.cost().params as f64);
    let upper = Formula::measurement(&best.job.network).latency_upper_ns;
    assert!(upper as f64 <= 0.5 * teacher.measured.latency_ns as f64);
    assert!(best.trial.accuracy().unwrap() > 0.75, "{:?}", best.trial.outcome);
    assert_eq!(best.trial.rung, Rung::Epochs(1), "finalists come from the higher rung");
    assert!(result.finalists.windows(2).all(|pair| pair[0].trial.feasible >= pair[1].trial.feasible));
    assert_eq!(result.least_violation, Some(0.0));
    let proposed = trials(&lines).iter().filter(|trial| trial.update.is_some()).count();
    assert!((150..=160).contains(&proposed), "{proposed}");
    assert!(lab.trained < trials(&lines).len(), "what cannot fit is not trained");
    assert!(result.policies.removal.is_some() && result.policies.shrinkage.is_some());
}

#[test]
fn nothing_beyond_the_relaxation_is_trained_and_trained_students_always_earn_more() {
    let (_, lines) = run(&settings(Preset::Edge, 2, 80), &mut Formula::new(), &[]);
    let updates =
        lines.iter().filter_map(|line| if let Record::Update(update) = line { Some(update) } else { None });
    for update in updates {
        let batch = trials(&lines);
        let batch: Vec<_> = batch
            .into_iter()
            .filter(|trial| {
                (trial.stage, trial.searcher, trial.update)
                    == (update.stage, update.searcher, Some(update.update))
            })
            .collect();
        assert_eq!(batch.len(), update.trials);
        assert!(batch.iter().all(|trial| trial.rung == batch[0].rung), "one common rung per update");
        let worst_trained = batch.iter().filter(|trial| trial.accuracy().is_some()).map(|trial| total(trial));
        let worst_trained = worst_trained.fold(f64::INFINITY, f64::min);
        for trial in batch {
            let violation = constraint::violation(&trial.reward.as_ref().unwrap().parts.excess);
            assert_eq!(trial.accuracy().is_some(), violation <= update.epsilon, "{trial:?}");
            if trial.accuracy().is_none() {
                assert!(total(trial) < worst_trained);
            }
        }
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
fn a_search_killed_at_any_line_ends_like_an_undisturbed_one() {
    let settings = settings(Preset::Edge, 5, 30);
    let (result, lines) = run(&settings, &mut Formula::new(), &[]);
    let result = result.unwrap();
    for cut in (0..lines.len()).step_by(11).chain([1, 2, lines.len() - 1]) {
        let mut lab = Formula::new();
        let (resumed, all) = run(&settings, &mut lab, &lines[..cut]);
        assert_eq!(names(&resumed.unwrap()), names(&result), "cut at line {cut}");
        assert_same(&all, &lines, &format!("cut at line {cut}"));
        let known =
            trials(&lines[..cut]).iter().filter(|trial| trial.accuracy().is_some() && !trial.known).count();
        let whole = trials(&lines).iter().filter(|trial| trial.accuracy().is_some() && !trial.known).count();
        assert_eq!(lab.trained, whole - known, "nothing is trained twice, cut at line {cut}");
    }
}

#[test]
fn a_fault_is_never_scored_and_the_search_goes_on_as_if_it_had_not_been() {
    let settings = settings(Preset::Edge, 6, 30);
    let (result, lines) = run(&settings, &mut Formula::new(), &[]);
    let result = result.unwrap();
    let mut disturbed: Vec<Record> = Vec::new();
    let mut faults = 0;
    let finished = loop {
        // Each attempt gets three calls further before the link is lost again.
        let mut lab = Formula { calls_left: Some(3), ..Formula::new() };
        let (outcome, all) = run(&settings, &mut lab, &disturbed);
        disturbed = all;
        match outcome {
            Ok(finished) => break finished,
            Err(SearchError::Fault(_)) => faults += 1,
            Err(other) => panic!("{other}"),
        }
        assert!(faults < 100);
    };
    assert!(faults > 3);
    assert_eq!(names(&finished), names(&result));
    assert_same(&disturbed, &lines, "");
    assert_eq!(disturbed.iter().filter(|line| matches!(line, Record::Fault(_))).count(), faults);
}

#[test]
fn a_time_budget_is_kept_and_survives_an_interruption() {
    let mut settings = settings(Preset::Edge, 7, 0);
    settings.budget = Budget::Time(Duration::from_mins(2));
    let mut lab = Formula::new();
    let (result, lines) = run(&settings, &mut lab, &[]);
    result.unwrap();
    let spent = lab.seconds.get();
    assert!((100.0..140.0).contains(&spent), "{spent} s of 120");
    let cut = lines.len() / 2;
    let elapsed = Replay::new(&lines[..cut]).elapsed().as_secs_f64();
    let mut lab = Formula { seconds: Cell::new(elapsed), ..Formula::new() };
    let (resumed, _) = run(&settings, &mut lab, &lines[..cut]);
    assert!(resumed.unwrap().finalists[0].trial.feasible);
    assert!((100.0..150.0).contains(&lab.seconds.get()), "{} s of 120", lab.seconds.get());
}

#[test]
fn time_that_settled_searchers_leave_goes_into_promotions_of_the_last_stage() {
    let mut settings = settings(Preset::Edge, 9, 0);
    settings.shares = Shares { reinforce: 1.0, random: 0.0, uniform: 0.0 };
    settings.budget = Budget::Time(Duration::from_mins(30));
    let count = settings.promotion.unwrap().count;
    let mut lab = Formula::new();
    let (result, lines) = run(&settings, &mut lab, &[]);
    let result = result.unwrap();
    let lineages = |stage: StageKind, promoted: bool| -> BTreeSet<String> {
        let trained = trials(&lines).into_iter().filter(|trial| trial.accuracy().is_some());
        trained
            .filter(|trial| trial.stage == stage && trial.update.is_none() == promoted)
            .map(|trial| trial.lineage.clone())
            .collect()
    };
    // More time than there are candidates for.
    assert_eq!(lineages(StageKind::Removal, true).len(), count);
    assert_eq!(lineages(StageKind::Shrinkage, true), lineages(StageKind::Shrinkage, false));
    assert!(lineages(StageKind::Shrinkage, true).len() > count);
    let (again, all) = run(&settings, &mut Replay::new(&lines), &lines);
    assert_eq!(names(&again.unwrap()), names(&result));
    assert_eq!(all.len(), lines.len() + 1, "a replay notes that it resumed, and writes nothing else");
}

#[test]
fn what_a_stage_leaves_over_the_next_one_has() {
    // Uniform width has nothing to do in the removal stage.
    let mut settings = settings(Preset::Edge, 8, 40);
    settings.shares = Shares { reinforce: 0.0, random: 0.0, uniform: 1.0 };
    let (result, lines) = run(&settings, &mut Formula::new(), &[]);
    let result = result.unwrap();
    let best = &result.finalists[0].trial;
    assert!(best.feasible && best.searcher == SearcherKind::Uniform && best.base == BaseKind::Teacher);
    assert!(trials(&lines).iter().all(|trial| trial.stage == StageKind::Shrinkage));
    assert!(trials(&lines).len() < 20, "bisection ends by itself");
    let mut settings = self::settings(Preset::Edge, 8, 40);
    settings.shares = Shares { reinforce: 0.0, random: 1.0, uniform: 0.0 };
    let (result, lines) = run(&settings, &mut Formula::new(), &[]);
    assert!(result.unwrap().finalists[0].trial.feasible);
    assert_eq!(trials(&lines).iter().filter(|trial| trial.update.is_some()).count(), 40);
}

#[test]
fn accuracy_and_size_ratios_are_always_against_the_original_teacher() {
    let (result, lines) = run(&settings(Preset::Paper, 9, 60), &mut Formula::new(), &[]);
    let result = result.unwrap();
    let params = teacher().network.cost().params as f64;
    assert!(trials(&lines).iter().any(|trial| trial.base == BaseKind::Winner));
    for trial in trials(&lines) {
        let (Some(accuracy), Some(resources)) = (trial.accuracy(), trial.resources) else { continue };
        let saved = 1.0 - resources.params as f64 / params;
        assert!((total(trial) - saved * (2.0 - saved) * accuracy / 0.9).abs() < 1e-9);
    }
    assert!(result.finalists.iter().all(|finalist| matches!(finalist.job.start, StartingWeights::Fresh)));
}

#[test]
fn in_edge_students_inherit_from_the_teacher_and_then_from_the_removal_student() {
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
    assert!(refused.unwrap_err().to_string().contains("`rollouts` differs: expected 5"));
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
        Settings { finalists: 0, ..good.clone() },
        Settings { shares: Shares { reinforce: 0.0, random: 0.0, uniform: 0.0 }, ..good.clone() },
        Settings { shares: Shares { reinforce: f64::NAN, random: 0.0, uniform: 0.0 }, ..good },
    ];
    for settings in wrong {
        assert!(matches!(run(&settings, &mut Formula::new(), &[]).0, Err(SearchError::Settings(_))));
    }
}

#[test]
fn a_policy_learned_on_a_small_teacher_starts_the_search_on_a_bigger_one() {
    let settings = settings(Preset::Edge, 12, 40);
    let (result, _) = run(&settings, &mut Formula::new(), &[]);
    let policies = result.unwrap().policies;
    let input = Input { channels: 3, height: 32, width: 32 };
    let network = zoo::build(zoo::Architecture::Resnet18, input, 10, 0.125).unwrap();
    let weights = Arc::new(inheritance::initial_weights(&network, 1));
    let measured = Formula::measurement(&network);
    let teacher = Teacher { network, weights, accuracy: 0.9, chance: 0.1, measured };
    let mut lab = Formula::new();
    let result = search(&settings, &teacher, &policies, &mut lab, &mut |_| Ok(()), &[], &mut |_| {}).unwrap();
    assert!(!result.finalists.is_empty());
    let broken = Policies { removal: Some(b"no policy".to_vec()), ..policies };
    let refused = search(&settings, &teacher, &broken, &mut lab, &mut |_| Ok(()), &[], &mut |_| {});
    assert!(matches!(refused, Err(SearchError::Policy(PolicyError::File(_)))));
}

#[test]
fn impossible_limits_end_with_no_finalist_that_meets_them() {
    let mut settings = settings(Preset::Edge, 13, 40);
    settings.limits = vec!["latency=0.001x".parse().unwrap()];
    let (result, lines) = run(&settings, &mut Formula::new(), &[]);
    let result = result.unwrap();
    assert!(result.finalists.iter().all(|finalist| !finalist.trial.feasible));
    assert!(result.least_violation.unwrap() > 1.0);
    assert!(trials(&lines).iter().all(|trial| !trial.feasible && trial.outcome == TrialOutcome::Skipped));
    let least = smallest(&teacher().network, 8);
    assert!(Formula::measurement(&least).latency_ns as f64 > 0.001 * teacher().measured.latency_ns as f64);
    assert!(least.cost().params < teacher().network.cost().params / 20);
}

/// About one network in sixteen, always the same ones.
fn some(network: &Network, which: u8) -> bool {
    network.digest().as_bytes().last() == Some(&which)
}

fn troubled() -> Formula {
    Formula { unknown: [|network| some(network, b'0'), |network| some(network, b'4')], ..Formula::new() }
}

#[test]
fn candidates_of_unknown_worth_are_out_of_their_batch_and_stop_no_search() {
    for preset in [Preset::Edge, Preset::Paper] {
        let settings = settings(preset, 4, 120);
        let (result, lines) = run(&settings, &mut troubled(), &[]);
        let result = result.unwrap();
        let unknown: Vec<&Trial> = trials(&lines)
            .into_iter()
            .filter(|trial| matches!(trial.outcome, TrialOutcome::Unknown { .. }))
            .collect();
        let steps: BTreeSet<_> = unknown
            .iter()
            .filter_map(|trial| match &trial.outcome {
                TrialOutcome::Unknown { step, .. } => Some(format!("{step:?}")),
                TrialOutcome::Trained { .. } | TrialOutcome::Skipped | TrialOutcome::Infeasible { .. } => {
                    None
                }
            })
            .collect();
        assert_eq!(steps, BTreeSet::from(["Measure".to_owned(), "Train".to_owned()]));
        assert!(unknown.iter().all(|trial| trial.reward.is_none() && !trial.feasible));
        let lineages: BTreeSet<&str> = unknown.iter().map(|trial| trial.lineage.as_str()).collect();
        assert!(!result.finalists.is_empty());
        assert!(result.finalists.iter().all(|finalist| !lineages.contains(finalist.trial.lineage.as_str())));

        let mut thinned = 0;
        for line in &lines {
            let Record::Update(update) = line else { continue };
            let batch = trials(&lines).into_iter().filter(|trial| {
                (trial.stage, trial.searcher, trial.update)
                    == (update.stage, update.searcher, Some(update.update))
            });
            let rewards: Vec<f64> =
                batch.filter_map(|trial| trial.reward.as_ref()).map(|reward| reward.total).collect();
            let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
            assert!((update.mean_reward - mean).abs() < 1e-9, "{update:?}");
            if let Some(learned) = &update.learned {
                assert_eq!(learned.advantages.len(), rewards.len(), "{update:?}");
                thinned += usize::from(rewards.len() < update.trials);
            }
        }
        assert!(thinned > 0, "the policy met some");
        let counted: usize =
            lines.iter().map(|line| if let Record::Stage(stage) = line { stage.unknown } else { 0 }).sum();
        assert_eq!(counted, unknown.len());

        // Interrupted anywhere, as through the journal's text, it goes the same way.
        for cut in [1, lines.len() / 3, lines.len() / 2, lines.len() - 1] {
            let read: Vec<Record> = lines[..cut]
                .iter()
                .map(|line| serde_json::from_str(&serde_json::to_string(line).unwrap()).unwrap())
                .collect();
            let (_, again) = run(&settings, &mut troubled(), &read);
            assert_same(&again, &lines, &format!("cut at {cut}"));
        }
    }
}

#[test]
fn a_search_that_can_judge_hardly_anything_ends_with_the_reasons_and_goes_on_once_they_are_mended() {
    let settings = settings(Preset::Edge, 4, 200);
    let mut broken = Formula { unknown: [|_| true, |_| false], ..Formula::new() };
    let (ended, first) = run(&settings, &mut broken, &[]);
    let error = ended.unwrap_err();
    let SearchError::Unknown { count, asked, .. } = &error else { panic!("{error}") };
    assert!(count == asked && *count <= 10 + settings.rollouts, "{error}");
    assert!(error.to_string().contains("the engine crashed on the model"), "{error}");
    assert!(matches!(first.last(), Some(Record::Fault(_))), "the journal says why");

    // What is known to be unknown stays so, and is not held against the search a second time.
    let (ended, second) = run(&settings, &mut broken, &first);
    assert!(matches!(ended, Err(SearchError::Unknown { .. })));
    assert!(trials(&second).len() > trials(&first).len(), "it went on where it was");
    let (mended, lines) = run(&settings, &mut Formula::new(), &second);
    assert!(!mended.unwrap().finalists.is_empty());
    assert!(trials(&lines).iter().any(|trial| trial.accuracy().is_some()));
}

#[test]
fn lines_of_a_journal_of_today_are_still_read() {
    let lines: Vec<Record> = include_str!("fixtures/journal-of-schema-2.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [Record::Started(_), Record::Trial(trial), Record::Update(_), Record::Stage(stage)] = &lines[..]
    else {
        panic!("{lines:?}")
    };
    assert!(total(trial) > 0.0 && trial.accuracy().is_some());
    assert_eq!((stage.trials, stage.unknown), (3, 0));
}
