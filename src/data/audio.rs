//! Recordings, and the features that speech models read: WAV files and log-mel spectrograms.
//!
//! Nothing is converted on the way. A recording of another sample rate, number of channels or sample format than a model
//! expects is an error: resampling would change what is measured without a word.
//!
//! ```
//! use ausn::data::audio::{LogMel, LogMelConfig};
//!
//! let features = LogMel::new(&LogMelConfig::default())?;
//! let one_second: Vec<f32> = (0..8000).map(|n| (n as f32 * 0.3).sin()).collect();
//! let frames = features.compute(&one_second);
//! assert_eq!((frames.len(), frames[0].len()), (101, 40));
//! # Ok::<(), ausn::data::DataError>(())
//! ```

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use hound::{SampleFormat, WavReader};
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};

use super::DataError;

/// Reads a WAV file: 16-bit PCM, one channel, `sample_rate` samples a second. Samples are scaled to -1 to 1, that is
/// divided by 32,768.
///
/// # Errors
///
/// A file that cannot be read, and those of [`decode_wav`].
pub fn read_wav(path: &Path, sample_rate: u32) -> Result<Vec<f32>, DataError> {
    let content = fs::read(path).map_err(|source| DataError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    decode_wav(&content, path, sample_rate)
}

/// The same for a file's content, for instance out of an archive; `path` is named in errors.
///
/// # Errors
///
/// Content that is no WAV file or is cut short, another format than the expected one, and a file without samples.
pub fn decode_wav(content: &[u8], path: &Path, sample_rate: u32) -> Result<Vec<f32>, DataError> {
    let refused = |reason: String| DataError::Audio { path: path.to_owned(), reason };
    let damaged = |error: hound::Error| {
        refused(match error {
            // Reading from memory fails at the end only.
            hound::Error::IoError(_) => {
                "the WAV file is cut short. Copy or download it again".to_owned()
            }
            hound::Error::Unsupported => {
                "its WAV encoding is not supported: 16-bit PCM is expected".to_owned()
            }
            error => format!("this is no readable WAV file ({error})"),
        })
    };
    let reader = WavReader::new(content).map_err(damaged)?;
    let found = reader.spec();
    let expected = hound::WavSpec {
        channels: 1,
        sample_rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    if found != expected {
        return Err(refused(format!(
            "found {}, expected {}. Convert the file, or set the sample rate that it has",
            describe(found),
            describe(expected)
        )));
    }
    let samples: Vec<f32> = reader
        .into_samples::<i16>()
        .map(|sample| sample.map(|value| f32::from(value) / 32_768.0))
        .collect::<Result<_, _>>()
        .map_err(damaged)?;
    if samples.is_empty() {
        return Err(DataError::Empty {
            path: path.to_owned(),
            expected: "at least one audio sample is expected".to_owned(),
        });
    }
    Ok(samples)
}

fn describe(spec: hound::WavSpec) -> String {
    let format = match spec.sample_format {
        SampleFormat::Int => "PCM",
        SampleFormat::Float => "floating point",
    };
    let channels = match spec.channels {
        1 => "1 channel".to_owned(),
        channels => format!("{channels} channels"),
    };
    format!("{} Hz, {channels}, {}-bit {format}", spec.sample_rate, spec.bits_per_sample)
}

/// Scales of pitch on which the mel bands are evenly spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MelScale {
    /// Linear up to 1,000 Hz and logarithmic above (M. Slaney, Auditory Toolbox, 1998).
    Slaney,
    /// `2595 log10(1 + f / 700)`, as in the HTK toolkit.
    Htk,
}

/// How a spectrogram is computed. The defaults are for speech at 8,000 Hz: frames of 25 ms every 10 ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LogMelConfig {
    /// Samples a second. Default 8,000.
    pub sample_rate: u32,
    /// Samples in a frame. Default 200.
    pub frame_length: usize,
    /// Samples from one frame to the next. Default 80.
    pub hop_length: usize,
    /// Length of the Fourier transform; a frame is padded with zeros to it. Default 256.
    pub fft_length: usize,
    /// Bands of the spectrogram. Default 40.
    pub mel_bands: usize,
    /// Lower end of the lowest band in Hz. Default 20.
    pub fmin: f64,
    /// Upper end of the highest band in Hz. Default half the sample rate.
    pub fmax: Option<f64>,
    /// Pitch scale of the bands. Default `slaney`.
    pub mel_scale: MelScale,
    /// Power to which magnitudes are raised before they are summed into bands: 2 for energy, 1 for magnitude. Default 2.
    pub power: f64,
    /// Smallest band value that is told from silence; the logarithm is taken of no less. Default 1e-10.
    pub floor: f64,
}

impl Default for LogMelConfig {
    fn default() -> Self {
        Self {
            sample_rate: 8_000,
            frame_length: 200,
            hop_length: 80,
            fft_length: 256,
            mel_bands: 40,
            fmin: 20.0,
            fmax: None,
            mel_scale: MelScale::Slaney,
            power: 2.0,
            floor: 1e-10,
        }
    }
}

impl LogMelConfig {
    /// Refuses settings for which there is no spectrogram, or one with a band that no frequency of the transform falls in.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidSetting`] with the first such key.
    pub fn validate(&self) -> Result<(), DataError> {
        let check = |fine: bool, key: &str, found: String, allowed: &str| {
            if fine {
                return Ok(());
            }
            Err(DataError::InvalidSetting {
                key: key.to_owned(),
                found,
                allowed: allowed.to_owned(),
            })
        };
        for (key, value) in [
            ("sample-rate", self.sample_rate as usize),
            ("frame-length", self.frame_length),
            ("hop-length", self.hop_length),
            ("mel-bands", self.mel_bands),
        ] {
            check(value > 0, key, value.to_string(), "it must be at least 1")?;
        }
        let lengths = self.frame_length..=MAX_FFT_LENGTH;
        check(
            lengths.contains(&self.fft_length) && self.fft_length.is_multiple_of(2),
            "fft-length",
            self.fft_length.to_string(),
            &format!(
                "it must be an even number from frame-length, {}, to {MAX_FFT_LENGTH}",
                self.frame_length
            ),
        )?;
        let nyquist = f64::from(self.sample_rate) / 2.0;
        let fmax = self.fmax();
        check(
            fmax > 0.0 && fmax <= nyquist,
            "fmax",
            fmax.to_string(),
            &format!("it must be above 0 and at most half the sample rate, {nyquist} Hz"),
        )?;
        check(
            (0.0..fmax).contains(&self.fmin),
            "fmin",
            self.fmin.to_string(),
            &format!("it must be at least 0 and below fmax, {fmax} Hz"),
        )?;
        check(
            self.power > 0.0 && self.power.is_finite(),
            "power",
            self.power.to_string(),
            "it must be above 0",
        )?;
        check(
            self.floor > 0.0 && self.floor.is_finite(),
            "floor",
            self.floor.to_string(),
            "it must be above 0, for the logarithm of 0 is infinite",
        )?;
        check(
            self.mel_bands <= self.fft_length,
            "mel-bands",
            self.mel_bands.to_string(),
            &format!("there are not as many frequencies with an fft-length of {}", self.fft_length),
        )?;
        let bands = self.bands();
        let empty = bands.iter().filter(|band| band.weights.iter().all(|weight| *weight == 0.0));
        let empty = empty.count();
        check(
            empty == 0,
            "mel-bands",
            self.mel_bands.to_string(),
            &format!(
                "{empty} of the bands are so narrow that no frequency of the transform falls in them; use fewer \
                 bands, a longer fft-length, {} now, or a wider range of frequencies",
                self.fft_length
            ),
        )
    }

    fn fmax(&self) -> f64 {
        self.fmax.unwrap_or(f64::from(self.sample_rate) / 2.0)
    }

    /// Triangles on the frequency axis: each band rises from its lower neighbour's centre to its own, and falls to that
    /// of its upper neighbour. Centres are evenly spaced on the mel scale. The height is 2 divided by the width in Hz, so
    /// that all triangles have the same area.
    fn bands(&self) -> Vec<Band> {
        let (low, high) = (self.mel_scale.mel(self.fmin), self.mel_scale.mel(self.fmax()));
        let corner = |index: usize| {
            let part = index as f64 / (self.mel_bands + 1) as f64;
            self.mel_scale.hertz(low + (high - low) * part)
        };
        let bins = self.fft_length / 2 + 1;
        let bin_width = f64::from(self.sample_rate) / self.fft_length as f64;
        (0..self.mel_bands)
            .map(|band| {
                let (lower, centre, upper) = (corner(band), corner(band + 1), corner(band + 2));
                let weight = |bin: usize| {
                    let f = bin as f64 * bin_width;
                    let triangle =
                        ((f - lower) / (centre - lower)).min((upper - f) / (upper - centre));
                    triangle.max(0.0) * 2.0 / (upper - lower)
                };
                let first = ((lower / bin_width) as usize).min(bins);
                let end = ((upper / bin_width) as usize + 1).clamp(first, bins);
                Band { first, weights: (first..end).map(weight).collect() }
            })
            .collect()
    }
}

/// No speech frame is longer; it keeps a slip of the pen from taking all memory.
const MAX_FFT_LENGTH: usize = 1 << 20;

/// Where the Slaney scale turns from linear to logarithmic: in Hz, and in mel.
const SLANEY_TURN: (f64, f64) = (1_000.0, 15.0);
/// Beyond the turn, so many mel take a factor of so much in frequency.
const SLANEY_STEP: (f64, f64) = (27.0, 6.4);

impl MelScale {
    fn mel(self, hertz: f64) -> f64 {
        let ((turn, turn_mel), (mels, factor)) = (SLANEY_TURN, SLANEY_STEP);
        match self {
            Self::Htk => 2595.0 * (1.0 + hertz / 700.0).log10(),
            Self::Slaney if hertz < turn => hertz / turn * turn_mel,
            Self::Slaney => turn_mel + mels * (hertz / turn).log(factor),
        }
    }

    fn hertz(self, mel: f64) -> f64 {
        let ((turn, turn_mel), (mels, factor)) = (SLANEY_TURN, SLANEY_STEP);
        match self {
            Self::Htk => 700.0 * (10.0_f64.powf(mel / 2595.0) - 1.0),
            Self::Slaney if mel < turn_mel => mel / turn_mel * turn,
            Self::Slaney => turn * factor.powf((mel - turn_mel) / mels),
        }
    }
}

/// Weights of neighbouring frequencies, from `first` on.
#[derive(Clone, Debug)]
struct Band {
    first: usize,
    weights: Vec<f64>,
}

/// Computes log-mel spectrograms as librosa's `feature.melspectrogram` does by default, with the natural logarithm on top.
///
/// Frame `t` is centred at sample `t * hop-length`, with zeros before the first sample and after the last one. It is
/// multiplied with a periodic Hann window of `frame-length`, padded evenly to `fft-length` and transformed:
///
/// ```text
/// X[t, k]    = sum_n w[n] x[t hop - fft/2 + n] exp(-2 pi i k n / fft)
/// mel[t, b]  = sum_k weight[b, k] |X[t, k]|^power
/// out[t, b]  = ln(max(mel[t, b], floor))
/// ```
///
/// Bands are triangles of equal area. Sums are in 64-bit floats.
#[derive(Clone)]
pub struct LogMel {
    hop_length: usize,
    power: f64,
    floor: f64,
    /// The window, padded to the length of the transform.
    window: Vec<f64>,
    bands: Vec<Band>,
    transform: Arc<dyn RealToComplex<f64>>,
}

impl LogMel {
    /// Prepares the window, the transform and the bands.
    ///
    /// # Errors
    ///
    /// Those of [`LogMelConfig::validate`].
    pub fn new(config: &LogMelConfig) -> Result<Self, DataError> {
        config.validate()?;
        let mut window = vec![0.0; config.fft_length];
        let start = (config.fft_length - config.frame_length) / 2;
        for n in 0..config.frame_length {
            window[start + n] = 0.5 - 0.5 * (TAU * n as f64 / config.frame_length as f64).cos();
        }
        Ok(Self {
            hop_length: config.hop_length,
            power: config.power,
            floor: config.floor,
            window,
            bands: config.bands(),
            transform: RealFftPlanner::new().plan_fft_forward(config.fft_length),
        })
    }

    /// The spectrogram of a signal of any length: `1 + samples / hop-length` (rounded down) frames of
    /// `mel-bands` numbers each.
    pub fn compute(&self, samples: &[f32]) -> Vec<Vec<f32>> {
        let mut frame = self.transform.make_input_vec();
        let mut spectrum = self.transform.make_output_vec();
        let mut scratch = self.transform.make_scratch_vec();
        let mut powers = vec![0.0; spectrum.len()];
        let half = self.window.len() / 2;
        (0..=samples.len() / self.hop_length)
            .map(|index| {
                for (n, (value, weight)) in frame.iter_mut().zip(&self.window).enumerate() {
                    let place = (index * self.hop_length + n).checked_sub(half);
                    let sample = place.and_then(|place| samples.get(place)).copied();
                    *value = weight * f64::from(sample.unwrap_or(0.0));
                }
                self.transform
                    .process_with_scratch(&mut frame, &mut spectrum, &mut scratch)
                    .expect("the buffers have the lengths that the transform asked for");
                for (power, x) in powers.iter_mut().zip(&spectrum) {
                    *power = self.raise(x);
                }
                self.bands.iter().map(|band| self.log(band, &powers)).collect()
            })
            .collect()
    }

    fn raise(&self, x: &Complex<f64>) -> f64 {
        if self.power == 2.0 { x.norm_sqr() } else { x.norm().powf(self.power) }
    }

    fn log(&self, band: &Band, powers: &[f64]) -> f32 {
        let sum: f64 = band.weights.iter().zip(&powers[band.first..]).map(|(w, p)| w * p).sum();
        sum.max(self.floor).ln() as f32
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const FIXTURE: &str = include_str!("../../tests/data/metrics/log_mel.json");

    #[derive(Deserialize)]
    struct Fixture {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        config: LogMelConfig,
        samples: usize,
        frames: Vec<Vec<f32>>,
    }

    /// The signal of the fixture: silence in the first quarter, then a rising tone and a steady one.
    fn signal(samples: usize, sample_rate: u32) -> Vec<f32> {
        (0..samples)
            .map(|n| {
                if n < samples / 4 {
                    return 0.0;
                }
                let t = n as f64 / f64::from(sample_rate);
                let rising = (TAU * (300.0 * t + 9000.0 * t * t)).sin();
                let steady = (TAU * 1234.5 * t + 1.0).sin();
                (0.5 * rising + 0.25 * steady) as f32
            })
            .collect()
    }

    #[test]
    fn agrees_with_librosa() {
        let fixture: Fixture = serde_json::from_str(FIXTURE).unwrap();
        assert_eq!(fixture.cases.len(), 4);
        for Case { config, samples, frames } in fixture.cases {
            let found = LogMel::new(&config)
                .unwrap_or_else(|error| panic!("{error}"))
                .compute(&signal(samples, config.sample_rate));
            assert_eq!(found.len(), frames.len());
            for (found, expected) in found.iter().flatten().zip(frames.iter().flatten()) {
                // Of logarithms, the difference is the relative one of the powers.
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{found} instead of {expected}: {config:?}"
                );
            }
            let widths: Vec<usize> = found.iter().map(Vec::len).collect();
            assert_eq!(widths, frames.iter().map(Vec::len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn silence_is_the_floor() {
        let config = LogMelConfig { floor: 1e-6, ..LogMelConfig::default() };
        let features = LogMel::new(&config).unwrap();
        for samples in [0, 1, 79, 80, 1000] {
            let frames = features.compute(&vec![0.0; samples]);
            assert_eq!(frames, vec![vec![1e-6_f64.ln() as f32; 40]; 1 + samples / 80]);
        }
    }

    fn wav(spec: hound::WavSpec, samples: &[i32]) -> Vec<u8> {
        let mut content = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut content, spec).unwrap();
        for &sample in samples {
            match spec.sample_format {
                SampleFormat::Int => writer.write_sample(sample).unwrap(),
                SampleFormat::Float => writer.write_sample(sample as f32).unwrap(),
            }
        }
        writer.finalize().unwrap();
        content.into_inner()
    }

    const SPEECH: hound::WavSpec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };

    fn message(content: &[u8]) -> String {
        decode_wav(content, Path::new("a.wav"), 8_000).unwrap_err().to_string()
    }

    #[test]
    fn scales_samples() {
        let content = wav(SPEECH, &[0, 1, -1, 16_384, 32_767, -32_768]);
        let expected = [0.0, 1.0 / 32_768.0, -1.0 / 32_768.0, 0.5, 32_767.0 / 32_768.0, -1.0];
        assert_eq!(decode_wav(&content, Path::new("a.wav"), 8_000).unwrap(), expected);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        fs::write(&path, &content).unwrap();
        assert_eq!(read_wav(&path, 8_000).unwrap(), expected);
        let missing = folder.path().join("b.wav");
        let error = read_wav(&missing, 8_000).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {}: ", missing.display())), "{error}");
    }

    #[test]
    fn refuses_other_formats() {
        let float = SampleFormat::Float;
        for (spec, found) in [
            (hound::WavSpec { sample_rate: 16_000, ..SPEECH }, "16000 Hz, 1 channel, 16-bit PCM"),
            (hound::WavSpec { channels: 2, ..SPEECH }, "8000 Hz, 2 channels, 16-bit PCM"),
            (hound::WavSpec { bits_per_sample: 24, ..SPEECH }, "8000 Hz, 1 channel, 24-bit PCM"),
            (
                hound::WavSpec { bits_per_sample: 32, sample_format: float, ..SPEECH },
                "8000 Hz, 1 channel, 32-bit floating point",
            ),
        ] {
            assert_eq!(
                message(&wav(spec, &[1, 2])),
                format!(
                    "a.wav: found {found}, expected 8000 Hz, 1 channel, 16-bit PCM. Convert the file, or set the \
                     sample rate that it has"
                )
            );
        }
    }

    #[test]
    fn refuses_damaged_files() {
        let whole = wav(SPEECH, &[1, 2, 3, 4]);
        let cut = "a.wav: the WAV file is cut short. Copy or download it again";
        for length in 0..whole.len() {
            assert_eq!(message(&whole[..length]), cut, "cut at {length}");
        }
        assert_eq!(
            message(b"<html>not found, and more of the kind</html>"),
            "a.wav: this is no readable WAV file (Ill-formed WAVE file: no RIFF tag found)"
        );
        assert_eq!(
            message(&wav(SPEECH, &[])),
            "a.wav: the file is empty: at least one audio sample is expected"
        );
        let mut adpcm = whole;
        adpcm[20] = 2;
        assert_eq!(
            message(&adpcm),
            "a.wav: its WAV encoding is not supported: 16-bit PCM is expected"
        );
    }

    #[test]
    fn refuses_settings_without_a_spectrogram() {
        let base = LogMelConfig::default;
        for (config, key) in [
            (LogMelConfig { sample_rate: 0, ..base() }, "sample-rate = 0"),
            (LogMelConfig { frame_length: 0, ..base() }, "frame-length = 0"),
            (LogMelConfig { hop_length: 0, ..base() }, "hop-length = 0"),
            (LogMelConfig { mel_bands: 0, ..base() }, "mel-bands = 0"),
            (LogMelConfig { mel_bands: usize::MAX, ..base() }, "mel-bands = 18446744073709551615"),
            (LogMelConfig { mel_bands: 200, ..base() }, "mel-bands = 200"),
            (LogMelConfig { fft_length: 198, ..base() }, "fft-length = 198"),
            (LogMelConfig { fft_length: 201, ..base() }, "fft-length = 201"),
            (
                LogMelConfig { fft_length: usize::MAX, ..base() },
                "fft-length = 18446744073709551615",
            ),
            (LogMelConfig { fmax: Some(4_001.0), ..base() }, "fmax = 4001"),
            (LogMelConfig { fmax: Some(f64::NAN), ..base() }, "fmax = NaN"),
            (LogMelConfig { fmin: 4_000.0, ..base() }, "fmin = 4000"),
            (LogMelConfig { fmin: -1.0, ..base() }, "fmin = -1"),
            (LogMelConfig { power: 0.0, ..base() }, "power = 0"),
            (LogMelConfig { power: f64::INFINITY, ..base() }, "power = inf"),
            (LogMelConfig { floor: 0.0, ..base() }, "floor = 0"),
            (LogMelConfig { floor: f64::NAN, ..base() }, "floor = NaN"),
        ] {
            let error = config.validate().unwrap_err();
            assert!(error.is_user_error());
            let message = error.to_string();
            assert!(message.starts_with(&format!("{key} is not possible: ")), "{message}");
        }
        let message = LogMelConfig { mel_bands: 200, ..base() }.validate().unwrap_err().to_string();
        assert!(message.contains("of the bands are so narrow"), "{message}");
    }

    #[test]
    fn settings_have_the_names_of_a_configuration_file() {
        let text = "mel-bands = 64\nmel-scale = \"htk\"\nfmax = 3800.0\n";
        let config: LogMelConfig = toml::from_str(text).unwrap();
        let expected = LogMelConfig {
            mel_bands: 64,
            mel_scale: MelScale::Htk,
            fmax: Some(3800.0),
            ..LogMelConfig::default()
        };
        assert_eq!(config, expected);
        assert!(toml::from_str::<LogMelConfig>("n-mels = 64").is_err());
    }
}
