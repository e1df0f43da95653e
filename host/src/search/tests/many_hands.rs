//! One search on several machines: what they answer, and in which order, changes nothing.

use std::rc::Rc;

use rand_chacha::ChaCha8Rng;

use super::base::Base;
use super::evaluator::{Evaluated, Task};
use super::*;

/// Several pairs of hands, which complete what they were given in an order of their own.
struct Many<'a> {
    desks: Vec<Desk<'a, Formula>>,
    /// Of which desks an answer is still to come.
    busy: Vec<usize>,
    rng: ChaCha8Rng,
    submitted: usize,
}

impl<'a> Many<'a> {
    fn new(hands: &'a mut [Formula]) -> Self {
        let desks = hands.iter_mut().map(Desk::new).collect();
        Self { desks, busy: Vec::new(), rng: random::stream(1, "many hands"), submitted: 0 }
    }
}

impl Evaluator for Many<'_> {
    fn take(&mut self, base: &Rc<Base>) -> Result<(), Fault> {
        self.desks.iter_mut().try_for_each(|desk| desk.take(base))
    }

    fn submit(&mut self, tasks: Vec<Task>) -> Result<(), Fault> {
        for task in tasks {
            // Through text and back, as to another machine.
            let task: Task = serde_json::from_str(&serde_json::to_string(&task).unwrap()).unwrap();
            let desk = self.submitted % self.desks.len();
            self.submitted += 1;
            self.desks[desk].submit(vec![task])?;
            self.busy.push(desk);
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(usize, Evaluated), Fault> {
        let next = (random::uniform(&mut self.rng) * self.busy.len() as f64) as usize;
        let desk = self.busy.swap_remove(next.min(self.busy.len() - 1));
        self.desks[desk].complete()
    }

    fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault> {
        self.desks[0].weights(job)
    }

    fn give_up_at(&mut self, _deadline: Option<Duration>) {}

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_seed_repeats_on_any_number_of_hands() {
    let settings = settings(Preset::Edge, 18, 60);
    let (result, lines) = run(&settings, &mut Formula::new(), &[]);
    let result = result.unwrap();
    for count in [2, 5] {
        let mut hands: Vec<Formula> = (0..count).map(|_| Formula::new()).collect();
        let (again, all) = run_with(&settings, &mut Many::new(&mut hands), &[]);
        assert_eq!(names(&again.unwrap()), names(&result), "{count} pairs of hands");
        assert_same(&all, &lines, &format!("{count} pairs of hands"));
        assert!(hands.iter().all(|hands| hands.trained > 0 && hands.measured > 0), "all had work");
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_a_fault() {
    /// Answers each ticket twice.
    struct Twice<'a>(Desk<'a, Formula>, Option<(usize, Evaluated)>);
    impl Evaluator for Twice<'_> {
        fn take(&mut self, base: &Rc<Base>) -> Result<(), Fault> {
            self.0.take(base)
        }
        fn submit(&mut self, tasks: Vec<Task>) -> Result<(), Fault> {
            self.0.submit(tasks)
        }
        fn complete(&mut self) -> Result<(usize, Evaluated), Fault> {
            if let Some(again) = self.1.take() {
                return Ok(again);
            }
            let answer = self.0.complete()?;
            self.1 = Some(answer.clone());
            Ok(answer)
        }
        fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault> {
            self.0.weights(job)
        }
        fn give_up_at(&mut self, _deadline: Option<Duration>) {}
        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
        fn cancelled(&self) -> bool {
            false
        }
    }
    let mut hands = Formula::new();
    let mut twice = Twice(Desk::new(&mut hands), None);
    let (ended, _) = run_with(&settings(Preset::Edge, 18, 60), &mut twice, &[]);
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("nobody waits for"), "{error}");
}
