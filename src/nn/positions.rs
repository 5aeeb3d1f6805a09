//! Rows of sequences by their positions.

use burn::tensor::{Bool, Int, Tensor};

/// The elements of every sequence at the given positions, each smaller than the length.
///
/// # Shapes
///
/// - x: `[batch, length, width]`; positions: `[batch, count]`
/// - output: `[batch, count, width]`
pub fn select_positions(x: Tensor<3>, positions: Tensor<2, Int>) -> Tensor<3> {
    let [batch, length, width] = x.dims();
    let [_, count] = positions.dims();
    let first = Tensor::<1, Int>::arange(0..batch as i64, &positions.device()) * length as i64;
    let rows = (positions + first.reshape([batch, 1])).reshape([batch * count]);
    x.reshape([batch * length, width]).select(0, rows).reshape([batch, count, width])
}

/// The mean of the elements of every sequence until it ends; each has at least one.
///
/// # Shapes
///
/// - x: `[batch, length, width]`; padding, true where a sequence has ended: `[batch, length]`
/// - output: `[batch, width]`
pub fn mean_until(x: Tensor<3>, padding: Tensor<2, Bool>) -> Tensor<2> {
    let counts = padding.bool_not().float();
    let shares = counts.clone() / counts.sum_dim(1);
    (x * shares.unsqueeze_dim::<3>(2)).sum_dim(1).squeeze_dim(1)
}

/// True where a sequence has ended.
///
/// # Shapes
///
/// - lengths: `[batch]`
/// - output: `[batch, length]`
pub fn padding_after(lengths: Tensor<1, Int>, length: usize) -> Tensor<2, Bool> {
    let [batch] = lengths.dims();
    let positions = Tensor::<1, Int>::arange(0..length as i64, &lengths.device());
    let shape = [batch, length];
    let positions = positions.reshape([1, length]).expand(shape);
    positions.greater_equal(lengths.reshape([batch, 1]).expand(shape))
}

/// Sequences from their last token to their first; padding at the end stays where it is.
///
/// # Shapes
///
/// - x: `[batch, length, width]`; lengths: `[batch]`
/// - output: `[batch, length, width]`
pub fn reverse_sequences(x: Tensor<3>, lengths: Tensor<1, Int>) -> Tensor<3> {
    let [batch, length, _] = x.dims();
    let shape = [batch, length];
    let positions = Tensor::<1, Int>::arange(0..length as i64, &lengths.device());
    let positions = positions.reshape([1, length]).expand(shape);
    let mirrored = (lengths - 1).reshape([batch, 1]).expand(shape) - positions.clone();
    let ended = mirrored.clone().lower_elem(0);
    select_positions(x, mirrored.mask_where(ended, positions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn sequences_turn_around_before_their_padding() {
        let device = Device::default();
        let x = Tensor::<1, Int>::arange(0..16, &device).float().reshape([2, 4, 2]);
        let lengths = Tensor::<1, Int>::from_ints([3, 4], &device);
        let turned = reverse_sequences(x.clone(), lengths.clone());
        let expected = Tensor::<3>::from_floats(
            [
                [[4.0, 5.0], [2.0, 3.0], [0.0, 1.0], [6.0, 7.0]],
                [[14.0, 15.0], [12.0, 13.0], [10.0, 11.0], [8.0, 9.0]],
            ],
            &device,
        );
        turned.clone().into_data().assert_eq(&expected.into_data(), true);
        reverse_sequences(turned, lengths.clone()).into_data().assert_eq(&x.into_data(), true);
        let padding: Vec<bool> = padding_after(lengths, 4).into_data().iter::<bool>().collect();
        assert_eq!(padding, [false, false, false, true, false, false, false, false]);
    }
}
