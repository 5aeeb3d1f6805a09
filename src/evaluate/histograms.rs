//! The histograms of a run: how the values of every quantized tensor lie about its levels.

use serde::{Deserialize, Serialize};

use crate::quant::{CalibratedSite, Histogram, Quantizers};

/// More levels than this cannot be told apart in a plot.
const MAX_LEVELS: usize = 256;

/// How the float values of one quantized tensor lay about its levels in the last evaluation: an entry of
/// `histograms.json`. Values and levels are in units of the scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TensorHistogram {
    /// The layer.
    pub layer: String,
    /// Which of its tensors.
    pub tensor: String,
    /// Whether it is a weight, rather than an activation.
    pub weight: bool,
    /// The coding's name.
    pub coding: String,
    /// The smallest and the largest scale.
    pub scales: [f32; 2],
    /// Where the first bin begins and the last one ends.
    pub extent: [f32; 2],
    /// Values in each bin; all are of equal width.
    pub counts: Vec<u64>,
    /// Values below the first bin, and those above the last one.
    pub outside: [u64; 2],
    /// The smallest and the largest level.
    pub range: [f32; 2],
    /// How many levels there are.
    pub level_count: usize,
    /// The levels, ascending; left out where there are more than 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<f32>,
}

/// All of a run: what `histograms.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histograms {
    /// One entry for each quantized tensor that values reached, in the order of the plan.
    pub tensors: Vec<TensorHistogram>,
}

impl Histograms {
    /// What the quantizers saw in their latest measurement.
    pub fn latest(quantizers: &Quantizers) -> Self {
        let histograms = quantizers.histograms();
        let entry = |(site, histogram): &(_, _)| TensorHistogram::new(site, histogram);
        Self { tensors: histograms.iter().filter_map(entry).collect() }
    }
}

impl TensorHistogram {
    /// The entry of a calibrated tensor; none where no value was seen.
    pub fn new(site: &CalibratedSite, histogram: &Histogram) -> Option<Self> {
        let levels = site.levels();
        Some(Self {
            layer: site.site.layer.clone(),
            tensor: site.site.tensor.clone(),
            weight: site.site.kind.is_weight(),
            coding: site.format.to_string(),
            scales: histogram.scales()?.into(),
            extent: histogram.extent().into(),
            counts: histogram.counts().to_vec(),
            outside: histogram.outside().into(),
            range: [levels[0], levels[levels.len() - 1]],
            level_count: levels.len(),
            levels: if levels.len() > MAX_LEVELS { Vec::new() } else { levels },
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Distribution, Tensor};

    use super::*;
    use crate::quant::{self, CalibrationError, Plan, QuantSpec};

    #[test]
    fn the_histogram_of_a_weight_holds_its_values_where_they_are() {
        let device = Device::default();
        device.seed(1);
        let model = LinearConfig::new(24, 16).init(&device);
        let sites = quant::sites(&model);
        let plan = Plan::resolve(&sites, Some(QuantSpec::ausn(4)), None, &[]).unwrap();
        let plan = quant::calibrate(&model, &plan, |_| Ok::<(), CalibrationError>(())).unwrap();
        let weights: Vec<f32> = model.weight.val().into_data().try_to_vec().unwrap();
        let quantized = quant::attach(model, &plan).unwrap();
        assert_eq!(Histograms::latest(&quantized.quantizers), Histograms::default());

        quantized.quantizers.measure();
        let x = Tensor::<2>::random([4, 24], Distribution::Default, &device);
        let _ = quantized.model.valid().forward(x);
        quantized.quantizers.take_errors();
        let found = Histograms::latest(&quantized.quantizers);
        let [histogram] = &found.tensors[..] else { panic!("one weight") };

        let scale = plan.sites[0].ranges.scales.factors()[0];
        assert_eq!(histogram.scales, [scale, scale]);
        assert_eq!(histogram.levels.len(), 15);
        assert_eq!(histogram.range, [histogram.levels[0], histogram.levels[14]]);
        let [low, high] = histogram.extent;
        assert_eq!((low, high), (1.25 * histogram.range[0], 1.25 * histogram.range[1]));
        // As many values below each edge as the bins before it say, up to one that rounding moves.
        let bins = histogram.counts.len();
        let mut below = histogram.outside[0];
        for (bin, count) in histogram.counts.iter().enumerate() {
            let edge = f64::from(low) + f64::from(high - low) * bin as f64 / bins as f64;
            let expected = weights.iter().filter(|w| f64::from(**w / scale) < edge).count();
            assert!(below.abs_diff(expected as u64) <= 1, "{below} below {edge}, not {expected}");
            below += count;
        }
        assert_eq!(below + histogram.outside[1], weights.len() as u64);
    }
}
