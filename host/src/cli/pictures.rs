//! The flags about a folder's pictures, the same for every verb that reads one; and reading them with a bar.

use super::{Context, target_board};
use crate::data::{self, DataSpec, Dataset, LoadOptions, Wishes};
use crate::exit::Failure;
use crate::model_io::onnx::Model;
use crate::network::Shape;

/// Largest edge that pictures are scaled to, pixels; networks of the zoo take no larger images.
const MAX_EDGE: u32 = 1024;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Pictures of a folder")]
pub(super) struct Args {
    /// Rows and columns that pictures are scaled to, as in 96x96 [default: the teacher's, else 32x32]
    #[arg(long, value_name = "HxW")]
    image_size: Option<String>,
    /// 1 for grey, 3 for colour [default: the teacher's, else 3]
    #[arg(long, value_name = "1|3")]
    channels: Option<usize>,
    /// What happens to pictures in other proportions: squash, crop or letterbox; the filter is Pillow's antialiased bilinear
    /// [default: the teacher's, else crop]
    #[arg(long, value_name = "RULE")]
    resize: Option<String>,
    /// Pictures of one subject, which go to one part together: auto (names with a number at their end), numbered, off, or a
    /// regular expression whose first group names the subject [default: the teacher's, else auto]
    #[arg(long, value_name = "HOW")]
    series: Option<String>,
    /// Deals the pictures to training, validation and test in another way [default: the teacher's]
    #[arg(long, value_name = "TEXT")]
    split_salt: Option<String>,
    /// Leave out pictures that cannot be read, at most 5 %
    #[arg(long)]
    skip_bad: bool,
}

impl Args {
    /// As far as the user says.
    pub(super) fn wishes(&self) -> Result<Wishes, Failure> {
        let wrong = |what: &str, expected: String| Failure::usage(format!("{what}: expected {expected}"));
        let channels = self.channels.map(|channels| match channels {
            1 | 3 => Ok(channels),
            other => Err(wrong("channels", format!("1 or 3, got {other}"))),
        });
        Ok(Wishes {
            image_size: self.image_size.as_deref().map(size).transpose()?,
            channels: channels.transpose()?,
            fit: self.resize.as_deref().map(str::parse).transpose().map_err(|it| wrong("resize", it))?,
            series: self.series.as_deref().map(str::parse).transpose().map_err(|it| wrong("series", it))?,
            split_salt: self.split_salt.clone(),
            skip_bad: self.skip_bad,
            unlabelled: None,
        })
    }
}

fn size(text: &str) -> Result<(u32, u32), Failure> {
    let sides =
        text.split_once('x').and_then(|(height, width)| Some((height.parse().ok()?, width.parse().ok()?)));
    sides
        .filter(|(height, width)| (1..=MAX_EDGE).contains(height) && (1..=MAX_EDGE).contains(width))
        .ok_or_else(|| {
            Failure::usage(format!(
                "image size `{text}`: expected rows and columns from 1 to {MAX_EDGE}, as in 96x96"
            ))
        })
}

/// What a teacher was trained on.
pub(super) fn of_teacher(teacher: &Model) -> Wishes {
    let shape = teacher.network.input_shape();
    let (image_size, channels) = match shape {
        Shape::Map { channels: channels @ (1 | 3), height, width } => {
            (Some((height as u32, width as u32)), Some(channels))
        }
        Shape::Map { .. } | Shape::Vector { .. } => (None, None),
    };
    Wishes {
        image_size,
        channels,
        fit: teacher.info.fit,
        series: teacher.info.split.as_ref().map(|split| split.series.clone()),
        split_salt: teacher.info.split.as_ref().map(|split| split.salt.clone()),
        skip_bad: false,
        unlabelled: None,
    }
}

/// Reads a data set, with a bar while pictures are decoded; they are kept decoded for the next time.
///
/// # Errors
/// See [`data::load`].
pub(super) fn load(
    spec: &DataSpec,
    wishes: Wishes,
    seed: u64,
    context: &Context,
) -> Result<Dataset, Failure> {
    let cache = target_board::home().ok().map(|home| home.pictures());
    let options = LoadOptions { seed, cache, ..wishes.options() };
    let mut bar = None;
    let dataset = data::load_told(spec, &options, &mut |done, all| {
        let bar = bar.get_or_insert_with(|| context.ui.progress("decoding pictures", all));
        bar.set(done, String::new());
    })?;
    Ok(dataset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rows_and_columns() {
        assert_eq!(size("96x128").unwrap(), (96, 128));
        for wrong in ["96", "96x", "0x9", "2000x2000", "3x96x96"] {
            assert!(size(wrong).unwrap_err().render().contains("96x96"), "{wrong}");
        }
    }
}
