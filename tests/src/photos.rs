//! Folders of pictures as people have them: shapes on noise, in mixed sizes and formats.

use std::io;
use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// What is to be seen in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A bright disc.
    Circle,
    /// A bright square.
    Square,
    /// Bright stripes from side to side.
    Stripes,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Circle, Self::Square, Self::Stripes];

    /// Name of its class.
    pub fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Stripes => "stripes",
        }
    }

    fn covers(self, x: f64, y: f64) -> bool {
        match self {
            Self::Circle => x * x + y * y < 0.35,
            Self::Square => x.abs() < 0.5 && y.abs() < 0.5,
            Self::Stripes => (y * 6.0).rem_euclid(2.0) < 1.0,
        }
    }
}

/// A picture that no other number gives again; sizes, proportions and colours differ.
pub fn picture(shape: Shape, number: u32) -> RgbImage {
    let noise = |x: u32, y: u32| {
        let mut state =
            number.wrapping_mul(0x9E37_79B9) ^ (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663));
        state ^= state >> 15;
        state = state.wrapping_mul(0x2C1B_3C6D);
        state ^= state >> 12;
        (state % 70) as u8
    };
    let (width, height) = (40 + number * 37 % 90, 40 + number * 53 % 90);
    let (side, shift) = (f64::from(width.min(height)) / 2.0, f64::from(number % 7) / 30.0 - 0.1);
    RgbImage::from_fn(width, height, |x, y| {
        let across = (f64::from(x) - f64::from(width) / 2.0) / side - shift;
        let down = (f64::from(y) - f64::from(height) / 2.0) / side + shift;
        let base = noise(x, y);
        if shape.covers(across, down) {
            Rgb([base + 150, base + 120 + (number % 50) as u8, base + 100])
        } else {
            Rgb([base, base + 20, base + (number % 40) as u8])
        }
    })
}

/// Writes a picture in the format of its name.
///
/// # Errors
/// As for writing files.
pub fn save(path: &Path, image: RgbImage) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let format = ImageFormat::from_path(path).map_err(io::Error::other)?;
    let image = DynamicImage::from(image);
    let image = if format == ImageFormat::Gif { image.into_rgba8().into() } else { image };
    image.save_with_format(path, format).map_err(io::Error::other)
}

/// A folder for each of these shapes, with so many pictures each, in five formats.
///
/// # Errors
/// As for writing files.
pub fn folder(path: &Path, shapes: &[(Shape, u32)]) -> io::Result<()> {
    const ENDINGS: [&str; 5] = ["png", "jpg", "bmp", "webp", "tif"];
    for (class, &(shape, count)) in shapes.iter().enumerate() {
        for number in 0..count {
            let ending = ENDINGS[number as usize % ENDINGS.len()];
            let file = path.join(shape.name()).join(format!("img_{number:04}.{ending}"));
            save(&file, picture(shape, class as u32 * 10_000 + number))?;
        }
    }
    Ok(())
}
