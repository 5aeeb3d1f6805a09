//! Several handwritten digits on a dark canvas, with boxes: object detection on built-in data, generated from a seed.
//!
//! The digits are those of [`Digits`], enlarged two to three times. Training and validation scenes show different digits:
//! a fifth of every class is kept for validation.

use image::imageops::{self, FilterType};
use image::{GrayImage, Luma};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::DataError;
use super::digits::{CLASSES, Digits, MAX_PIXEL};
use super::report::Report;
use super::scenes::{Bounds, Object, Scene, SceneSet};

/// Pixels along each side of a digit as it is stored.
const DIGIT_SIDE: u32 = 8;
/// Share of the smaller of two boxes that may lie inside the other.
const LARGEST_OVERLAP: f32 = 0.1;
/// Places tried for a digit before the scene is left as it is.
const PLACES_TRIED: usize = 50;
/// Grey levels that belong to a digit; what is darker is the blur around it.
const INK: u8 = 32;

/// Which scenes are generated, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DigitScenesConfig {
    /// Pixels along each side of the canvas. Default 64.
    pub side: usize,
    /// Most digits of a scene; the fewest are 1. Default 4.
    pub max_digits: usize,
    /// Scenes to train on. Default 2,000.
    pub train_examples: usize,
    /// Scenes to validate with. Default 300.
    pub valid_examples: usize,
}

impl Default for DigitScenesConfig {
    fn default() -> Self {
        Self { side: 64, max_digits: 4, train_examples: 2_000, valid_examples: 300 }
    }
}

impl DigitScenesConfig {
    /// Refuses settings for which no scene exists.
    pub fn validate(&self) -> Result<(), DataError> {
        let check = |fine: bool, key: &str, found: usize, allowed: &str| {
            let refused = || DataError::InvalidSetting {
                key: key.to_owned(),
                found: found.to_string(),
                allowed: allowed.to_owned(),
            };
            if fine { Ok(()) } else { Err(refused()) }
        };
        let side = (32..=512).contains(&self.side);
        check(side, "side", self.side, "a canvas has 32 to 512 pixels along each side")?;
        let digits = (1..=64).contains(&self.max_digits);
        check(digits, "max-digits", self.max_digits, "a scene has 1 to 64 digits")?;
        for (key, count) in
            [("train-examples", self.train_examples), ("valid-examples", self.valid_examples)]
        {
            check(count > 0, key, count, "at least 1 is needed")?;
        }
        Ok(())
    }

    /// Generates scenes. The same settings and seed give the same ones; `train_examples` has no influence on the validation
    /// scenes. There are no test scenes.
    pub fn generate(&self, seed: u64) -> Result<SceneSet, DataError> {
        self.validate()?;
        let digits = Digits::built_in()?;
        let split = digits.split(0.2, seed)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut part = |name: &str, indices: &[usize], count: usize| -> Vec<Scene> {
            let scene = |number| self.scene(format!("{name} {number}"), &digits, indices, &mut rng);
            (0..count).map(scene).collect()
        };
        let valid = part("valid", &split.held_out, self.valid_examples);
        let train = part("train", &split.train, self.train_examples);
        let classes = (0..CLASSES).map(|class| class.to_string()).collect();
        Ok(SceneSet { classes, train, valid, test: Vec::new(), report: Report::default() })
    }

    fn scene(
        &self,
        name: String,
        digits: &Digits,
        indices: &[usize],
        rng: &mut ChaCha8Rng,
    ) -> Scene {
        let mut canvas = GrayImage::new(self.side as u32, self.side as u32);
        let mut objects: Vec<Object> = Vec::new();
        for _ in 0..rng.random_range(1..=self.max_digits) {
            let index = *indices.choose(rng).expect("a fifth of the digits is never empty");
            let side = rng.random_range(2 * DIGIT_SIDE..=3 * DIGIT_SIDE);
            let digit = enlarged(&digits.images[index], side);
            let ink = ink_bounds(&digit);
            for _ in 0..PLACES_TRIED {
                let [left, top] = [0; 2].map(|_| rng.random_range(0..=self.side as u32 - side));
                let bounds = Bounds {
                    x_min: ink.x_min + left as f32,
                    y_min: ink.y_min + top as f32,
                    x_max: ink.x_max + left as f32,
                    y_max: ink.y_max + top as f32,
                };
                if objects.iter().any(|other| overlap(&other.bounds, &bounds) > LARGEST_OVERLAP) {
                    continue;
                }
                for (x, y, Luma([grey])) in digit.enumerate_pixels() {
                    let Luma([under]) = canvas.get_pixel_mut(left + x, top + y);
                    *under = (*under).max(*grey);
                }
                objects.push(Object { class: u32::from(digits.labels[index]), bounds });
                break;
            }
        }
        let pixels = canvas.into_raw();
        Scene { name, channels: 1, height: self.side, width: self.side, pixels, objects }
    }
}

/// A digit in grey levels 0 to 255, as a square of `side` pixels.
fn enlarged(digit: &[u8], side: u32) -> GrayImage {
    let grey = |x: u32, y: u32| {
        let level = u16::from(digit[(y * DIGIT_SIDE + x) as usize]);
        Luma([(level * 255 / u16::from(MAX_PIXEL)) as u8])
    };
    let small = GrayImage::from_fn(DIGIT_SIDE, DIGIT_SIDE, grey);
    imageops::resize(&small, side, side, FilterType::Triangle)
}

/// The smallest box around the ink.
fn ink_bounds(digit: &GrayImage) -> Bounds {
    let ink = || digit.enumerate_pixels().filter(|(_, _, grey)| grey.0[0] >= INK);
    let edge = |value: Option<u32>, beyond: u32| value.map_or(0.0, |value| (value + beyond) as f32);
    Bounds {
        x_min: edge(ink().map(|(x, _, _)| x).min(), 0),
        y_min: edge(ink().map(|(_, y, _)| y).min(), 0),
        x_max: edge(ink().map(|(x, _, _)| x).max(), 1),
        y_max: edge(ink().map(|(_, y, _)| y).max(), 1),
    }
}

/// Share of the smaller box that lies inside the other.
fn overlap(a: &Bounds, b: &Bounds) -> f32 {
    let width = a.x_max.min(b.x_max) - a.x_min.max(b.x_min);
    let height = a.y_max.min(b.y_max) - a.y_min.max(b.y_min);
    width.max(0.0) * height.max(0.0) / a.area().min(b.area())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn small() -> DigitScenesConfig {
        DigitScenesConfig { train_examples: 60, valid_examples: 20, ..Default::default() }
    }

    #[test]
    fn boxes_hold_the_ink_and_nothing_else_does() {
        let data = small().generate(3).unwrap();
        assert_eq!((data.train.len(), data.valid.len(), data.test.len()), (60, 20, 0));
        let mut counts = HashSet::new();
        for scene in data.train.iter().chain(&data.valid) {
            assert_eq!(scene.pixels.len(), 64 * 64);
            counts.insert(scene.objects.len());
            let covers = |bounds: &Bounds, x: usize, y: usize| {
                (bounds.x_min..bounds.x_max).contains(&(x as f32))
                    && (bounds.y_min..bounds.y_max).contains(&(y as f32))
            };
            for (place, grey) in scene.pixels.iter().enumerate() {
                let (x, y) = (place % 64, place / 64);
                if !scene.objects.iter().any(|object| covers(&object.bounds, x, y)) {
                    assert!(*grey < INK, "{} at {x}, {y}", scene.name);
                }
            }
            for (index, object) in scene.objects.iter().enumerate() {
                assert_eq!(object.bounds.clipped(64.0, 64.0), Some(object.bounds));
                assert!((4.0 * 14.0..=24.0 * 24.0).contains(&object.bounds.area()));
                for other in &scene.objects[..index] {
                    assert!(overlap(&other.bounds, &object.bounds) <= LARGEST_OVERLAP);
                }
            }
        }
        assert_eq!(counts, HashSet::from([1, 2, 3, 4]));
    }

    #[test]
    fn scenes_follow_the_seed_and_validation_the_seed_alone() {
        let data = small().generate(3).unwrap();
        assert_eq!(data, small().generate(3).unwrap());
        assert_ne!(data.valid, small().generate(4).unwrap().valid);
        let more = DigitScenesConfig { train_examples: 70, ..small() }.generate(3).unwrap();
        assert_eq!(data.valid, more.valid);
    }

    #[test]
    fn impossible_settings_are_refused() {
        for (config, key) in [
            (DigitScenesConfig { side: 20, ..small() }, "side = 20"),
            (DigitScenesConfig { max_digits: 0, ..small() }, "max-digits = 0"),
            (DigitScenesConfig { train_examples: 0, ..small() }, "train-examples = 0"),
        ] {
            let error = config.generate(0).unwrap_err();
            assert!(error.is_user_error() && error.to_string().contains(key), "{error}");
        }
    }
}
