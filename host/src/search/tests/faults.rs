//! Searches in a world that breaks: killed, cut off from their board, or told that the world cannot tell.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn policies_search_on_when_no_simple_student_can_be_judged() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let first_eight: fn(&Network) -> bool = |_| SEEN.fetch_add(1, Ordering::Relaxed) < 8;
    let settings = Settings { searchers: only("reinforce"), ..settings(Preset::Edge, 16, 60) };
    let mut lab = Formula { unknown: [first_eight, |_| false], ..Formula::new() };
    let (result, lines) = run(&settings, &mut lab, &[]);
    assert!(!result.unwrap().finalists.is_empty());
    assert!(trials(&lines).iter().any(|trial| trial.searcher == "reinforce" && trial.feasible));
}

#[test]
fn a_search_killed_at_any_line_ends_like_an_undisturbed_one() {
    let settings = settings(Preset::Edge, 5, 40);
    let (result, lines) = run(&settings, &mut Formula::new(), &[]);
    let result = result.unwrap();
    for cut in (0..lines.len()).step_by(11).chain([1, 2, lines.len() - 1]) {
        let mut lab = Formula::new();
        let (resumed, all) = run(&settings, &mut lab, &lines[..cut]);
        assert_eq!(names(&resumed.unwrap()), names(&result), "cut at line {cut}");
        assert_same(&all, &lines, &format!("cut at line {cut}"));
        let fresh = |lines: &[Record]| {
            trials(lines).iter().filter(|trial| trial.accuracy().is_some() && !trial.known).count()
        };
        // Of the batch that was cut, what stands in the journal is not asked again.
        assert!(lab.trained <= fresh(&lines) - fresh(&lines[..cut]) + 1, "cut at line {cut}");
    }
}

#[test]
fn a_fault_is_never_scored_and_the_search_goes_on_as_if_it_had_not_been() {
    let settings = settings(Preset::Edge, 6, 40);
    let (result, lines) = run(&settings, &mut Formula::new(), &[]);
    let result = result.unwrap();
    let mut disturbed: Vec<Record> = Vec::new();
    let mut faults = 0;
    let finished = loop {
        // Each attempt gets some calls further before the link is lost again.
        let mut lab = Formula { calls_left: Some(9), ..Formula::new() };
        let (outcome, all) = run(&settings, &mut lab, &disturbed);
        disturbed = all;
        match outcome {
            Ok(finished) => break finished,
            Err(SearchError::Fault(_)) => faults += 1,
            Err(other) => panic!("{other}"),
        }
        assert!(faults < 100);
    };
    assert!(faults > 1, "{faults}");
    assert_eq!(names(&finished), names(&result));
    assert_same(&disturbed, &lines, "");
    assert_eq!(disturbed.iter().filter(|line| matches!(line, Record::Fault(_))).count(), faults);
}

#[test]
fn what_the_world_cannot_tell_is_out_of_its_batch_and_of_the_result() {
    let wide = |network: &Network| network.cost().params.is_multiple_of(17);
    let other = |network: &Network| network.cost().params.is_multiple_of(13);
    let settings = Settings {
        searchers: vec![("reinforce".to_owned(), 1.0), ("random".to_owned(), 1.0)],
        ..settings(Preset::Edge, 12, 120)
    };
    let troubled = || Formula { unknown: [wide, other], ..Formula::new() };
    let (result, lines) = run(&settings, &mut troubled(), &[]);
    let (result, all) = (result.unwrap(), trials(&lines));
    let unknown: Vec<&&Trial> =
        all.iter().filter(|trial| matches!(trial.outcome, TrialOutcome::Unknown { .. })).collect();
    let at = |wanted: Step| {
        let is_at =
            |trial: &&&&Trial| matches!(trial.outcome, TrialOutcome::Unknown { step, .. } if step == wanted);
        unknown.iter().filter(is_at).count()
    };
    assert!(at(Step::Measure) > 0 && at(Step::Train) > 0);
    assert!(unknown.iter().all(|trial| trial.reward.is_none() && !trial.feasible));
    let lineages: BTreeSet<&str> = unknown.iter().map(|trial| trial.lineage.as_str()).collect();
    assert!(result.finalists.iter().all(|finalist| !lineages.contains(finalist.trial.lineage.as_str())));
    for line in &lines {
        let Record::Update(update) = line else { continue };
        let batch = all.iter().filter(|trial| trial.batch == update.batch);
        let rewards: Vec<f64> =
            batch.filter_map(|trial| trial.reward.as_ref()).map(|reward| reward.total).collect();
        if let Some(learned) = &update.learned {
            assert_eq!(learned.advantages.len(), rewards.len(), "{update:?}");
        }
    }
    let Some(Record::Finished(finished)) = lines.last() else { panic!("{:?}", lines.last()) };
    assert_eq!(finished.unknown, unknown.len());
    for cut in [1, lines.len() / 3, lines.len() / 2, lines.len() - 1] {
        let (_, again) = run(&settings, &mut troubled(), &lines[..cut]);
        assert_same(&again, &lines, &format!("cut at {cut}"));
    }
}

#[test]
fn a_search_that_can_judge_hardly_anything_ends_with_the_reasons_and_goes_on_once_they_are_mended() {
    let settings = settings(Preset::Edge, 4, 200);
    let mut broken = Formula { unknown: [|_| true, |_| false], ..Formula::new() };
    let (ended, first) = run(&settings, &mut broken, &[]);
    let error = ended.unwrap_err();
    let SearchError::Unknown { count, asked, .. } = &error else { panic!("{error}") };
    assert!(count == asked && *count <= 10 + 2 * settings.rollouts, "{error}");
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
fn what_is_in_flight_when_the_budget_ends_is_given_up_and_can_be_done_with_a_larger_one() {
    let budget = Budget::Time(Duration::from_mins(1));
    let settings = Settings { budget, ..settings(Preset::Edge, 17, 0) };
    // One of the first trainings takes longer than all of the budget.
    let slow = |seconds: f64| Formula { seconds_a_step: 0.2, seconds: Cell::new(seconds), ..Formula::new() };
    let mut lab = slow(0.0);
    let (result, lines) = run(&settings, &mut lab, &[]);
    let result = result.unwrap();
    assert!(lab.seconds.get() <= 63.1, "{} s of 60", lab.seconds.get());
    let late = |lines: &[Record]| -> Vec<String> {
        let is_late = |trial: &&Trial| trial.outcome == TrialOutcome::Late;
        trials(lines).into_iter().filter(is_late).map(|trial| trial.lineage.clone()).collect()
    };
    assert_eq!(late(&lines).len(), 2);
    assert_eq!((result.counts.late, result.counts.trained), (2, 0));
    assert!(!result.finalists.is_empty(), "what was only looked at is there all the same");

    let (again, all) = run(&settings, &mut Replay::new(&lines), &lines);
    assert_eq!(names(&again.unwrap()), names(&result));
    assert!(matches!(&all[lines.len()..], [Record::Resumed(_)]));

    let more = Settings { extensions: vec![Budget::Time(Duration::from_mins(20))], ..settings };
    let mut lab = slow(lab.seconds.get());
    let (large, all) = run(&more, &mut lab, &lines);
    assert!(large.unwrap().counts.trained > 3);
    let trained: BTreeSet<&str> =
        trials(&all).into_iter().filter(|trial| trial.was_trained()).map(|it| it.lineage.as_str()).collect();
    assert!(late(&lines).iter().any(|lineage| trained.contains(lineage.as_str())), "{trained:?}");
}
