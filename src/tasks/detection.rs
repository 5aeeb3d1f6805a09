//! Object detection: blood cells (BCCD), and generated scenes of digits.

use std::borrow::Cow;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Meter, MetricInfo, Objective, Source, SupervisedTask, TaskError, Unit};
use crate::config::{BccdConfig, Config, TaskName};
use crate::data::DataError;
use crate::data::catalog::Locations;
use crate::data::scenes::{Object, Scene, SceneSet};
use crate::data::voc::read_bccd;
use crate::metrics::boxes::{Detection, nms};
use crate::metrics::{MeanAveragePrecision, MetricError, TrueBox};
use crate::models::detector::Detector;

/// Detections that are sure to at least this much are measured: low, since precision is averaged
/// over all degrees of recall.
const THRESHOLD: f32 = 0.01;

/// Overlap of two detections of a class from which the less sure one is dropped.
const OVERLAP: f64 = 0.5;

/// A batch of images and what is in them.
#[derive(Clone, Debug)]
pub struct SceneBatch {
    /// The images, values from 0 to 1, `[batch, channels, height, width]`.
    pub images: Tensor<4>,
    /// The objects of each.
    pub objects: Vec<Vec<TrueBox>>,
}

struct SceneSource {
    scenes: Vec<Scene>,
    /// The seed by which training sees scenes turned around at random, where it does.
    turned: Option<u64>,
}

impl SceneSource {
    fn join(chosen: &[Cow<Scene>], device: &Device) -> SceneBatch {
        let first = chosen.first().expect("a batch has examples");
        let shape = [chosen.len(), first.channels, first.height, first.width];
        let pixels: Vec<f32> =
            chosen.iter().flat_map(|s| &s.pixels).map(|&p| f32::from(p) / 255.0).collect();
        let object = |object: &Object| {
            let b = object.bounds;
            TrueBox { class: object.class as usize, bounds: [b.x_min, b.y_min, b.x_max, b.y_max] }
        };
        SceneBatch {
            images: Tensor::from_data(TensorData::new(pixels, shape), device),
            objects: chosen.iter().map(|s| s.objects.iter().map(object).collect()).collect(),
        }
    }
}

impl Source<SceneBatch> for SceneSource {
    fn len(&self) -> usize {
        self.scenes.len()
    }

    fn batch(&self, indices: &[usize], device: &Device) -> Result<SceneBatch, DataError> {
        let chosen: Vec<_> = indices.iter().map(|&i| Cow::Borrowed(&self.scenes[i])).collect();
        Ok(Self::join(&chosen, device))
    }

    fn training_batch(
        &self,
        indices: &[usize],
        epoch: usize,
        device: &Device,
    ) -> Result<SceneBatch, DataError> {
        let Some(seed) = self.turned else { return self.batch(indices, device) };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut turn = |&index: &usize| {
            rng.set_stream((epoch as u64) << 32 | index as u64);
            let scene = &self.scenes[index];
            match (rng.random_bool(0.5), rng.random_bool(0.5)) {
                (false, false) => Cow::Borrowed(scene),
                (true, false) => Cow::Owned(scene.mirrored()),
                (false, true) => Cow::Owned(scene.flipped()),
                (true, true) => Cow::Owned(scene.mirrored().flipped()),
            }
        };
        let chosen: Vec<_> = indices.iter().map(&mut turn).collect();
        Ok(Self::join(&chosen, device))
    }
}

/// Learns boxes by the detector's loss; measured by mean average precision.
#[derive(Clone, Debug)]
pub struct Detecting;

impl Objective for Detecting {
    type Network = Detector;
    type Batch = SceneBatch;
    type Meter = DetectionMeter;

    fn metric(&self) -> MetricInfo {
        MetricInfo { name: "mAP@0.5", unit: Unit::Fraction, higher_is_better: true }
    }

    fn meter(&self) -> DetectionMeter {
        DetectionMeter::default()
    }

    fn loss(&self, network: &Detector, batch: SceneBatch) -> Tensor<1> {
        network.loss(network.forward(batch.images), &batch.objects).total()
    }

    fn predict(&self, network: &Detector, batch: SceneBatch) -> (Tensor<1>, Vec<Detected>) {
        let output = network.forward(batch.images);
        let loss = network.loss(output.clone(), &batch.objects).total();
        let found = network.detections(output, THRESHOLD);
        let images = found.into_iter().zip(batch.objects);
        (loss, images.map(|(found, objects)| Detected { found, objects }).collect())
    }
}

/// What was found in an image, and what is there.
#[derive(Clone, Debug)]
pub struct Detected {
    /// All detections, several of one object among them.
    pub found: Vec<Detection>,
    /// The objects.
    pub objects: Vec<TrueBox>,
}

/// Measures mean average precision after non-maximum suppression.
#[derive(Clone, Debug, Default)]
pub struct DetectionMeter {
    precision: MeanAveragePrecision,
    examples: usize,
}

impl Meter for DetectionMeter {
    type Example = Detected;

    fn add(&mut self, Detected { found, objects }: &Detected) -> Result<(), MetricError> {
        let kept: Vec<Detection> =
            nms(found, OVERLAP)?.into_iter().map(|index| found[index]).collect();
        self.precision.add(&kept, objects)?;
        self.examples += 1;
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.precision.merge(&other.precision);
        self.examples += other.examples;
    }

    fn measures(&self) -> Result<Vec<(&'static str, f64)>, MetricError> {
        Ok(vec![("mAP@0.5", self.precision.at_50()?), ("mAP@0.5:0.95", self.precision.at_50_95()?)])
    }

    fn examples(&self) -> usize {
        self.examples
    }
}

/// A detector on one of the data sets.
pub(super) fn task(
    config: &Config,
    locations: &Locations,
) -> Result<SupervisedTask<Detecting>, TaskError> {
    let seed = config.train.seed;
    let (name, set, turned) = match config.task.name {
        TaskName::Bccd => {
            let BccdConfig { size: [width, height], augment } = config.task.bccd;
            ("bccd", read_bccd(Some((width, height)), locations)?, augment.then_some(seed))
        }
        _ => ("digit-scenes", config.task.digit_scenes.generate(seed)?, None),
    };
    let SceneSet { classes, train, valid, test, report } = set;
    let channels = train.first().map_or(1, |scene| scene.channels);
    let source = |scenes, turned| Arc::new(SceneSource { scenes, turned }) as Arc<_>;
    let mut evaluation = vec![("valid", source(valid, None))];
    if !test.is_empty() {
        evaluation.push(("test", source(test, None)));
    }
    let (model, classes) = (config.model.detector.clone(), classes.len());
    Ok(SupervisedTask {
        name,
        objective: Detecting,
        build: Box::new(move |device| Ok(model.init(channels, classes, device))),
        train: source(train, turned),
        evaluation,
        report,
    })
}
