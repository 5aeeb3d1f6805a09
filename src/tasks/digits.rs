//! Optical digits: 8x8 images of ten classes, as an image or as a sequence of rows.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::{
    ClassMetric, Classification, ClassificationBatch, ClassificationTask, Source, TaskError,
};
use crate::config::Config;
use crate::data::DataError;
use crate::data::digits::{CLASSES, Digits, MAX_PIXEL};
use crate::data::report::Report;
use crate::models::lstm_classifier::LstmClassifier;
use crate::models::resnet::ResNet;

/// Pixels along each side.
const SIDE: usize = 8;

/// Some of the digits, pixel values between 0 and 1.
struct DigitSource {
    digits: Arc<Digits>,
    indices: Vec<usize>,
}

impl DigitSource {
    /// Images as `[batch, 8, 8]` and their classes.
    fn rows(&self, indices: &[usize], device: &Device) -> ClassificationBatch<Tensor<3>> {
        let chosen = indices.iter().map(|&i| self.indices[i]);
        let pixels: Vec<f32> = chosen
            .clone()
            .flat_map(|i| self.digits.images[i])
            .map(|pixel| f32::from(pixel) / f32::from(MAX_PIXEL))
            .collect();
        let labels: Vec<i64> = chosen.map(|i| i64::from(self.digits.labels[i])).collect();
        let shape = [indices.len(), SIDE, SIDE];
        ClassificationBatch {
            input: Tensor::from_data(TensorData::new(pixels, shape), device),
            targets: Tensor::from_data(TensorData::from(labels.as_slice()), device),
        }
    }
}

impl Source<ClassificationBatch<Tensor<3>>> for DigitSource {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn batch(
        &self,
        indices: &[usize],
        device: &Device,
    ) -> Result<ClassificationBatch<Tensor<3>>, DataError> {
        Ok(self.rows(indices, device))
    }
}

impl Source<ClassificationBatch<Tensor<4>>> for DigitSource {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn batch(
        &self,
        indices: &[usize],
        device: &Device,
    ) -> Result<ClassificationBatch<Tensor<4>>, DataError> {
        let ClassificationBatch { input, targets } = self.rows(indices, device);
        Ok(ClassificationBatch { input: input.unsqueeze_dim(1), targets })
    }
}

fn sources(config: &Config) -> Result<(Arc<DigitSource>, Arc<DigitSource>), TaskError> {
    let digits = Arc::new(Digits::built_in()?);
    let split = digits.split(config.task.digits.valid_fraction, config.train.seed)?;
    let part = |indices| Arc::new(DigitSource { digits: digits.clone(), indices });
    Ok((part(split.train), part(split.held_out)))
}

/// The digits as one-channel images for a ResNet.
pub(super) fn resnet(config: &Config) -> Result<ClassificationTask<ResNet>, TaskError> {
    let (train, valid) = sources(config)?;
    let model = config.model.resnet.clone();
    Ok(ClassificationTask {
        name: "digits",
        objective: Classification::new(ClassMetric::Accuracy),
        build: Box::new(move |device| Ok(model.init(1, CLASSES, device))),
        train,
        evaluation: vec![("valid", valid)],
        report: Report::default(),
    })
}

/// The digits as sequences of eight rows for an LSTM.
pub(super) fn lstm(config: &Config) -> Result<ClassificationTask<LstmClassifier>, TaskError> {
    let (train, valid) = sources(config)?;
    let model = config.model.lstm.clone();
    Ok(ClassificationTask {
        name: "digits",
        objective: Classification::new(ClassMetric::Accuracy),
        build: Box::new(move |device| Ok(model.init(SIDE, CLASSES, device))),
        train,
        evaluation: vec![("valid", valid)],
        report: Report::default(),
    })
}
