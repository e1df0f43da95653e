//! `n2n data inspect`: classes, counts, sizes and parts of a data set, and a sheet of its pictures.

use std::path::PathBuf;

use serde::Serialize;

use super::super::json::SCHEMA;
use super::super::{Context, output, pictures};
use super::sheet;
use crate::data::{DataSpec, Dataset};
use crate::exit::{Code, Failure};
use crate::{ui, units};

const EXAMPLES: &str = "\
Examples:
  n2n data inspect folder:photos
  n2n data inspect folder:photos --image-size 96x96 --resize letterbox --sheet photos.png";

/// Shows classes, counts, sizes and parts, as a training would see them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Images: bundled, or KIND:PATH with KIND one of fashion-mnist, mnist, idx, cifar10, cifar100, svhn, folder, npz
    #[arg(value_name = "KIND:PATH")]
    data: String,
    /// PNG file to write: the first pictures of each class in training, scaled as the network sees them
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    pictures: pictures::Args,
}

/// `n2n data inspect --json`.
#[derive(Serialize)]
struct Inspected {
    schema: u32,
    data: String,
    channels: usize,
    height: usize,
    width: usize,
    /// `crop` and so on; `null` where images are as published.
    scaled: Option<String>,
    classes: Vec<Class>,
    /// Width and height of the pictures as they lie in the folder.
    sizes: Option<Sizes>,
    /// Which pictures go to one part together; `null` where names do not decide.
    series: Option<String>,
    split_salt: String,
    /// Pictures that were left out because they cannot be read.
    skipped: usize,
    /// Copies that were left out.
    duplicates: usize,
    sheet: Option<String>,
}

#[derive(Serialize)]
struct Class {
    name: String,
    train: usize,
    validation_search: usize,
    validation_select: usize,
    test: usize,
}

#[derive(Serialize)]
struct Sizes {
    smallest: [u32; 2],
    median: [u32; 2],
    largest: [u32; 2],
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let spec: DataSpec = args.data.parse()?;
    let wishes = args.pictures.wishes()?;
    if let Some(sheet) = &args.sheet {
        output::check(sheet)?;
    }
    let dataset = pictures::load(&spec, wishes, 0, context)?;
    if let Some(path) = &args.sheet {
        sheet::write(&dataset, path)?;
    }
    let inspected = inspected(&spec, &dataset, args);
    context.ui.result(&inspected, || text(&inspected))?;
    Ok(Code::Done)
}

fn inspected(spec: &DataSpec, dataset: &Dataset, args: &Args) -> Inspected {
    let facts = &dataset.facts;
    let side = |(width, height): (u32, u32)| [width, height];
    let classes = dataset.classes.iter().zip(dataset.counts()).map(|(name, counts)| {
        let [train, validation_search, validation_select, test] = counts;
        Class { name: name.clone(), train, validation_search, validation_select, test }
    });
    Inspected {
        schema: SCHEMA,
        data: spec.to_string(),
        channels: dataset.train.channels,
        height: dataset.train.height,
        width: dataset.train.width,
        scaled: facts.scaled.clone(),
        classes: classes.collect(),
        sizes: facts.sizes.map(|sizes| Sizes {
            smallest: side(sizes.smallest),
            median: side(sizes.median),
            largest: side(sizes.largest),
        }),
        series: facts.series.as_ref().map(ToString::to_string),
        split_salt: facts.split_salt.clone(),
        skipped: facts.skipped.map_or(0, |skipped| skipped.pictures),
        duplicates: facts.duplicates,
        sheet: args.sheet.as_ref().map(|path| path.display().to_string()),
    }
}

fn text(it: &Inspected) -> String {
    let row = |name: &str, counts: [usize; 4]| {
        let all = counts.iter().sum::<usize>();
        let [train, search, select, test] = counts.map(|count| count.to_string());
        [name.to_owned(), train, search, select, test, all.to_string()]
    };
    let counts = |it: &Class| [it.train, it.validation_search, it.validation_select, it.test];
    let mut rows: Vec<[String; 6]> = it.classes.iter().map(|class| row(&class.name, counts(class))).collect();
    let whole = it
        .classes
        .iter()
        .fold([0; 4], |sum: [usize; 4], class| std::array::from_fn(|part| sum[part] + counts(class)[part]));
    rows.push(row("all", whole));
    let all: usize = whole.iter().sum();
    let share = |count: usize| units::percent(count as f64 / all.max(1) as f64);
    rows.push([
        "share".into(),
        share(whole[0]),
        share(whole[1]),
        share(whole[2]),
        share(whole[3]),
        String::new(),
    ]);
    let mut facts = vec![("images", {
        let scaled = it.scaled.as_ref().map_or_else(String::new, |scaled| format!(", scaled to {scaled}"));
        format!("{}x{}x{}{scaled}", it.channels, it.height, it.width)
    })];
    if let Some(sizes) = &it.sizes {
        let side = |[width, height]: [u32; 2]| format!("{width}x{height}");
        let (smallest, median, largest) = (side(sizes.smallest), side(sizes.median), side(sizes.largest));
        facts.push((
            "as they lie there",
            format!("{smallest} to {largest}, half of them up to {median} (width x height)"),
        ));
    }
    if let Some(series) = &it.series {
        facts.push(("series", series.clone()));
    }
    if it.skipped > 0 {
        facts.push(("left out", format!("{} pictures that cannot be read", it.skipped)));
    }
    if it.duplicates > 0 {
        facts
            .push(("duplicates", format!("{} copies in other parts than training, left out", it.duplicates)));
    }
    if let Some(sheet) = &it.sheet {
        facts.push(("sheet", sheet.clone()));
    }
    ui::table(["class", "train", "validation", "validation 2", "test", "all"], rows)
        + "\n\n"
        + &ui::facts(facts)
}
