//! The first batches of a search: the simple students.

use super::answer::Fault;
use super::cascade::Judged;
use super::effort::Budget;
use super::error::SearchError;
use super::evaluator::Evaluator;
use super::genome::{Genome, Shape};
use super::record::Purpose;
use super::search::Search;
use super::searcher::Proposal;
use super::settings::LONG_BATCH;
use super::simple;
use super::tape::Tape;

/// Share of the budget after which no more simple students are trained.
const SIMPLE_SHARE: f64 = 0.4;

impl Search<'_> {
    /// The students that anybody would try first: all looked at without training, then the best of those trained, a few at a
    /// time and uniform width first, for a part of the budget.
    pub(super) fn simple_students(
        &mut self,
        evaluator: &mut dyn Evaluator,
        tape: &mut Tape<'_>,
    ) -> Result<(), SearchError> {
        // A search by uniform width alone compares with nothing else.
        let only_uniform = self.seats.iter().all(|seat| seat.name == "uniform");
        let mut all = if only_uniform { vec![simple::uniform(&self.base)] } else { simple::all(&self.base) };
        if let Budget::Candidates(count) = self.spending.budget {
            all.truncate(count);
        }
        let now_ns = self.settle(evaluator, tape);
        let proposals: Vec<Proposal> =
            all.iter().map(|simple| Proposal::Fitted(simple.shape.clone())).collect();
        let names: Vec<String> = all.iter().map(|simple| simple.name.clone()).collect();
        let plan = self.plan(Purpose::Simple, simple::SIMPLE, 0.0, self.explore);
        let judged = self.batch(evaluator, tape, now_ns, &proposals, plan, Some(&names))?;
        self.spending.proposed += judged.len();
        let worth = |(simple, one): (simple::Simple, Judged)| {
            let quality = one.trial.quality().filter(|_| one.trial.feasible)?;
            Some((simple, one.trial.genome, quality))
        };
        let mut ranked: Vec<(simple::Simple, Genome, f64)> =
            all.into_iter().zip(judged).filter_map(worth).collect();
        if ranked.is_empty() {
            // None could be judged, or none kept the limits as measured: searchers start around uniform width all the same.
            self.simple = vec![(simple::uniform(&self.base).shape, 0.0)];
            return Ok(());
        }
        ranked.sort_by(|a, b| {
            let is_uniform = |it: &simple::Simple| it.name == simple::UNIFORM;
            is_uniform(&b.0).cmp(&is_uniform(&a.0)).then(b.2.total_cmp(&a.2))
        });
        let Some(rung) = self.settings.rungs.promote.filter(|rung| *rung != self.explore) else {
            self.simple = ranked.into_iter().map(|(simple, _, quality)| (simple.shape, quality)).collect();
            return Ok(());
        };
        let mut trained: Vec<(Shape, f64)> = Vec::new();
        for few in ranked.chunks(LONG_BATCH) {
            let now_ns = self.settle(evaluator, tape);
            if tape.is_live() && evaluator.cancelled() {
                return Err(Fault::Cancelled.into());
            }
            let spent = self.spending.spent(now_ns);
            let is_enough = !trained.is_empty() && spent + self.spending.half(rung, few.len()) > SIMPLE_SHARE;
            if self.spending.is_by_time() && (is_enough || spent >= 1.0) {
                break;
            }
            let proposals: Vec<Proposal> =
                few.iter().map(|(_, genome, _)| Proposal::Exact(genome.clone())).collect();
            let names: Vec<String> = few.iter().map(|(simple, ..)| simple.name.clone()).collect();
            let plan = self.plan(Purpose::Simple, simple::SIMPLE, 0.0, rung);
            let judged = self.batch(evaluator, tape, now_ns, &proposals, plan, Some(&names))?;
            for ((simple, ..), one) in few.iter().zip(judged) {
                if let Some(quality) = one.trial.quality().filter(|_| one.trial.feasible) {
                    trained.push((simple.shape.clone(), quality));
                }
            }
        }
        trained.sort_by(|a, b| b.1.total_cmp(&a.1));
        self.simple = if trained.is_empty() {
            ranked.into_iter().map(|(simple, _, quality)| (simple.shape, quality)).collect()
        } else {
            trained
        };
        self.refit();
        Ok(())
    }
}
