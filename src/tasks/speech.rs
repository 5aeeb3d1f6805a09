//! Spoken digits: FSDD, and generated pairs of tones.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::{
    ClassMetric, Classification, ClassificationBatch, ClassificationTask, Source, TaskError,
};
use crate::config::{Config, TaskName};
use crate::data::audio::{LogMel, decode_wav};
use crate::data::catalog::Locations;
use crate::data::fsdd::{self, Fsdd, Recording};
use crate::data::report::Report;
use crate::data::{DataError, Split, tone_digits::Tone};
use crate::models::gru_spotter::{FrameBatch, GruSpotter};

/// Part of the training recordings that training watches.
const VALID_FRACTION: f64 = 0.1;

/// The features of a recording, and what was said.
#[derive(Clone)]
struct Spoken {
    /// Frames one after another.
    frames: Vec<f32>,
    label: u32,
}

struct SpeechSource {
    spoken: Vec<Spoken>,
    bands: usize,
}

impl SpeechSource {
    fn frames(&self, index: usize) -> usize {
        self.spoken[index].frames.len() / self.bands
    }
}

impl Source<ClassificationBatch<FrameBatch>> for SpeechSource {
    fn len(&self) -> usize {
        self.spoken.len()
    }

    fn size(&self, index: usize) -> usize {
        self.frames(index)
    }

    fn batch(
        &self,
        indices: &[usize],
        device: &Device,
    ) -> Result<ClassificationBatch<FrameBatch>, DataError> {
        let longest = indices.iter().map(|&i| self.frames(i)).max().unwrap_or(0);
        let mut frames = vec![0.0; indices.len() * longest * self.bands];
        for (&index, row) in indices.iter().zip(frames.chunks_exact_mut(longest * self.bands)) {
            let spoken = &self.spoken[index].frames;
            row[..spoken.len()].copy_from_slice(spoken);
        }
        let integers = |value: &dyn Fn(usize) -> i64| {
            let values: Vec<i64> = indices.iter().map(|&i| value(i)).collect();
            Tensor::from_data(TensorData::from(values.as_slice()), device)
        };
        let shape = [indices.len(), longest, self.bands];
        Ok(ClassificationBatch {
            input: FrameBatch {
                frames: Tensor::from_data(TensorData::new(frames, shape), device),
                lengths: integers(&|i| self.frames(i) as i64),
            },
            targets: integers(&|i| self.spoken[i].label.into()),
        })
    }
}

/// Log-mel features of every sound.
struct Features {
    transform: LogMel,
}

impl Features {
    fn of(&self, samples: &[f32], label: u32) -> Spoken {
        Spoken { frames: self.transform.compute(samples).concat(), label }
    }

    fn of_recording(&self, recording: &Recording, rate: u32) -> Result<Spoken, DataError> {
        Ok(self.of(&decode_wav(&recording.wav, &recording.path, rate)?, recording.label))
    }

    fn of_tone(&self, tone: &Tone) -> Spoken {
        let samples: Vec<f32> = tone.samples.iter().map(|&s| f32::from(s) / 32_768.0).collect();
        self.of(&samples, tone.label)
    }
}

/// Makes every band of mean 0 and deviation 1 over the training sounds.
fn normalize(bands: usize, splits: &mut [Vec<Spoken>]) {
    let train = splits[0].iter().flat_map(|s| s.frames.chunks_exact(bands));
    let mut sums = vec![(0.0, 0.0); bands];
    let mut count = 0.0;
    for frame in train {
        count += 1.0;
        for ((sum, squares), &x) in sums.iter_mut().zip(frame) {
            let x = f64::from(x);
            *sum += x;
            *squares += x * x;
        }
    }
    let scales: Vec<(f32, f32)> = sums
        .into_iter()
        .map(|(sum, squares)| {
            let mean: f64 = sum / count;
            let deviation = (squares / count - mean * mean).max(1e-12).sqrt();
            (mean as f32, (1.0 / deviation) as f32)
        })
        .collect();
    for frame in splits.iter_mut().flatten().flat_map(|s| s.frames.chunks_exact_mut(bands)) {
        for (x, (mean, scale)) in frame.iter_mut().zip(&scales) {
            *x = (*x - mean) * scale;
        }
    }
}

/// A recurrent spotter on one of the data sets.
pub(super) fn task(
    config: &Config,
    locations: &Locations,
) -> Result<ClassificationTask<GruSpotter>, TaskError> {
    let settings = &config.task.log_mel;
    let (bands, rate) = (settings.mel_bands, settings.sample_rate);
    let seed = config.train.seed;
    let features = Features { transform: LogMel::new(settings)? };
    let (name, mut splits) = match config.task.name {
        TaskName::Fsdd => {
            let Fsdd { train, test } = Fsdd::read(locations)?;
            let labels: Vec<u32> = train.iter().map(|recording| recording.label).collect();
            let split = Split::stratified(&labels, VALID_FRACTION, seed)?;
            let of = |recordings: Vec<&Recording>| {
                recordings.into_iter().map(|r| features.of_recording(r, rate)).collect()
            };
            let part = |indices: Vec<usize>| of(indices.into_iter().map(|i| &train[i]).collect());
            let splits: [Result<Vec<Spoken>, DataError>; 3] =
                [part(split.train), part(split.held_out), of(test.iter().collect())];
            ("fsdd", splits.into_iter().collect::<Result<Vec<_>, _>>()?)
        }
        _ => {
            let tones = config.task.tone_digits.generate(seed)?;
            let of = |tones: &[Tone]| tones.iter().map(|tone| features.of_tone(tone)).collect();
            ("tone-digits", vec![of(&tones.train), of(&tones.valid)])
        }
    };
    normalize(bands, &mut splits);
    let model = config.model.gru_spotter.clone();
    let mut sources =
        splits.into_iter().map(|spoken| Arc::new(SpeechSource { spoken, bands }) as Arc<_>);
    let train = sources.next().expect("a data set has training sounds");
    Ok(ClassificationTask {
        name,
        objective: Classification::new(ClassMetric::Accuracy),
        build: Box::new(move |device| Ok(model.init(bands, fsdd::CLASSES, device))),
        train,
        evaluation: ["valid", "test"].into_iter().zip(sources).collect(),
        report: Report::default(),
    })
}
