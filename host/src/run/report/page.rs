//! The report as one HTML page: no script, no foreign resource, readable without a network.

use super::charts::{self, ChartError};
use super::contents::{Contents, LayerRow, Side, Stage};
use super::html::{all, escape, facts, figure, table};
use crate::units;

const STYLE: &str = include_str!("style.css");

/// The whole page.
///
/// # Errors
/// A chart cannot be drawn.
pub(super) fn render(contents: &Contents) -> Result<String, ChartError> {
    let mut body = heading(contents);
    body += &comparison(contents);
    body += &by_class(contents);
    body += &scatter(contents)?;
    for stage in &contents.stages {
        body += &curves(stage)?;
    }
    body += &architecture(&contents.layers);
    body += &conditions(contents);
    body += &times(contents);
    body += &usage(contents);
    body += "<h2>Configuration</h2>\n";
    body += &facts(&contents.facts);
    let name = escape(&contents.name);
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>n2n: {name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\
         <footer>Written by n2n {version}. Intervals of latencies are distribution-free intervals of the median over \
         worker processes. MiB = 1,048,576 bytes.</footer>\n</main>\n</body>\n</html>\n"
    ))
}

fn heading(contents: &Contents) -> String {
    let title = format!("<h1>{}</h1>\n", escape(&contents.name));
    let Some(student) = &contents.student else {
        return title
            + "<p class=\"note\">This run has no student yet: what follows is the search so far.</p>\n";
    };
    let teacher = &contents.teacher;
    let tiles = [
        (
            units::ratio(teacher.latency_ns as f64, student.latency_ns as f64),
            format!(
                "faster: {} to {}",
                units::latency(teacher.latency_ns),
                units::latency(student.latency_ns)
            ),
        ),
        (
            units::ratio(teacher.params as f64, student.params as f64),
            format!(
                "smaller: {} to {} parameters",
                units::count(teacher.params),
                units::count(student.params)
            ),
        ),
        (
            match contents.accuracy_difference {
                Some((middle, _, _)) => format!("{} pt", units::points(middle)),
                None => "unknown".into(),
            },
            format!(
                "points of test accuracy: {} to {}",
                percent_or_unknown(teacher.test_accuracy),
                percent_or_unknown(student.test_accuracy)
            ),
        ),
    ];
    let numbers = all(tiles
        .into_iter()
        .map(|(number, text)| format!("<div class=\"tile\"><b>{number}</b><span>{text}</span></div>")));
    let limits = all(contents.limits.iter().map(|limit| {
        let (class, verdict) = match limit.kept {
            Some(true) => ("good", "kept"),
            Some(false) => ("bad", "broken"),
            None => ("", "not checked"),
        };
        let student = limit.student.as_deref().unwrap_or("unknown");
        format!(
            "<div class=\"tile\"><b class=\"{class}\">{verdict}</b><span>limit {} = {}: student {}</span></div>",
            escape(&limit.metric),
            escape(&limit.bound),
            escape(student)
        )
    }));
    format!("{title}<div class=\"tiles\">{numbers}{limits}</div>\n")
}

fn percent_or_unknown(share: Option<f64>) -> String {
    share.map_or_else(|| "unknown".into(), units::percent)
}

fn comparison(contents: &Contents) -> String {
    let teacher = &contents.teacher;
    let student = contents.student.as_ref();
    let row = |name: &str, value: fn(&Side) -> String, change: String| {
        vec![name.into(), value(teacher), student.map_or_else(|| "-".into(), value), change]
    };
    let engine = contents.engine.as_ref().map_or_else(String::new, |engine| format!(" ({engine})"));
    let smaller = |value: fn(&Side) -> f64| {
        student.map_or_else(|| "-".into(), |student| units::ratio(value(teacher), value(student)))
    };
    let difference = match contents.accuracy_difference {
        Some((middle, low, high)) => {
            format!("{} points [{}, {}]", units::points(middle), units::points(low), units::points(high))
        }
        None => "-".into(),
    };
    let rows = [
        row("test accuracy", |side| percent_or_unknown(side.test_accuracy), difference),
        row("parameters", |side| units::count(side.params), smaller(|side| side.params as f64)),
        row("MACs", |side| units::count(side.macs), smaller(|side| side.macs as f64)),
        row(
            &format!("latency{engine}, median and interval"),
            |side| units::latency_with_interval(side.latency_ns, side.latency_interval_ns),
            smaller(|side| side.latency_ns as f64),
        ),
        row(
            "model memory",
            |side| units::bytes_or_unknown(side.model_memory_bytes),
            smaller(|side| side.model_memory_bytes.unwrap_or(0) as f64),
        ),
        row(
            "model file",
            |side| units::bytes_or_unknown(side.file_bytes),
            smaller(|side| side.file_bytes.unwrap_or(0) as f64),
        ),
    ];
    format!("<h2>Teacher and student</h2>\n{}", table(&["", "teacher", "student", "change"], rows))
}

fn by_class(contents: &Contents) -> String {
    if contents.classes.is_empty() {
        return String::new();
    }
    let rows = contents.classes.iter().map(|row| row.iter().map(|cell| escape(cell)).collect());
    let loss = match &contents.worst_loss {
        Some(loss) => format!("<p class=\"note\">Worst loss: {}.</p>\n", escape(loss)),
        None => String::new(),
    };
    let table = table(&["class (test images)", "teacher", "student", "points"], rows);
    format!("<h2>Accuracy by class</h2>\n{loss}{table}")
}

fn scatter(contents: &Contents) -> Result<String, ChartError> {
    let Some(svg) = charts::scatter(contents)? else { return Ok(String::new()) };
    let mut legend = vec![("diamond", "ink", "teacher")];
    if contents.student.is_some() {
        legend.push(("diamond", "good", "student"));
    }
    for (searcher, colour) in charts::SEARCHERS.map(|(searcher, style, _)| (searcher, style)) {
        if contents.candidates.iter().any(|it| it.searcher == searcher) {
            legend.push(("", colour, searcher));
        }
    }
    legend.push(("line", "ink", "best so far from the fastest on"));
    if contents.limits.iter().any(|limit| limit.latency_ns.is_some()) {
        legend.push(("line dashed", "limit", "latency limit"));
    }
    let trained = contents.candidates.iter().filter(|it| it.accuracy.is_some()).count();
    let aside = contents.set_aside.iter().map(|(reason, count)| format!("; {count} {}", escape(reason)));
    let note = format!("{trained} candidates were trained and are shown{}", all(aside));
    Ok(format!(
        "<h2>What the search saw</h2>\n<p class=\"note\">{note}. Candidates stand at the accuracy of their longest training in the \
         search, the student at that of its long one. Where the latency limit is a share of the teacher's, their \
         latencies are scaled by the board's drift since the search began.</p>\n{}",
        figure("Validation accuracy against measured latency of all candidates", &svg, &legend)
    ))
}

fn curves(stage: &Stage) -> Result<String, ChartError> {
    if stage.updates.iter().all(|update| update.rewards.is_empty()) {
        return Ok(String::new());
    }
    let rewards = figure(
        "Reward over the batches",
        &charts::rewards(stage)?,
        &[
            ("line", "reinforce", "mean of the batch"),
            ("line", "good", "best so far"),
            ("faint", "reinforce", "one candidate"),
        ],
    );
    let parts = match charts::parts(stage)? {
        Some(svg) => {
            let mut legend = Vec::new();
            if stage.updates.iter().any(|update| update.quality.is_some()) {
                legend.push(("line", "good", "quality"));
            }
            if stage.updates.iter().any(|update| update.compression.is_some()) {
                legend.push(("line", "uniform", "compression"));
            }
            legend.push(("line", "limit", "penalty of the limits"));
            figure("Parts of the reward over the batches", &svg, &legend)
        }
        None => String::new(),
    };
    Ok(format!(
        "<h2>Batches of {}</h2>\n<div class=\"pair\"><div><h3>Reward</h3>{rewards}</div>\
         <div><h3>Its parts</h3>{parts}</div></div>\n",
        escape(&stage.name)
    ))
}

fn architecture(layers: &[LayerRow]) -> String {
    let widest = layers.iter().map(|layer| layer.teacher_width).max().unwrap_or(1).max(1);
    let rows = layers.iter().map(|layer| {
        let share = |width: usize| width as f64 / widest as f64 * 100.0;
        let class = if layer.student_width.is_none() { " class=\"removed\"" } else { "" };
        let student = layer.student_width.map_or_else(|| "removed".into(), |width| width.to_string());
        let bar = format!(
            "<div class=\"bar\"><i class=\"teacher\" style=\"width:{:.1}%\"></i>\
             <i class=\"student\" style=\"width:{:.1}%\"></i></div>",
            share(layer.teacher_width),
            share(layer.student_width.unwrap_or(0))
        );
        vec![
            format!("<span{class}>{}</span>", escape(&layer.name)),
            escape(&layer.kind),
            layer.teacher_width.to_string(),
            format!("<span{class}>{student}</span>"),
            bar,
            units::count(layer.teacher_params),
            units::count(layer.student_params),
        ]
    });
    if layers.is_empty() {
        return String::new();
    }
    format!(
        "<h2>Architectures side by side</h2>\n<p class=\"note\">Width is channels or features written. The grey bar is \
         the teacher's, the coloured one what the student keeps of it.</p>\n{}",
        table(
            &["layer", "kind", "teacher width", "student width", "", "teacher params", "student params"],
            rows
        )
    )
}

fn usage(contents: &Contents) -> String {
    let Some(usage) = &contents.usage else { return String::new() };
    let programs = usage
        .programs
        .iter()
        .map(|(name, text)| format!("<h3>{}</h3>\n<pre>{}</pre>\n", escape(name), escape(text)));
    format!("<h2>Use it in a program</h2>\n{}{}", facts(&usage.facts), all(programs))
}

fn conditions(contents: &Contents) -> String {
    if contents.conditions.is_empty() {
        return String::new();
    }
    let rows = contents
        .conditions
        .iter()
        .map(|(name, teacher, student)| vec![escape(name), escape(teacher), escape(student)]);
    format!(
        "<h2>How it was measured</h2>\n<div class=\"words\">{}</div>",
        table(&["", "teacher", "student"], rows)
    )
}

fn times(contents: &Contents) -> String {
    let total: f64 = contents.times.iter().map(|(_, seconds)| seconds).sum();
    if total <= 0.0 {
        return String::new();
    }
    let rows = contents.times.iter().map(|(name, seconds)| {
        let share = seconds / total * 100.0;
        vec![
            escape(name),
            units::duration(std::time::Duration::from_secs_f64(seconds.max(0.0))),
            format!("{share:.0} %"),
            format!("<div class=\"bar\"><i class=\"student\" style=\"width:{share:.1}%\"></i></div>"),
        ]
    });
    format!("<h2>Where the time went</h2>\n{}", table(&["", "time", "share", ""], rows))
}
