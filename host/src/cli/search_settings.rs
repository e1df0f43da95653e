//! The words of `--limit`, `--budget`, `--preset`, `--reward`, `--objective` and `--searchers` as checked settings of a search.

use crate::exit::{Failure, ResultExt as _};
use crate::search::registry::SEARCHERS;
use crate::search::{Budget, Limit, Metric, Preset};
use crate::training::Weighing;

/// Most candidates that make sense to ask for.
const MAX_CANDIDATES: usize = 1_000_000;

/// `30min`, `2h 15m`, `200candidates`.
pub(super) fn budget(text: &str) -> Result<Budget, Failure> {
    let wrong = |why: String| {
        Failure::usage(format!("budget `{text}`: {why}"))
            .hint("write a time, as in 30min, or a number, as in 200candidates")
    };
    if let Some(number) =
        text.trim().strip_suffix("candidates").or_else(|| text.trim().strip_suffix("candidate"))
    {
        let count = number.trim().parse().ok().filter(|count| (1..=MAX_CANDIDATES).contains(count));
        return count.map(Budget::Candidates).ok_or_else(|| {
            wrong(format!("expected 1 to {MAX_CANDIDATES} candidates, got `{}`", number.trim()))
        });
    }
    match humantime::parse_duration(text.trim()) {
        Ok(time) if time.is_zero() => Err(wrong("expected more than no time".into())),
        Ok(time) => Ok(Budget::Time(time)),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// `edge` or `paper`.
pub(super) fn preset(text: &str) -> Result<Preset, Failure> {
    Preset::named(text).ok_or_else(|| Failure::usage(format!("preset `{text}`: expected edge or paper")))
}

/// `images` or `balanced`.
pub(super) fn weighing(text: &str) -> Result<Weighing, Failure> {
    match text {
        "images" => Ok(Weighing::Images),
        "balanced" => Ok(Weighing::Classes),
        _ => Err(Failure::usage(format!("reward `{text}`: expected images or balanced"))),
    }
}

/// What is to be made small: `smallest`, `fastest`, or a metric itself; nothing for `most-accurate`.
pub(super) fn objective(text: &str) -> Result<Option<Metric>, Failure> {
    match text {
        "most-accurate" => Ok(None),
        "smallest" => Ok(Some(Metric::Params)),
        "fastest" => Ok(Some(Metric::Latency)),
        _ => text.parse().map(Some).map_err(|_| {
            Failure::usage(format!(
                "objective `{text}`: expected most-accurate, smallest, fastest, or a metric of --limit"
            ))
        }),
    }
}

/// What a student has to keep.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Bounds {
    /// On what it costs.
    pub limits: Vec<Limit>,
    /// Accuracy that it may lose against the teacher, a share.
    pub accuracy_loss: Option<f64>,
}

/// `-1pt`, `-0.5pt`: points of accuracy that may be lost, as a share.
fn accuracy_loss(text: &str) -> Result<f64, Failure> {
    let points = text.trim().strip_prefix('-').and_then(|rest| rest.strip_suffix("pt"));
    let points = points.and_then(|points| points.trim().parse::<f64>().ok());
    points.filter(|points| (0.0..100.0).contains(points)).map(|points| points / 100.0).ok_or_else(|| {
        Failure::usage(format!(
            "limit accuracy={text}: expected points that may be lost, as in accuracy=-1pt"
        ))
    })
}

/// All limits; two of one metric are an error.
pub(super) fn limits(texts: &[String]) -> Result<Bounds, Failure> {
    let mut bounds = Bounds::default();
    for text in texts {
        if let Some(("accuracy", loss)) = text.split_once('=').map(|(metric, loss)| (metric.trim(), loss)) {
            if bounds.accuracy_loss.replace(accuracy_loss(loss)?).is_some() {
                return Err(Failure::usage("limit on accuracy: given twice"));
            }
            continue;
        }
        let limits = &mut bounds.limits;
        let limit: Limit = text
            .parse()
            .map_err(Failure::usage)
            .hint("write METRIC=BOUND, as in latency=5ms, model_memory=20MiB or params=0.2x")?;
        if limits.iter().any(|it| it.metric == limit.metric) {
            return Err(Failure::usage(format!("limit on {}: given twice", limit.metric)));
        }
        limits.push(limit);
    }
    Ok(bounds)
}

/// `reinforce=3,random=1`: who spends how much of the budget; whoever is not named gets nothing.
pub(super) fn searchers(text: &str) -> Result<Vec<(String, f64)>, Failure> {
    let names = || SEARCHERS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
    let wrong = || {
        Failure::usage(format!("searchers `{text}`: expected NAME=SHARE with NAME one of {}", names()))
            .hint("only ratios count, as in reinforce=3,random=1")
    };
    let mut searchers: Vec<(String, f64)> = Vec::new();
    for part in text.split(',') {
        let (name, share) = part.split_once('=').unwrap_or((part, "1"));
        let share: f64 = share.trim().parse().map_err(|_| wrong())?;
        let name = name.trim();
        let known = SEARCHERS.iter().any(|entry| entry.name == name);
        if !known || !share.is_finite() || share < 0.0 || searchers.iter().any(|it| it.0 == name) {
            return Err(wrong());
        }
        searchers.push((name.to_owned(), share));
    }
    if searchers.iter().map(|it| it.1).sum::<f64>() <= 0.0 {
        return Err(wrong());
    }
    Ok(searchers)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn budgets_are_times_or_candidates() {
        assert_eq!(budget("30min").unwrap(), Budget::Time(Duration::from_mins(30)));
        assert_eq!(budget("2h 15m").unwrap(), Budget::Time(Duration::from_mins(135)));
        assert_eq!(budget("200candidates").unwrap(), Budget::Candidates(200));
        assert_eq!(budget(" 1 candidate").unwrap(), Budget::Candidates(1));
        for text in ["", "0s", "30", "-5min", "0candidates", "candidates", "2000000candidates", "5 apples"] {
            let text = budget(text).unwrap_err().render();
            assert!(text.contains("hint: write a time"), "{text}");
        }
    }

    #[test]
    fn a_metric_cannot_be_limited_twice() {
        assert_eq!(limits(&["latency=5ms".into(), "params=0.2x".into()]).unwrap().limits.len(), 2);
        assert!(limits(&["memory=5MiB".into(), "model_memory=0.2x".into()]).is_err());
        assert!(limits(&["latency=5".into()]).unwrap_err().render().contains("hint:"));
    }

    #[test]
    fn accuracy_is_limited_by_what_may_be_lost() {
        let bounds = limits(&["accuracy=-1pt".into(), "params=0.2x".into()]).unwrap();
        assert_eq!((bounds.accuracy_loss, bounds.limits.len()), (Some(0.01), 1));
        assert_eq!(limits(&["accuracy = -0.5 pt".into()]).unwrap().accuracy_loss, Some(0.005));
        for wrong in ["accuracy=90%", "accuracy=1pt", "accuracy=-pt", "accuracy=-200pt", "accuracy=-NaNpt"] {
            let text = limits(&[wrong.into()]).unwrap_err().render();
            assert!(text.contains("as in accuracy=-1pt"), "{text}");
        }
        assert!(limits(&["accuracy=-1pt".into(), "accuracy=-2pt".into()]).is_err());
    }

    #[test]
    fn shares_name_searchers() {
        let mixed = searchers("reinforce=3, random=1").unwrap();
        assert_eq!(mixed, [("reinforce".to_owned(), 3.0), ("random".to_owned(), 1.0)]);
        assert_eq!(searchers("uniform").unwrap(), [("uniform".to_owned(), 1.0)]);
        for text in ["", "nobody=1", "random=-1", "random=x", "random=0", "random,random"] {
            assert!(searchers(text).is_err(), "{text}");
        }
    }

    #[test]
    fn objectives_and_presets_are_words() {
        assert_eq!(objective("smallest").unwrap(), Some(Metric::Params));
        assert_eq!(objective("fastest").unwrap(), Some(Metric::Latency));
        assert_eq!(objective("macs").unwrap(), Some(Metric::Macs));
        assert_eq!(objective("most-accurate").unwrap(), None);
        assert!(objective("best").is_err() && preset("fast").is_err());
        assert_eq!(preset("paper").unwrap(), Preset::Paper);
    }
}
