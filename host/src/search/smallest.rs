//! The smallest student that surgery can make: a limit that even this one breaks is impossible.

use crate::network::surgery::{self, rounded_width};
use crate::network::{Group, Network};

/// All units of `teacher` removed that may be, then the narrowest widths.
pub fn smallest(teacher: &Network, channel_multiple: usize) -> Network {
    let units = teacher.units();
    let mut keep: Vec<bool> = Vec::with_capacity(units.len());
    for _ in &units {
        keep.push(!crate::network::may_remove(teacher, &units, &keep));
    }
    let short = surgery::remove(teacher, &keep).map_or_else(|_| teacher.clone(), |surgery| surgery.network);
    let narrow = |group: &Group| {
        let least = if group.shrinkable {
            rounded_width(group.channels, 0.0, channel_multiple)
        } else {
            group.channels
        };
        (0..least).collect::<Vec<_>>()
    };
    let kept: Vec<Vec<usize>> = short.groups().iter().map(narrow).collect();
    surgery::shrink(&short, &kept).map_or(short, |surgery| surgery.network)
}
