//! How a picture of any size becomes one of a network's size: stated by a model file, asked for by a flag, done by whoever
//! feeds the network. Numbers only: no code here touches a pixel.
//!
//! Every rule scales with Pillow's antialiased bilinear filter (`Image.resize(size, Image.Resampling.BILINEAR)`), so that a
//! program in Python sees what was trained on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What happens to a picture whose sides are in another proportion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Its proportions change.
    Squash,
    /// The largest window of the right proportions is cut from its middle.
    #[default]
    Crop,
    /// It is made to fit whole; what is left over above, below or beside it is black.
    Letterbox,
}

/// What is done with the pixels of one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Window that is cut out: left, top, width, height.
    pub window: [u32; 4],
    /// Width and height that it is scaled to.
    pub scaled: [u32; 2],
    /// Where that lies in the result: left, top.
    pub at: [u32; 2],
}

impl Fit {
    /// All rules.
    pub const ALL: [Self; 3] = [Self::Squash, Self::Crop, Self::Letterbox];

    /// As on the command line and in model files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Squash => "squash",
            Self::Crop => "crop",
            Self::Letterbox => "letterbox",
        }
    }

    /// From a picture of `width` x `height` to one of `to` (width, height); all above 0.
    pub fn place(self, (width, height): (u32, u32), to: (u32, u32)) -> Placement {
        let across = f64::from(width) / f64::from(to.0);
        let down = f64::from(height) / f64::from(to.1);
        // Halves up, as `int(x + 0.5)` in any language.
        let rounded = |value: f64, most: u32| ((value + 0.5).floor() as u32).clamp(1, most);
        match self {
            Self::Squash => Placement { window: [0, 0, width, height], scaled: [to.0, to.1], at: [0, 0] },
            Self::Crop => {
                let scale = across.min(down);
                let cut = [rounded(f64::from(to.0) * scale, width), rounded(f64::from(to.1) * scale, height)];
                let window = [(width - cut[0]) / 2, (height - cut[1]) / 2, cut[0], cut[1]];
                Placement { window, scaled: [to.0, to.1], at: [0, 0] }
            }
            Self::Letterbox => {
                let scale = across.max(down);
                let scaled =
                    [rounded(f64::from(width) / scale, to.0), rounded(f64::from(height) / scale, to.1)];
                let at = [(to.0 - scaled[0]) / 2, (to.1 - scaled[1]) / 2];
                Placement { window: [0, 0, width, height], scaled, at }
            }
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fit {
    /// What was expected.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|fit| fit.name() == text)
            .ok_or_else(|| format!("squash, crop or letterbox, got `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for fit in Fit::ALL {
            assert_eq!(fit.name().parse(), Ok(fit));
        }
        assert!("stretch".parse::<Fit>().unwrap_err().contains("letterbox"));
    }

    #[test]
    fn a_wide_picture_is_squashed_cut_or_laid_on_black() {
        let place = |fit: Fit| fit.place((200, 100), (32, 32));
        assert_eq!(place(Fit::Squash).window, [0, 0, 200, 100]);
        assert_eq!(place(Fit::Crop).window, [50, 0, 100, 100]);
        let boxed = place(Fit::Letterbox);
        assert_eq!((boxed.scaled, boxed.at), ([32, 16], [0, 8]));
    }

    #[test]
    fn a_picture_of_the_right_proportions_is_scaled_whole_by_every_rule() {
        for fit in Fit::ALL {
            let placed = fit.place((96, 64), (48, 32));
            assert_eq!(placed, Placement { window: [0, 0, 96, 64], scaled: [48, 32], at: [0, 0] });
        }
    }

    #[test]
    fn the_thinnest_picture_keeps_a_pixel() {
        for fit in Fit::ALL {
            let placed = fit.place((10_000, 1), (32, 32));
            assert!(placed.window[2] >= 1 && placed.window[3] >= 1 && placed.scaled[1] >= 1, "{placed:?}");
        }
    }
}
