//! The charts of the report as SVG text, drawn by `plotters`.
//!
//! Drawn in the light palette of `style.css`; the page's style sheet maps these very colours to its variables, so that
//! the same drawing serves dark screens. Legends are HTML, beside the drawing.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::contents::{Contents, Stage};

/// Text and axes.
pub(super) const INK: RGBColor = RGBColor(0x1B, 0x1F, 0x24);
/// Labels.
pub(super) const SOFT: RGBColor = RGBColor(0x5B, 0x65, 0x70);
/// Grid lines.
pub(super) const RULE: RGBColor = RGBColor(0xD9, 0xDD, 0xE2);
/// Background.
pub(super) const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
/// The learned policy, and the mean reward.
pub(super) const REINFORCE: RGBColor = RGBColor(0x2F, 0x6F, 0xDE);
/// Random search.
pub(super) const RANDOM: RGBColor = RGBColor(0x8A, 0x94, 0xA0);
/// Uniform width.
pub(super) const UNIFORM: RGBColor = RGBColor(0xC7, 0x7D, 0x0A);
/// Evolution with a predictor.
const EVOLUTION: RGBColor = RGBColor(0x7A, 0x4F, 0xCF);
/// Greedy steps.
const GREEDY: RGBColor = RGBColor(0x0F, 0x8B, 0x8D);
/// One-shot saliency.
const SALIENCY: RGBColor = RGBColor(0xB0, 0x48, 0x7B);
/// Searchers by the names of the registry, with their names in the style sheet and their colours.
pub(super) const SEARCHERS: [(&str, &str, RGBColor); 8] = [
    ("simple", "uniform", UNIFORM),
    ("uniform", "uniform", UNIFORM),
    ("reinforce", "reinforce", REINFORCE),
    ("paper", "reinforce", REINFORCE),
    ("random", "random", RANDOM),
    ("evolution", "evolution", EVOLUTION),
    ("greedy", "greedy", GREEDY),
    ("saliency", "saliency", SALIENCY),
];
/// What is good: the student, the quality part.
pub(super) const GOOD: RGBColor = RGBColor(0x14, 0x80, 0x4A);
/// Limits and penalties.
pub(super) const LIMIT: RGBColor = RGBColor(0xC2, 0x35, 0x2B);

/// Drawing size of the scatter, in SVG units; the page scales it.
const SCATTER_SIZE: (u32, u32) = (1000, 520);
/// Drawing size of a learning curve.
const CURVE_SIZE: (u32, u32) = (540, 300);
/// Up to so many points of a line are marked.
const FEW_POINTS: usize = 3;
/// Headroom around the data, as a share of its span.
const HEADROOM: f64 = 0.06;

/// Description of an axis that counts, and so has no decimals.
const UPDATE: &str = "batch";

/// Why a chart could not be drawn: what the drawing library says.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the chart: {0}")]
pub struct ChartError(String);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 's> = ChartContext<'a, SVGBackend<'s>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Colour of a searcher.
pub(super) fn searcher_colour(searcher: &str) -> RGBColor {
    SEARCHERS.iter().find(|(name, ..)| *name == searcher).map_or(SOFT, |(_, _, colour)| *colour)
}

/// Validation accuracy against measured latency: every candidate, the frontier, the limits, teacher and student.
/// `None` when there is nothing to show.
///
/// # Errors
/// The drawing library fails.
pub(super) fn scatter(contents: &Contents) -> Result<Option<String>, ChartError> {
    let points: Vec<(f64, f64, &str)> = contents
        .candidates
        .iter()
        .filter_map(|it| Some((it.latency_ns? / 1e6, it.accuracy? * 100.0, it.searcher.as_str())))
        .collect();
    let side = |side: &super::contents::Side| {
        let accuracy = side.validation_accuracy.or(side.test_accuracy)?;
        Some((side.latency_ns as f64 / 1e6, accuracy * 100.0))
    };
    let teacher = side(&contents.teacher);
    let student = contents.student.as_ref().and_then(side);
    let limits: Vec<f64> = contents.limits.iter().filter_map(|limit| Some(limit.latency_ns? / 1e6)).collect();
    if points.is_empty() && student.is_none() {
        return Ok(None);
    }

    let known = || points.iter().map(|it| (it.0, it.1)).chain(teacher).chain(student);
    let x =
        (0.0, known().map(|it| it.0).chain(limits.iter().copied()).fold(0.0, f64::max) * (1.0 + HEADROOM));
    let y = span(known().map(|it| it.1));
    let y = (y.0.max(0.0), y.1.min(100.0 + (y.1 - y.0) * HEADROOM));
    draw(SCATTER_SIZE, |area| {
        let engine = contents.engine.as_ref().map_or_else(String::new, |engine| format!(", {engine}"));
        let latency = format!("measured latency, ms (median, batch 1{engine})");
        let mut chart = axes(area, x, y, &latency, "validation accuracy, %")?;
        for &bound in &limits {
            chart.draw_series(DashedLineSeries::new(
                [(bound, y.0), (bound, y.1)],
                7,
                5,
                LIMIT.stroke_width(2),
            ))?;
        }
        chart.draw_series(LineSeries::new(frontier(&points), INK.mix(0.55).stroke_width(1)))?;
        chart.draw_series(
            points.iter().map(|&(x, y, who)| Circle::new((x, y), 4, searcher_colour(who).mix(0.6).filled())),
        )?;
        for (place, colour) in
            [teacher.map(|place| (place, INK)), student.map(|place| (place, GOOD))].into_iter().flatten()
        {
            diamond(&mut chart, place, 11, PAPER)?;
            diamond(&mut chart, place, 9, colour)?;
        }
        Ok(())
    })
    .map(Some)
}

/// Reward over the updates of one stage: every rollout, the mean, the best so far.
///
/// # Errors
/// The drawing library fails.
pub(super) fn rewards(stage: &Stage) -> Result<String, ChartError> {
    let all = || {
        stage.updates.iter().flat_map(|it| it.rewards.iter().map(move |&reward| (it.number as f64, reward)))
    };
    let (x, y) = (update_span(stage), span(all().map(|it| it.1)));
    let mut best = f64::NEG_INFINITY;
    let best: Vec<(f64, f64)> = stage
        .updates
        .iter()
        .map(|it| {
            best = it.rewards.iter().copied().fold(best, f64::max);
            (it.number as f64, best)
        })
        .collect();
    draw(CURVE_SIZE, |area| {
        let mut chart = axes(area, x, y, UPDATE, "reward")?;
        chart.draw_series(all().map(|place| Circle::new(place, 3, REINFORCE.mix(0.25).filled())))?;
        line(&mut chart, best, GOOD, 2)?;
        line(&mut chart, means(stage), REINFORCE, 3)?;
        Ok(())
    })
}

/// The parts of the reward over the updates of one stage; `None` if no part was journalled.
///
/// # Errors
/// The drawing library fails.
pub(super) fn parts(stage: &Stage) -> Result<Option<String>, ChartError> {
    let series = |part: fn(&super::contents::Update) -> Option<f64>| -> Vec<(f64, f64)> {
        stage.updates.iter().filter_map(|it| Some((it.number as f64, part(it)?))).collect()
    };
    let lines = [
        (series(|it| it.quality), GOOD),
        (series(|it| it.compression), UNIFORM),
        (series(|it| it.penalty), LIMIT),
    ];
    if lines.iter().all(|(line, _)| line.is_empty()) {
        return Ok(None);
    }
    let y = span(lines.iter().flat_map(|(line, _)| line.iter().map(|it| it.1)).chain([0.0, 1.0]));
    draw(CURVE_SIZE, |area| {
        let mut chart = axes(area, update_span(stage), y, UPDATE, "mean of the batch")?;
        for (values, colour) in lines {
            line(&mut chart, values, colour, 2)?;
        }
        Ok(())
    })
    .map(Some)
}

/// Candidates that no other beats in both latency and accuracy, as stairs from the fastest on.
fn frontier(points: &[(f64, f64, &str)]) -> Vec<(f64, f64)> {
    let mut sorted: Vec<(f64, f64)> = points.iter().map(|it| (it.0, it.1)).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut stairs: Vec<(f64, f64)> = Vec::new();
    for (latency, accuracy) in sorted {
        match stairs.last() {
            Some(&(_, best)) if accuracy <= best => {}
            Some(&(_, best)) => stairs.extend([(latency, best), (latency, accuracy)]),
            None => stairs.push((latency, accuracy)),
        }
    }
    stairs
}

/// Mean reward per update.
fn means(stage: &Stage) -> Vec<(f64, f64)> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let scored = stage.updates.iter().filter(|it| !it.rewards.is_empty());
    scored.map(|it| (it.number as f64, mean(&it.rewards))).collect()
}

/// From the first to the last update, at least two wide.
fn update_span(stage: &Stage) -> (f64, f64) {
    let last = stage.updates.iter().map(|it| it.number).max().unwrap_or(1).max(2);
    (1.0 - last as f64 * 0.02, last as f64 * 1.02)
}

/// Smallest and largest value with some headroom; never empty.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(it), high.max(it)));
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * HEADROOM).max(1e-3);
    (low - room, high + room)
}

/// Runs a drawing into SVG text.
fn draw(
    size: (u32, u32),
    body: impl for<'a, 's> FnOnce(&'a Area<'s>) -> Drawn,
) -> Result<String, ChartError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        body(&area).map_err(|error| ChartError(error.to_string()))?;
        area.present().map_err(|error| ChartError(error.to_string()))?;
    }
    Ok(svg)
}

/// Axes in the house style: horizontal grid lines only, units in the descriptions.
fn axes<'a, 's>(
    area: &'a Area<'s>,
    x: (f64, f64),
    y: (f64, f64),
    x_text: &str,
    y_text: &str,
) -> Drawn<Chart<'a, 's>> {
    let font = |size: i32, colour: RGBColor| ("sans-serif", size).into_font().color(&colour);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(52)
        .y_label_area_size(68)
        .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
    let decimals = |span: f64| usize::from(span < 20.0) + usize::from(span < 2.0);
    let label = |value: f64, span: f64| format!("{value:.*}", decimals(span));
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(RULE.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .axis_style(SOFT.mix(0.6))
        .label_style(font(17, SOFT))
        .axis_desc_style(font(17, INK))
        .x_labels(if x_text == UPDATE { ((x.1 - x.0).round() as usize + 1).min(8) } else { 8 })
        .y_labels(6)
        .x_label_formatter(&|value| {
            if x_text == UPDATE { format!("{value:.0}") } else { label(*value, x.1 - x.0) }
        })
        .y_label_formatter(&|value| label(*value, y.1 - y.0))
        .x_desc(x_text)
        .y_desc(y_text)
        .draw()?;
    Ok(chart)
}

/// A line through the points; the points themselves where there are too few for a line to be seen.
fn line(chart: &mut Chart<'_, '_>, points: Vec<(f64, f64)>, colour: RGBColor, width: u32) -> Drawn {
    if points.len() <= FEW_POINTS {
        chart.draw_series(points.iter().map(|&place| Circle::new(place, 2 * width, colour.filled())))?;
    }
    chart.draw_series(LineSeries::new(points, colour.stroke_width(width)))?;
    Ok(())
}

/// A diamond of that half-diagonal, in SVG units.
fn diamond(chart: &mut Chart<'_, '_>, place: (f64, f64), half: i32, colour: RGBColor) -> Drawn {
    let corners = vec![(0, -half), (half, 0), (0, half), (-half, 0)];
    chart.draw_series([EmptyElement::at(place) + Polygon::new(corners, colour.filled())])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_is_the_stairs_of_the_undominated() {
        let points =
            [(3.0, 90.0, "a"), (1.0, 70.0, "a"), (2.0, 60.0, "b"), (3.0, 80.0, "b"), (4.0, 91.0, "a")];
        assert_eq!(frontier(&points), [(1.0, 70.0), (3.0, 70.0), (3.0, 90.0), (4.0, 90.0), (4.0, 91.0)]);
    }

    #[test]
    fn a_span_of_nothing_or_of_one_value_can_still_be_drawn() {
        assert_eq!(span([].into_iter()), (0.0, 1.0));
        let (low, high) = span([5.0, f64::NAN].into_iter());
        assert!(low < 5.0 && high > 5.0);
    }
}
