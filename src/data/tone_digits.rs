//! Ten classes of short sounds that stand in for spoken digits, generated from a seed.
//!
//! Each digit is the pair of tones that a push-button telephone sends for it (ITU-T Recommendation Q.23), of random length,
//! loudness and phase, in white noise, with silence before and after. 8,000 samples a second, as FSDD has.

use std::f64::consts::TAU;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::DataError;

/// Number of classes: the digits.
pub const CLASSES: usize = 10;
/// Samples a second.
pub const SAMPLE_RATE: u32 = 8_000;
/// The two frequencies of each digit, in Hz.
pub const TONES: [[f64; 2]; CLASSES] = [
    [941.0, 1336.0],
    [697.0, 1209.0],
    [697.0, 1336.0],
    [697.0, 1477.0],
    [770.0, 1209.0],
    [770.0, 1336.0],
    [770.0, 1477.0],
    [852.0, 1209.0],
    [852.0, 1336.0],
    [852.0, 1477.0],
];

/// Which sounds are generated, and how many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ToneDigitsConfig {
    /// Sounds to train on. Default 500.
    pub train_examples: usize,
    /// Sounds to validate with. Default 100.
    pub valid_examples: usize,
    /// Amplitude of the noise relative to that of a tone. Default 0.5.
    pub noise: f64,
}

/// A sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tone {
    /// Samples, mono, 0.2 to 0.5 seconds.
    pub samples: Vec<i16>,
    /// The digit.
    pub label: u32,
}

/// A generated data set. Every class has as many sounds, give or take one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToneDigits {
    /// Sounds to train on.
    pub train: Vec<Tone>,
    /// Sounds to validate with.
    pub valid: Vec<Tone>,
}

impl Default for ToneDigitsConfig {
    fn default() -> Self {
        Self { train_examples: 500, valid_examples: 100, noise: 0.5 }
    }
}

impl ToneDigitsConfig {
    /// Refuses settings that give no sound.
    pub fn validate(&self) -> Result<(), DataError> {
        let refused = |key: &str, found: String, allowed: &str| DataError::InvalidSetting {
            key: key.to_owned(),
            found,
            allowed: allowed.to_owned(),
        };
        for (key, count) in
            [("train-examples", self.train_examples), ("valid-examples", self.valid_examples)]
        {
            if count == 0 {
                return Err(refused(key, count.to_string(), "at least 1 is needed"));
            }
        }
        if !(0.0..=10.0).contains(&self.noise) {
            return Err(refused("noise", self.noise.to_string(), "it must be 0 to 10"));
        }
        Ok(())
    }

    /// Generates sounds. The same settings and seed give the same ones; `train_examples` has no influence on the validation
    /// part.
    pub fn generate(&self, seed: u64) -> Result<ToneDigits, DataError> {
        self.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut part = |count: usize| -> Vec<Tone> {
            (0..count).map(|number| self.tone((number % CLASSES) as u32, &mut rng)).collect()
        };
        let valid = part(self.valid_examples);
        Ok(ToneDigits { train: part(self.train_examples), valid })
    }

    fn tone(&self, label: u32, rng: &mut ChaCha8Rng) -> Tone {
        let seconds = |rng: &mut ChaCha8Rng, shortest: f64, longest: f64| {
            (rng.random_range(shortest..longest) * f64::from(SAMPLE_RATE)) as usize
        };
        let before = seconds(rng, 0.05, 0.1);
        let length = seconds(rng, 0.1, 0.3);
        let after = seconds(rng, 0.05, 0.1);
        // The largest sum, two tones and default noise, is 0.75 of the full range.
        let loudness = rng.random_range(0.1..0.3) * f64::from(i16::MAX);
        let phases = [0; 2].map(|_| rng.random_range(0.0..TAU));
        let sample = |place: usize| {
            let time = place as f64 / f64::from(SAMPLE_RATE);
            let noise = self.noise * rng.random_range(-1.0..1.0);
            let sounds = (before..before + length).contains(&place);
            let tone = |(frequency, phase): (f64, f64)| (TAU * frequency * time + phase).sin();
            let tones = TONES[label as usize].into_iter().zip(phases).map(tone).sum::<f64>();
            // A conversion to integers saturates.
            (loudness * (noise + if sounds { tones } else { 0.0 })) as i16
        };
        Tone { samples: (0..before + length + after).map(sample).collect(), label }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Energy at a frequency (Goertzel's algorithm, as decoders of such tones have it).
    fn energy(samples: &[i16], frequency: f64) -> f64 {
        let coefficient = 2.0 * (TAU * frequency / f64::from(SAMPLE_RATE)).cos();
        let (mut last, mut before) = (0.0, 0.0);
        for sample in samples {
            (last, before) = (f64::from(*sample) + coefficient * last - before, last);
        }
        last * last + before * before - coefficient * last * before
    }

    #[test]
    fn a_tone_decoder_hears_the_digits() {
        let data = ToneDigitsConfig::default().generate(2).unwrap();
        assert_eq!((data.train.len(), data.valid.len()), (500, 100));
        for tone in data.train.iter().chain(&data.valid) {
            assert!((1_600..=4_000).contains(&tone.samples.len()));
            let louder = |candidates: &[f64]| {
                let by_energy = |a: &&f64, b: &&f64| {
                    energy(&tone.samples, **a).total_cmp(&energy(&tone.samples, **b))
                };
                *candidates.iter().max_by(by_energy).unwrap()
            };
            let heard = [louder(&[697.0, 770.0, 852.0, 941.0]), louder(&[1209.0, 1336.0, 1477.0])];
            assert_eq!(heard, TONES[tone.label as usize]);
        }
        let of_class = |label| data.train.iter().filter(|tone| tone.label == label).count();
        assert!((0..10).all(|label| of_class(label) == 50));
    }

    #[test]
    fn sounds_follow_the_seed_and_validation_the_seed_alone() {
        let config = ToneDigitsConfig { train_examples: 3, valid_examples: 3, noise: 0.5 };
        let data = config.generate(2).unwrap();
        assert_eq!(data, config.generate(2).unwrap());
        assert_ne!(data.valid, config.generate(3).unwrap().valid);
        let more = ToneDigitsConfig { train_examples: 4, ..config }.generate(2).unwrap();
        assert_eq!(data.valid, more.valid);
    }

    #[test]
    fn impossible_settings_are_refused() {
        let config = ToneDigitsConfig::default();
        for (config, key) in [
            (ToneDigitsConfig { valid_examples: 0, ..config.clone() }, "valid-examples = 0"),
            (ToneDigitsConfig { noise: f64::NAN, ..config }, "noise = NaN"),
        ] {
            let error = config.generate(0).unwrap_err();
            assert!(error.is_user_error() && error.to_string().contains(key), "{error}");
        }
    }
}
