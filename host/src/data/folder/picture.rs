//! One picture: from the bytes of its file to upright, scaled planes of bytes.
//!
//! Transparent pixels are laid on white. Scaling is Pillow's antialiased bilinear (`crate::scaling`), grey is Pillow's `L`.

use std::io::Cursor;

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, Limits, RgbImage};

use crate::scaling::Fit;

/// Pixels on one side of a picture before scaling.
pub(super) const MAX_EDGE: u32 = 16_384;
/// Memory to decode one picture, bytes.
const MAX_DECODE_BYTES: u64 = 512 << 20;

/// What pictures are made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Height, pixels.
    pub(super) height: u32,
    /// Width, pixels.
    pub(super) width: u32,
    /// 1 for grey, 3 for red, green, blue.
    pub(super) channels: usize,
    /// What happens to other proportions.
    pub(super) fit: Fit,
}

impl Form {
    /// Bytes of one.
    pub(super) fn bytes(self) -> usize {
        self.channels * self.height as usize * self.width as usize
    }
}

/// A picture, scaled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scaled {
    /// Channel by channel, row by row.
    pub(super) planes: Vec<u8>,
    /// Width and height of the upright original.
    pub(super) original: (u32, u32),
}

/// Decodes by content, since collections hold JPEG files called .png; turns it as its EXIF tag says; scales it. Of a moving
/// picture the first frame.
///
/// # Errors
/// Why it cannot be read, in words.
pub(super) fn scaled(bytes: &[u8], form: Form) -> Result<Scaled, String> {
    let upright = flat(upright(bytes)?);
    let original = upright.dimensions();
    let planes = match form.channels {
        1 => planes::<1>(&place(&grey(&upright), form)),
        _ => planes::<3>(&place(&upright, form)),
    };
    Ok(Scaled { planes, original })
}

fn upright(bytes: &[u8]) -> Result<DynamicImage, String> {
    let words = |error: image::ImageError| match error {
        image::ImageError::Unsupported(_) => "no picture in a format that is read here".into(),
        other => other.to_string(),
    };
    if bytes.is_empty() {
        return Err("an empty file".into());
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|it| it.to_string())?;
    let mut decoder = reader.into_decoder().map_err(words)?;
    let (width, height) = decoder.dimensions();
    if width.max(height) > MAX_EDGE || width.min(height) == 0 {
        return Err(format!("{width}x{height} pixels, expected 1 to {MAX_EDGE} a side"));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODE_BYTES);
    decoder.set_limits(limits).map_err(words)?;
    // A tag that cannot be read turns nothing.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(words)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Laid on white, in colour.
fn flat(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba = image.into_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let alpha = u32::from(from[3]);
        for channel in 0..3 {
            to[channel] = ((u32::from(from[channel]) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        }
    }
    rgb
}

/// ITU-R 601-2 luma in the integers of Pillow's `convert("L")`.
fn grey(image: &RgbImage) -> GrayImage {
    let mut grey = GrayImage::new(image.width(), image.height());
    for (to, from) in grey.pixels_mut().zip(image.pixels()) {
        let [red, green, blue] = from.0.map(u32::from);
        to[0] = ((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) as u8;
    }
    grey
}

type Buffer<P> = image::ImageBuffer<P, Vec<u8>>;

fn place<P: image::Pixel<Subpixel = u8> + 'static>(image: &Buffer<P>, form: Form) -> Buffer<P> {
    let to = (form.width, form.height);
    let placed = form.fit.place(image.dimensions(), to);
    let [left, top, width, height] = placed.window;
    let [across, down] = placed.scaled;
    let window = imageops::crop_imm(image, left, top, width, height);
    let scaled = if (width, height) == (across, down) {
        window.to_image()
    } else {
        imageops::resize(&*window, across, down, FilterType::Triangle)
    };
    if (across, down) == to {
        return scaled;
    }
    let mut whole = Buffer::new(form.width, form.height);
    imageops::replace(&mut whole, &scaled, placed.at[0].into(), placed.at[1].into());
    whole
}

fn planes<const CHANNELS: usize>(image: &[u8]) -> Vec<u8> {
    (0..CHANNELS).flat_map(|channel| image.iter().skip(channel).step_by(CHANNELS).copied()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use image::{ImageFormat, Rgb, Rgba, RgbaImage};
    use proptest::prelude::*;

    const FORM: Form = Form { height: 4, width: 4, channels: 3, fit: Fit::Squash };

    pub(in crate::data::folder) fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.into().write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    /// A JPEG file whose EXIF tag says how it is turned.
    fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        let mut file = jpeg[..2].to_vec();
        file.extend([0xff, 0xe1]);
        file.extend((exif.len() as u16 + 2).to_be_bytes());
        file.extend(exif);
        file.extend(&jpeg[2..]);
        file
    }

    /// Red, green, blue and white quarters, as they are to be seen.
    fn quarters() -> RgbImage {
        RgbImage::from_fn(32, 32, |x, y| match (x < 16, y < 16) {
            (true, true) => Rgb([220, 0, 0]),
            (false, true) => Rgb([0, 220, 0]),
            (true, false) => Rgb([0, 0, 220]),
            (false, false) => Rgb([220, 220, 220]),
        })
    }

    /// As a camera stores what is to be shown by this tag: the inverse of what the tag asks for.
    fn stored(image: &RgbImage, orientation: u8) -> RgbImage {
        match orientation {
            2 => imageops::flip_horizontal(image),
            3 => imageops::rotate180(image),
            4 => imageops::flip_vertical(image),
            5 => imageops::rotate270(&imageops::flip_horizontal(image)),
            6 => imageops::rotate270(image),
            7 => imageops::rotate90(&imageops::flip_horizontal(image)),
            8 => imageops::rotate90(image),
            _ => image.clone(),
        }
    }

    #[test]
    fn all_eight_orientations_are_obeyed() {
        let upright = scaled(&encoded(quarters(), ImageFormat::Png), FORM).unwrap();
        for orientation in 1..=8 {
            let jpeg = encoded(stored(&quarters(), orientation), ImageFormat::Jpeg);
            let got = scaled(&turned(&jpeg, orientation), FORM).unwrap();
            let worst =
                got.planes.iter().zip(&upright.planes).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
            assert!(worst < 40, "orientation {orientation} is off by {worst}");
            let plain = scaled(&jpeg, FORM).unwrap();
            assert_eq!(plain.planes == got.planes, orientation == 1, "orientation {orientation}");
        }
    }

    #[test]
    fn every_format_that_is_read_gives_the_same_picture() {
        let image = RgbImage::from_pixel(6, 5, Rgb([10, 200, 90]));
        for format in
            [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Gif]
        {
            let bytes = match format {
                ImageFormat::Gif => encoded(DynamicImage::from(image.clone()).into_rgba8(), format),
                _ => encoded(image.clone(), format),
            };
            let got = scaled(&bytes, FORM).unwrap();
            assert_eq!(got.original, (6, 5), "{format:?}");
            let near = |pixel: u8, value: u8| pixel.abs_diff(value) < 6;
            assert!(
                near(got.planes[0], 10) && near(got.planes[16], 200) && near(got.planes[32], 90),
                "{format:?}"
            );
        }
    }

    #[test]
    fn transparent_is_white_and_grey_is_pillows() {
        let clear = RgbaImage::from_pixel(3, 3, Rgba([9, 9, 9, 0]));
        assert_eq!(scaled(&encoded(clear, ImageFormat::Png), FORM).unwrap().planes, vec![255; 48]);
        let blue = RgbImage::from_pixel(3, 3, Rgb([0, 0, 255]));
        let grey = Form { channels: 1, ..FORM };
        assert_eq!(scaled(&encoded(blue, ImageFormat::Png), grey).unwrap().planes, vec![29; 16]);
    }

    #[test]
    fn rules_of_scaling_keep_what_they_promise() {
        // A white square in the middle of a wide, black picture.
        let wide =
            RgbImage::from_fn(24, 8, |x, _| if (8..16).contains(&x) { Rgb([255; 3]) } else { Rgb([0; 3]) });
        let png = encoded(wide, ImageFormat::Png);
        let grey = |fit| scaled(&png, Form { channels: 1, height: 6, width: 6, fit }).unwrap().planes;
        assert_eq!(grey(Fit::Crop), vec![255; 36]);
        let squashed = grey(Fit::Squash);
        assert!(squashed[0] == 0 && squashed[2] > 100, "{squashed:?}");
        let boxed = grey(Fit::Letterbox);
        assert_eq!((&boxed[..12], &boxed[24..]), ([0; 12].as_slice(), [0; 12].as_slice()));
    }

    #[test]
    fn a_picture_that_would_take_too_much_memory_is_refused_with_its_size() {
        // A PNG header that claims 16,385 x 1 pixels.
        let png = encoded(RgbaImage::new(MAX_EDGE + 1, 1), ImageFormat::Png);
        let error = scaled(&png, FORM).unwrap_err();
        assert_eq!(error, "16385x1 pixels, expected 1 to 16384 a side");
        assert_eq!(scaled(b"", FORM).unwrap_err(), "an empty file");
        assert!(scaled(b"<html>", FORM).unwrap_err().contains("no picture"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, place in 0_usize..200, value: u8) {
            prop_assert!(scaled(&bytes, FORM).is_err() || !bytes.is_empty());
            for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
                let mut file = encoded(RgbaImage::new(3, 2), format);
                let place = place % file.len();
                file[place] = value;
                let _ = scaled(&file, FORM);
            }
        }
    }

    /// The same picture by Pillow, for each rule: no pixel is off by more than one step.
    #[test]
    #[ignore = "needs a python (N2N_PYTHON names it) with pillow"]
    fn scaling_is_pillows() {
        const PILLOW: &str = r"
import sys
from PIL import Image
picture, fit, width, height = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
image = Image.open(picture).convert('RGB')
if fit == 'crop':
    scale = min(image.width / width, image.height / height)
    cut = min(image.width, int(width * scale + 0.5)), min(image.height, int(height * scale + 0.5))
    left, top = (image.width - cut[0]) // 2, (image.height - cut[1]) // 2
    image = image.crop((left, top, left + cut[0], top + cut[1]))
if fit == 'letterbox':
    scale = max(image.width / width, image.height / height)
    small = image.resize((int(image.width / scale + 0.5), int(image.height / scale + 0.5)), Image.Resampling.BILINEAR)
    image = Image.new('RGB', (width, height))
    image.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
else:
    image = image.resize((width, height), Image.Resampling.BILINEAR)
sys.stdout.buffer.write(image.tobytes())
";
        let python = std::env::var("N2N_PYTHON").unwrap_or_else(|_| "python3".into());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        // Sides in no simple ratio, larger and smaller than the result, with all that a filter can get wrong.
        for (width, height) in [(97_u32, 61_u32), (20, 41), (32, 24), (640, 479)] {
            let image = RgbImage::from_fn(width, height, |x, y| {
                let noise = (x * 7919 + y * 104_729 + x * y * 31) % 251;
                Rgb([noise as u8, (x * 255 / width) as u8, if (x / 3 + y / 5) % 2 == 0 { 255 } else { 0 }])
            });
            std::fs::write(&path, encoded(image, ImageFormat::Png)).unwrap();
            for fit in Fit::ALL {
                let form = Form { height: 24, width: 32, channels: 3, fit };
                let ours = scaled(&std::fs::read(&path).unwrap(), form).unwrap().planes;
                let output = std::process::Command::new(&python)
                    .args(["-c", PILLOW])
                    .arg(&path)
                    .args([fit.name(), "32", "24"])
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let theirs = planes::<3>(&output.stdout);
                assert_eq!(ours.len(), theirs.len());
                let worst = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                assert!(worst <= 1, "{width}x{height} {fit}: off by {worst}");
            }
        }
    }
}
