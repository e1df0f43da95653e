//! How exactly a GPU multiplies.

/// How convolutions round their operands on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As given.
    #[default]
    F32,
    /// To ten bits behind the point, sums in f32: what tensor cores do with f32.
    Tf32,
}
