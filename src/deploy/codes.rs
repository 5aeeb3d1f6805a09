//! Quantized weights as safetensors: as floats on the grid, and as packed code words.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::coding::{AusnFormat, CodeWord, CodingError, pack, unpack};
use crate::quant::{CalibratedPlan, CalibratedSite, Granularity, SiteKind};

/// The quantized weights of a layer as code words.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// The site's path in the model.
    pub path: String,
    /// Shape, format and granularity.
    pub layout: Layout,
    /// The range exponent of every scale.
    pub range_exponents: Vec<i32>,
    /// One word for each weight, in row-major order: sign, exponent, superposition.
    pub words: Vec<u16>,
}

/// How code words are to be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layout {
    /// The weight's shape.
    pub shape: Vec<usize>,
    /// The number format.
    pub format: AusnFormat,
    /// Which weights share a range exponent.
    pub granularity: Granularity,
}

/// Why packed codes could not be read.
#[derive(Debug, Error)]
pub enum CodesError {
    /// A file that cannot be read, or is no safetensors file.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the system or the reader said.
        reason: String,
    },
    /// Words that the format does not have.
    #[error("`{path}`: {source}")]
    Coding {
        /// The weight.
        path: String,
        /// What is wrong.
        source: CodingError,
    },
}

impl Codes {
    /// The codes of weights that lie on the grid.
    ///
    /// # Errors
    ///
    /// If a weight is NaN.
    fn encode(
        site: &CalibratedSite,
        shape: &[usize],
        weights: &[f32],
    ) -> Result<Self, CodingError> {
        let layout = Layout {
            shape: shape.to_vec(),
            format: site.format,
            granularity: site.granularity.resolve(&site.site.kind),
        };
        let codings = site
            .range_exponents
            .iter()
            .map(|&r| site.format.with_range(r))
            .collect::<Result<Vec<_>, _>>()?;
        let mut words = Vec::with_capacity(weights.len());
        let mut failed = None;
        layout.granularity.for_each(shape, weights, |scale, x| match codings[scale].encode(x) {
            Ok(word) => words.push(word.to_bits(site.format)),
            Err(error) => failed = Some(error),
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(Self {
                path: site.site.path.clone(),
                layout,
                range_exponents: site.range_exponents.clone(),
                words,
            }),
        }
    }

    /// The weights that the words stand for.
    ///
    /// # Errors
    ///
    /// If a word is none of the format's.
    pub fn decode(&self) -> Result<Vec<f32>, CodesError> {
        let format = self.layout.format;
        let mut weights = Vec::with_capacity(self.words.len());
        let mut failed = None;
        self.layout.granularity.for_each(&self.layout.shape, &self.words, |scale, word| {
            let value = format
                .with_range(self.range_exponents[scale])
                .and_then(|coding| coding.decode(CodeWord::from_bits(word, format)?));
            match value {
                Ok(value) => weights.push(value),
                Err(error) => failed = Some(error),
            }
        });
        match failed {
            Some(source) => Err(CodesError::Coding { path: self.path.clone(), source }),
            None => Ok(weights),
        }
    }
}

/// Writes a model's effective parameters (quantized weights on the grid) as safetensors.
///
/// # Errors
///
/// If the file cannot be written.
pub fn save_weights<M: Module>(model: &M, path: &Path) -> io::Result<()> {
    let model = model.valid().materialize();
    // The store refuses names without its own ending.
    let mut store = SafetensorsStore::from_bytes(None).skip_enum_variants(true);
    model.save_into(&mut store).map_err(|error| io::Error::other(error.to_string()))?;
    let bytes = store.get_bytes().map_err(|error| io::Error::other(error.to_string()))?;
    std::fs::write(path, bytes)
}

/// Writes the quantized weights of up to 8 bits as packed code words.
///
/// For a weight at `PATH` the file holds `PATH.codes` (u8, see [`pack`]), `PATH.range-exponents`
/// (i32, in row-major order of the grid of scales), and its [`Layout`] as JSON under `PATH` in the
/// metadata. Wider codings are left out: they stand in the file of [`save_weights`].
///
/// # Errors
///
/// If the file cannot be written, or a weight is NaN.
pub fn save_codes<M: Module>(model: &M, plan: &CalibratedPlan, path: &Path) -> io::Result<()> {
    let model = model.valid().materialize();
    let mut encoder = Encoder { plan, path: Vec::new(), codes: Vec::new(), error: None };
    model.visit(&mut encoder);
    if let Some(error) = encoder.error {
        return Err(io::Error::other(error.to_string()));
    }
    let mut tensors = Vec::new();
    let mut metadata = HashMap::new();
    for codes in encoder.codes {
        let packed = pack(&codes.words, codes.layout.format.bits())
            .map_err(|error| io::Error::other(error.to_string()))?;
        let ranges: Vec<u8> = codes.range_exponents.iter().flat_map(|r| r.to_le_bytes()).collect();
        let count = codes.range_exponents.len();
        let shape = vec![packed.len()];
        tensors.push((format!("{}.codes", codes.path), Bytes(Dtype::U8, shape, packed)));
        tensors.push((
            format!("{}.range-exponents", codes.path),
            Bytes(Dtype::I32, vec![count], ranges),
        ));
        let layout = serde_json::to_string(&codes.layout).expect("a layout is JSON");
        metadata.insert(codes.path, layout);
    }
    let bytes = safetensors::serialize(tensors, Some(metadata));
    std::fs::write(path, bytes.map_err(|error| io::Error::other(error.to_string()))?)
}

/// Reads a file of [`save_codes`].
///
/// # Errors
///
/// If the file cannot be read or is damaged.
pub fn load_codes(path: &Path) -> Result<Vec<Codes>, CodesError> {
    let fail = |reason: String| CodesError::File { path: path.display().to_string(), reason };
    let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| fail(error.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| fail(error.to_string()))?;
    let mut all = Vec::new();
    for (name, layout) in header.metadata().iter().flatten() {
        let layout: Layout =
            serde_json::from_str(layout).map_err(|error| fail(error.to_string()))?;
        let tensor = |part: &str| {
            let tensor = file.tensor(&format!("{name}.{part}"));
            tensor.map_err(|error| fail(format!("{name}.{part}: {error}")))
        };
        let count = layout.shape.iter().product();
        let words = unpack(tensor("codes")?.data(), layout.format.bits(), count);
        let ranges = tensor("range-exponents")?;
        let ranges = ranges.data().as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b));
        all.push(Codes {
            path: name.clone(),
            words: words.map_err(|source| CodesError::Coding { path: name.clone(), source })?,
            range_exponents: ranges.collect(),
            layout,
        });
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// Encodes the planned weights of a materialized model.
struct Encoder<'a> {
    plan: &'a CalibratedPlan,
    path: Vec<String>,
    codes: Vec<Codes>,
    error: Option<CodingError>,
}

impl ModuleVisitor for Encoder<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let Some(site) = self.plan.sites.iter().find(|s| s.site.path == path) else { return };
        let SiteKind::Weight { shape, .. } = &site.site.kind else { return };
        if site.format.bits() > 8 {
            return;
        }
        let data = param.val().into_data().convert::<f32>();
        let weights: Vec<f32> = data.try_to_vec().expect("data converted to f32");
        match Codes::encode(site, shape, &weights) {
            Ok(codes) => self.codes.push(codes),
            Err(error) => self.error = Some(error),
        }
    }
}

/// A tensor as safetensors takes it.
struct Bytes(Dtype, Vec<usize>, Vec<u8>);

impl View for Bytes {
    fn dtype(&self) -> Dtype {
        self.0
    }

    fn shape(&self) -> &[usize] {
        &self.1
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.2)
    }

    fn data_len(&self) -> usize {
        self.2.len()
    }
}
