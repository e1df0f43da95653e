//! Many small tensors in one launch: an optimiser's step, running statistics.

use candle_core::Result;
use cudarc::driver::LaunchConfig;

use super::lane::{Argument, TABLE, Table, walk};
use super::{Array, Cuda};

/// One tensor's part in a table.
pub(super) struct Row<'a> {
    pub(super) arrays: [Option<&'a Array>; 4],
    pub(super) factors: [f32; 2],
    pub(super) length: usize,
}

impl Cuda {
    /// Launches `kernel` over many small tensors, as many at once as a launch takes.
    pub(super) fn launch_table(
        &self,
        kernel: &'static str,
        rows: &[Row<'_>],
        rest: &[Argument<'_>],
    ) -> Result<()> {
        for rows in rows.chunks(TABLE) {
            let mut table =
                Table { arrays: [[0; TABLE]; 4], factors: [[0.0; TABLE]; 2], lengths: [0; TABLE] };
            for (place, row) in rows.iter().enumerate() {
                for (column, array) in row.arrays.iter().enumerate() {
                    table.arrays[column][place] = array.map_or(0, |array| self.0.address(array));
                }
                for (column, factor) in row.factors.into_iter().enumerate() {
                    table.factors[column][place] = factor;
                }
                table.lengths[place] = row.length as i32;
            }
            let longest = rows.iter().map(|row| row.length).max().unwrap_or(0);
            let (across, _, _) = walk(longest).grid_dim;
            let grid = LaunchConfig { grid_dim: (across, rows.len() as u32, 1), ..walk(longest) };
            let mut arguments = vec![Argument::Table(&table)];
            arguments.extend(rest);
            self.0.launch(kernel, grid, &arguments)?;
        }
        Ok(())
    }
}
