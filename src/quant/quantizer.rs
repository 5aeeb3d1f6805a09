//! Fake quantization attached to a parameter.

use burn::module::{Module, Param, Reparameterization};
use burn::tensor::{Device, Tensor};

use super::normalize::normalize;
use super::{
    CalibratedSite, Estimator, FakeQuantize, LearnedRange, Probe, ScaleTensors, fake_quantize,
};
use crate::coding::Rounder;
use crate::kernels::HiddenQuantizer;

/// Fake quantization with its scales, attached to a parameter.
///
/// On a weight it is a [`Reparameterization`]: `weight.val()` gives the quantized weight, the
/// stored float weight keeps training. On the slot of an
/// [`ActivationQuantizer`](super::ActivationQuantizer) it quantizes what passes the slot.
#[derive(Module, Debug)]
pub struct FakeQuantizer {
    /// What the scales are computed from, flat: one number for each entry of the granularity's grid.
    /// The scales themselves; where ranges train, the parameter of their [`LearnedRange`].
    pub scale: Param<Tensor<1>>,
    /// The codes that stand for 0, as many, where the format has zero points. They do not train.
    pub zero_point: Option<Param<Tensor<1>>>,
    #[module(skip)]
    operation: FakeQuantize,
    #[module(skip)]
    learned: Option<LearnedRange>,
    #[module(skip)]
    deviation: Option<f32>,
    #[module(skip)]
    probe: Probe,
}

impl FakeQuantizer {
    /// A quantizer with the ranges of a calibrated site. They are saved with the model.
    pub fn new(site: &CalibratedSite, probe: Probe, device: &Device) -> Self {
        let mut scales = site.ranges.scales.factors();
        if let Some(learned) = site.learned {
            scales.iter_mut().for_each(|scale| *scale = learned.parameter(*scale, site.format));
        }
        let zero_points: Vec<f32> = site.ranges.zero_points.iter().map(|&z| z as f32).collect();
        let fixed = |values: &[f32]| Param::from_data(values, device).set_require_grad(false);
        Self {
            scale: match site.learned {
                Some(_) => Param::from_data(scales.as_slice(), device),
                None => fixed(&scales),
            },
            zero_point: (!zero_points.is_empty()).then(|| fixed(&zero_points)),
            operation: site.operation(),
            learned: site.learned,
            deviation: site.deviation,
            probe,
        }
    }

    /// What the quantizer does, apart from the scales.
    pub fn operation(&self) -> FakeQuantize {
        self.operation
    }

    /// The scales as they are now. `elements` is how many elements share one.
    fn scales(&self, elements: usize) -> ScaleTensors {
        let parameter = self.scale.val();
        let scale = match self.learned {
            Some(learned) => learned.scale(parameter, self.operation.format, elements),
            None => parameter,
        };
        ScaleTensors { scale, zero_point: self.zero_point.as_ref().map(Param::val) }
    }

    /// The same with one scale, for an operation that rounds inside; `None` where that operation
    /// does not know the rounding, or would leave out the gradient of the scale.
    pub(super) fn hidden_quantizer(&self) -> Option<HiddenQuantizer> {
        let Rounder::Superposed(quantizer) = self.operation.format.rounder(0) else { return None };
        (self.learned.is_none()).then(|| HiddenQuantizer {
            quantizer,
            scale: self.scale.val().into_scalar(),
            clipped: self.operation.estimator == Estimator::Clipped,
        })
    }

    /// Quantizes an activation of any shape, with the batch first.
    pub(super) fn activation<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dims = x.dims();
        // Of one example, so that the gradient of a learned step does not depend on the batch.
        let scales = self.scales(dims.iter().product::<usize>() / dims[0].max(1));
        self.probe.activation(&x, Some((&scales, self.operation)));
        fake_quantize(x, scales, self.operation)
    }
}

impl Reparameterization for FakeQuantizer {
    const NAME: &'static str = "quantizer";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let dims = base.dims();
        let groups = self.operation.granularity.count(&dims);
        let scales = self.scales(dims.iter().product::<usize>() / groups.max(1));
        let base = match self.deviation {
            Some(deviation) => normalize(base, deviation),
            None => base,
        };
        self.probe.weight(&base, &scales, self.operation);
        fake_quantize(base, scales, self.operation)
    }
}

/// Stands where a quantizer will be, and observes what it will have to represent.
#[derive(Module, Debug)]
pub(super) struct Observer {
    #[module(skip)]
    pub(super) probe: Probe,
}

impl Reparameterization for Observer {
    const NAME: &'static str = "observer";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        base
    }
}
