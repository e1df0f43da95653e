//! How somebody's program uses a student: where it lies, what it takes, and two short programs that feed it.
//!
//! Text only. The README shows these very programs, and a test runs them.

use serde::{Deserialize, Serialize};

use crate::model_io::onnx::ModelInfo;
use crate::network::{Network, Shape};
use crate::normalisation::InputForm;
use crate::scaling::Fit;

/// Where the active student lies in an agent's data folder.
pub const SLOT: &str = "slots/active/model.onnx";

/// What a program has to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// What the file takes.
    pub input: InputForm,
    /// Channels, rows, columns.
    pub shape: [usize; 3],
    /// How pictures of any size become such.
    pub fit: Fit,
    /// In the order of the logits.
    pub classes: Vec<String>,
    /// Mean and deviation by channel, for files that do not normalise.
    pub mean: Vec<f32>,
    /// As `mean`.
    pub deviation: Vec<f32>,
}

impl Usage {
    /// Of a model file; `None` for one that takes no picture of one or three channels.
    pub fn of(network: &Network, info: &ModelInfo) -> Option<Self> {
        let Shape::Map { channels: channels @ (1 | 3), height, width } = network.input_shape() else {
            return None;
        };
        Some(Self {
            input: info.input,
            shape: [channels, height, width],
            // Images as published have the size already: every rule leaves them as they are.
            fit: info.fit.unwrap_or_default(),
            classes: info.classes.clone(),
            mean: info.normalisation.mean.clone(),
            deviation: info.normalisation.deviation.clone(),
        })
    }

    /// The input in words.
    pub fn input_words(&self) -> String {
        let [channels, height, width] = self.shape;
        let values = match self.input {
            InputForm::Plain => "float32, pixels from 0 to 1",
            InputForm::Uint8 => "uint8, pixels from 0 to 255",
            InputForm::Normalised => "float32, (pixel / 255 - mean) / deviation by channel",
        };
        let colours = if channels == 1 { "grey" } else { "red, green, blue" };
        format!(
            "`input` [1, {channels}, {height}, {width}], {values}, {colours}, pictures resized by `{}`",
            self.fit
        )
    }

    /// A program in Python with ONNX Runtime and Pillow.
    pub fn python(&self, model: &str) -> String {
        let [channels, height, width] = self.shape;
        let classes = serde_json::Value::from(self.classes.clone());
        let colours = if channels == 1 { "L" } else { "RGB" };
        let resize = match self.fit {
            Fit::Squash => {
                format!("    picture = picture.resize(({width}, {height}), Image.Resampling.BILINEAR)\n")
            }
            Fit::Crop => format!(
                "    scale = min(picture.width / {width}, picture.height / {height})\n\
                 \x20   width, height = int({width} * scale + 0.5), int({height} * scale + 0.5)\n\
                 \x20   left, top = (picture.width - width) // 2, (picture.height - height) // 2\n\
                 \x20   picture = picture.crop((left, top, left + width, top + height))\n\
                 \x20   picture = picture.resize(({width}, {height}), Image.Resampling.BILINEAR)\n"
            ),
            Fit::Letterbox => format!(
                "    scale = max(picture.width / {width}, picture.height / {height})\n\
                 \x20   small = picture.resize((max(1, int(picture.width / scale + 0.5)), max(1, int(picture.height / scale + 0.5))), Image.Resampling.BILINEAR)\n\
                 \x20   picture = Image.new(\"{colours}\", ({width}, {height}))\n\
                 \x20   picture.paste(small, (({width} - small.width) // 2, ({height} - small.height) // 2))\n"
            ),
        };
        let planes = if channels == 1 { "[None]" } else { ".transpose(2, 0, 1)" };
        let values = match self.input {
            InputForm::Plain => format!("numpy.asarray(picture, numpy.float32){planes} / 255"),
            InputForm::Uint8 => format!("numpy.asarray(picture, numpy.uint8){planes}"),
            InputForm::Normalised => format!(
                "(numpy.asarray(picture, numpy.float32){planes} / 255 - {}) / {}",
                column(&self.mean),
                column(&self.deviation)
            ),
        };
        format!(
            "import sys\n\
             import numpy, onnxruntime\n\
             from PIL import Image, ImageOps\n\
             \n\
             CLASSES = {classes}\n\
             session = onnxruntime.InferenceSession({model:?})\n\
             \n\
             def classify(path):\n\
             \x20   picture = ImageOps.exif_transpose(Image.open(path)).convert(\"RGBA\")\n\
             \x20   picture = Image.alpha_composite(Image.new(\"RGBA\", picture.size, \"white\"), picture).convert(\"{colours}\")\n\
             {resize}\
             \x20   pixels = {values}\n\
             \x20   return CLASSES[session.run(None, {{\"input\": pixels[None]}})[0][0].argmax()]\n\
             \n\
             for path in sys.argv[1:]:\n\
             \x20   print(path, classify(path))\n"
        )
    }

    /// A program in Rust with the crates `tract-onnx` and `image`.
    pub fn rust(&self, model: &str) -> String {
        let [channels, height, width] = self.shape;
        let classes: Vec<String> = self.classes.iter().map(|class| format!("{class:?}")).collect();
        let resize = match self.fit {
            Fit::Squash => format!(
                "        let picture = picture.resize_exact({width}, {height}, FilterType::Triangle);\n"
            ),
            Fit::Crop => format!(
                "        let scale = (f64::from(picture.width()) / {width}.0).min(f64::from(picture.height()) / {height}.0);\n\
                 \x20       let (width, height) = (({width}.0 * scale + 0.5) as u32, ({height}.0 * scale + 0.5) as u32);\n\
                 \x20       let (left, top) = ((picture.width() - width) / 2, (picture.height() - height) / 2);\n\
                 \x20       let picture = picture.crop_imm(left, top, width, height);\n\
                 \x20       let picture = picture.resize_exact({width}, {height}, FilterType::Triangle);\n"
            ),
            Fit::Letterbox => format!(
                "        let scale = (f64::from(picture.width()) / {width}.0).max(f64::from(picture.height()) / {height}.0);\n\
                 \x20       let side = |side: u32| ((f64::from(side) / scale + 0.5) as u32).max(1);\n\
                 \x20       let small = picture.resize_exact(side(picture.width()), side(picture.height()), FilterType::Triangle);\n\
                 \x20       let mut picture = DynamicImage::new_rgb8({width}, {height});\n\
                 \x20       let (left, top) = (({width} - small.width()) / 2, ({height} - small.height()) / 2);\n\
                 \x20       image::imageops::replace(&mut picture, &small.into_rgb8(), left.into(), top.into());\n"
            ),
        };
        let byte = if channels == 1 {
            "{\n            let [red, green, blue] = picture.get_pixel(x as u32, y as u32).0.map(u32::from);\n\
             \x20           ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16) as u8\n        }"
                .to_owned()
        } else {
            "{ picture.get_pixel(x as u32, y as u32)[channel] }".to_owned()
        };
        let (fact, value) = match self.input {
            InputForm::Plain => ("f32", "f32::from(byte(channel, y, x)) / 255.0".to_owned()),
            InputForm::Uint8 => ("u8", "byte(channel, y, x)".to_owned()),
            InputForm::Normalised => (
                "f32",
                format!(
                    "(f32::from(byte(channel, y, x)) / 255.0 - {:?}[channel]) / {:?}[channel]",
                    self.mean, self.deviation
                ),
            ),
        };
        let channel = if channels == 1 { "_channel" } else { "channel" };
        format!(
            "use image::{{DynamicImage, ImageDecoder, ImageReader, imageops::FilterType}};\n\
             use tract_onnx::prelude::*;\n\
             \n\
             const CLASSES: [&str; {}] = [{}];\n\
             \n\
             fn main() -> Result<(), Box<dyn std::error::Error>> {{\n\
             \x20   let mut model = tract_onnx::onnx().model_for_path({model:?})?;\n\
             \x20   model.set_input_fact(0, {fact}::fact([1, {channels}, {height}, {width}]).into())?;\n\
             \x20   let model = model.into_optimized()?.into_runnable()?;\n\
             \x20   for path in std::env::args().skip(1) {{\n\
             \x20       let mut decoder = ImageReader::open(&path)?.with_guessed_format()?.into_decoder()?;\n\
             \x20       let turned = decoder.orientation()?;\n\
             \x20       let mut picture = DynamicImage::from_decoder(decoder)?;\n\
             \x20       picture.apply_orientation(turned);\n\
             \x20       let rgba = picture.into_rgba8();\n\
             \x20       let on_white = image::RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {{\n\
             \x20           let [red, green, blue, alpha] = rgba.get_pixel(x, y).0.map(u32::from);\n\
             \x20           image::Rgb([red, green, blue].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8))\n\
             \x20       }});\n\
             \x20       let picture = DynamicImage::from(on_white);\n\
             {resize}\
             \x20       let picture = picture.into_rgb8();\n\
             \x20       let byte = |{channel}: usize, y: usize, x: usize| {byte};\n\
             \x20       let pixels = tract_ndarray::Array4::from_shape_fn((1, {channels}, {height}, {width}), |(_, channel, y, x)| {{\n\
             \x20           {value}\n\
             \x20       }});\n\
             \x20       let logits = model.run(tvec!(Tensor::from(pixels).into()))?;\n\
             \x20       let logits = logits[0].try_as_plain_ram()?.as_slice::<f32>()?;\n\
             \x20       let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0);\n\
             \x20       println!(\"{{path}} {{}}\", CLASSES[best]);\n\
             \x20   }}\n\
             \x20   Ok(())\n\
             }}\n",
            classes.len(),
            classes.join(", "),
        )
    }

    /// What goes in and comes out, by name.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("input", self.input_words()),
            ("output", format!("`logits` [1, {}]: the largest names the class", self.classes.len())),
            ("classes", self.classes.join(", ")),
        ]
    }
}

/// One number a channel, as NumPy lays it over planes.
fn column(numbers: &[f32]) -> String {
    format!("numpy.array({numbers:?}, numpy.float32)[:, None, None]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_say_what_the_file_takes() {
        let usage = |input, fit, channels| Usage {
            input,
            shape: [channels, 24, 40],
            fit,
            classes: vec!["ok".into(), "a \"dent\"".into()],
            mean: vec![0.5; channels],
            deviation: vec![0.25; channels],
        };
        let python = usage(InputForm::Uint8, Fit::Squash, 1).python("m.onnx");
        assert!(python.contains("convert(\"L\")") && python.contains("numpy.uint8)[None]\n"), "{python}");
        assert!(python.contains("resize((40, 24)") && python.contains("a \\\"dent\\\""), "{python}");
        let rust = usage(InputForm::Normalised, Fit::Letterbox, 3).rust("m.onnx");
        assert!(
            rust.contains("f32::fact([1, 3, 24, 40])") && rust.contains("[0.25, 0.25, 0.25][channel]"),
            "{rust}"
        );
        let words = usage(InputForm::Plain, Fit::Crop, 3).input_words();
        assert!(words.contains("[1, 3, 24, 40], float32, pixels from 0 to 1"), "{words}");
    }
}
