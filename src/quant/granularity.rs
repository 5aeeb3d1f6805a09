//! Which elements of a tensor share one scale.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which elements of a tensor share one scale.
///
/// Scales are stored flat, in row-major order of the grid that [`Granularity::grid`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One scale for the whole tensor.
    Tensor,
    /// One scale for each index along `axis` (a weight's output channels).
    Channel {
        /// The channel axis.
        axis: usize,
    },
    /// One scale for each run of `size` consecutive indices along `axis`, separately for every
    /// index of the other axes (a weight's input dimension; 32 is the block of OCP MXFP4). The
    /// last run is shorter where `size` does not divide the axis.
    Group {
        /// The axis along which neighbours share a scale.
        axis: usize,
        /// How many neighbours share one.
        size: usize,
    },
}

/// A tensor's shape folded around one axis: `[outer, axis, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// Product of the dimensions before the axis.
    pub outer: usize,
    /// Size of the axis itself.
    pub axis: usize,
    /// Product of the dimensions after the axis.
    pub inner: usize,
}

impl Folded {
    /// Folds `shape` around `axis`.
    pub fn new(shape: &[usize], axis: usize) -> Self {
        Self {
            outer: shape[..axis].iter().product(),
            axis: shape[axis],
            inner: shape[axis + 1..].iter().product(),
        }
    }
}

impl Granularity {
    /// The shape of the grid of scales for a tensor of `shape`.
    pub fn grid(&self, shape: &[usize]) -> Vec<usize> {
        match *self {
            Granularity::Tensor => vec![1],
            Granularity::Channel { axis } => vec![shape[axis]],
            Granularity::Group { axis, size } => {
                let mut grid = shape.to_vec();
                grid[axis] = grid[axis].div_ceil(size);
                grid
            }
        }
    }

    /// The number of scales for a tensor of `shape`.
    pub fn count(&self, shape: &[usize]) -> usize {
        self.grid(shape).iter().product()
    }

    /// For a row-major tensor of `shape`: from the index of an element to the index of its scale.
    pub fn indexer(&self, shape: &[usize]) -> impl Fn(usize) -> usize + use<> {
        let (granularity, folded) = match *self {
            Granularity::Tensor => (*self, Folded { outer: 1, axis: 1, inner: 1 }),
            Granularity::Channel { axis } | Granularity::Group { axis, .. } => {
                (*self, Folded::new(shape, axis))
            }
        };
        let Folded { axis, inner, .. } = folded;
        move |element| match granularity {
            Granularity::Tensor => 0,
            Granularity::Channel { .. } => element / inner % axis,
            Granularity::Group { size, .. } => {
                let (row, column) = (element / inner, element % inner);
                (row / axis * axis.div_ceil(size) + row % axis / size) * inner + column
            }
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Granularity::Tensor => f.write_str("tensor"),
            Granularity::Channel { .. } => f.write_str("channel"),
            Granularity::Group { size, .. } => write!(f, "group {size}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(granularity: Granularity, shape: &[usize]) -> Vec<usize> {
        (0..shape.iter().product()).map(granularity.indexer(shape)).collect()
    }

    #[test]
    fn channels_of_a_linear_weight_are_its_columns() {
        let granularity = Granularity::Channel { axis: 1 };
        assert_eq!(granularity.grid(&[2, 3]), [3]);
        assert_eq!(indices(granularity, &[2, 3]), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn channels_of_a_convolution_weight_are_its_filters() {
        let granularity = Granularity::Channel { axis: 0 };
        assert_eq!(indices(granularity, &[2, 1, 1, 2]), [0, 0, 1, 1]);
    }

    #[test]
    fn groups_run_along_the_axis_and_the_last_one_may_be_short() {
        let granularity = Granularity::Group { axis: 0, size: 2 };
        assert_eq!(granularity.grid(&[3, 2]), [2, 2]);
        assert_eq!(indices(granularity, &[3, 2]), [0, 1, 0, 1, 2, 3]);
        let last = Granularity::Group { axis: 1, size: 2 };
        assert_eq!(indices(last, &[2, 3]), [0, 0, 1, 2, 2, 3]);
    }
}
