//! Reductions in lanes, which compilers keep in vector registers; the order of the operations is
//! fixed.

const LANES: usize = 16;

/// The sum of `f` over the elements of slices of the same length.
#[inline(always)]
pub fn sum<const N: usize>(x: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    fold(x, |lane, x| lanes[lane] += f(x));
    lanes.iter().sum()
}

/// The largest of `f` over the elements of slices of the same length; minus infinity for none. NaN
/// does not count.
#[inline(always)]
pub fn max<const N: usize>(x: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    fold(x, |lane, x| {
        let x = f(x);
        lanes[lane] = if x > lanes[lane] { x } else { lanes[lane] };
    });
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Hands out the elements of slices of the same length in turn to each lane.
#[inline(always)]
pub fn fold<const N: usize>(x: [&[f32]; N], mut f: impl FnMut(usize, [f32; N])) {
    let len = x.map(<[f32]>::len).into_iter().min().unwrap_or(0);
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        let chunks: [&[f32; LANES]; N] =
            x.map(|x| x[start..][..LANES].try_into().expect("a chunk of LANES elements"));
        for lane in 0..LANES {
            f(lane, chunks.map(|chunk| chunk[lane]));
        }
    }
    for i in whole..len {
        f(i - whole, x.map(|x| x[i]));
    }
}
