//! Quantized weights as safetensors: as floats on the grid, and as packed code words.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use burn::module::Module;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::coding::{Ausn, AusnFormat, CodeWord, CodingError, pack, unpack};
use crate::quant::{
    CalibratedPlan, CalibratedSite, Granularity, SiteKind, parameters, trained_plan,
};

/// The metadata entry that says how the words of each weight are to be read.
const LAYOUTS: &str = "layouts";

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
    fn encode(site: &CalibratedSite, weights: &[f32]) -> Result<Self, CodingError> {
        let SiteKind::Weight { shape, .. } = &site.site.kind else {
            unreachable!("only weights are packed")
        };
        let code = |r: i32| site.format.with_range(r).expect("only superposed powers are packed");
        let range_exponents = site.ranges.range_exponents().expect("only shifts are packed");
        let codings = range_exponents.iter().map(|&r| code(r)).collect::<Result<Vec<_>, _>>()?;
        let granularity = site.granularity.resolve(&site.site.kind);
        let scale_of = granularity.indexer(shape);
        let encode = |(i, &x): (usize, &f32)| {
            let coding = codings[scale_of(i)];
            Ok(coding.encode(x)?.to_bits(coding.format()))
        };
        Ok(Self {
            path: site.site.path.clone(),
            words: weights.iter().enumerate().map(encode).collect::<Result<_, CodingError>>()?,
            layout: Layout { shape: shape.clone(), format: code(0)?.format(), granularity },
            range_exponents: codings.iter().map(Ausn::range_exponent).collect(),
        })
    }

    /// The weights that the words stand for.
    ///
    /// # Errors
    ///
    /// If a word is none of the format's.
    pub fn decode(&self) -> Result<Vec<f32>, CodesError> {
        let Layout { shape, format, granularity } = &self.layout;
        let scale_of = granularity.indexer(shape);
        let decode = |(i, &word): (usize, &u16)| {
            let coding = format.with_range(self.range_exponents[scale_of(i)])?;
            coding.decode(CodeWord::from_bits(word, *format)?)
        };
        let weights = self.words.iter().enumerate().map(decode).collect::<Result<_, _>>();
        weights.map_err(|source| CodesError::Coding { path: self.path.clone(), source })
    }
}

/// Writes a model's effective parameters (quantized weights on the grid) as safetensors.
///
/// # Errors
///
/// If the file cannot be written.
pub fn save_weights<M: Module>(model: &M, path: &Path) -> io::Result<()> {
    let model = model.valid().materialize();
    // Slots of activation quantizers hold no parameter. (In memory, since the store refuses to write
    // to names without its own ending.)
    let mut store = SafetensorsStore::from_bytes(None)
        // One entry at most: the order of several is not the same from run to run.
        .clear_metadata()
        .with_predicate(|_, container| !container.contains("ActivationQuantizer"));
    model.save_into(&mut store).map_err(|error| io::Error::other(error.to_string()))?;
    let bytes = store.get_bytes().map_err(|error| io::Error::other(error.to_string()))?;
    std::fs::write(path, bytes)
}

/// What of a weight keeps it from being packed, if anything does.
fn unpackable(site: &CalibratedSite) -> Option<&'static str> {
    if site.format.with_range(0).is_none() {
        Some("levels are not superposed powers of two under a sign, an exponent and a fraction")
    } else if site.ranges.range_exponents().is_none() {
        Some("scales are not powers of two")
    } else if site.format.bits() > 8 {
        Some("code words are wider than 8 bits")
    } else {
        None
    }
}

/// Writes the quantized weights as packed code words, with the ranges that the model has now.
///
/// Packed are those whose [format](crate::coding::Format) has the code words of AUSN (that of small
/// floats and symmetric integers too) of up to 8 bits, with power-of-two scales. The others stand in
/// the file of [`save_weights`] alone; they are returned, each with the reason.
///
/// For a weight at `PATH` the file holds `PATH.codes` (u8, see [`pack`]), `PATH.range-exponents`
/// (i32, in row-major order of the grid of scales), and its [`Layout`] under `PATH` in the JSON object
/// that stands under `layouts` in the metadata.
///
/// # Errors
///
/// If the file cannot be written, or a weight is NaN.
pub fn save_codes<M: Module>(
    model: &M,
    plan: &CalibratedPlan,
    path: &Path,
) -> io::Result<Vec<(String, &'static str)>> {
    let model = model.valid();
    let plan = trained_plan(&model, plan);
    let model = model.materialize();
    let mut left_out = Vec::new();
    let mut sites = Vec::new();
    for site in plan.sites.iter().filter(|site| site.site.kind.is_weight()) {
        match unpackable(site) {
            Some(reason) => left_out.push((site.site.path.clone(), reason)),
            None => sites.push(site),
        }
    }
    let weights = parameters(&model, |path| sites.iter().any(|site| site.site.path == path));
    let mut tensors = Vec::new();
    let mut layouts = BTreeMap::new();
    for site in sites {
        let codes = Codes::encode(site, &weights[&site.site.path])
            .map_err(|error| io::Error::other(format!("`{}`: {error}", site.site.path)))?;
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
        layouts.insert(codes.path, codes.layout);
    }
    let layouts = serde_json::to_string(&layouts).expect("layouts are JSON");
    let metadata = HashMap::from([(LAYOUTS.to_string(), layouts)]);
    let bytes = safetensors::serialize(tensors, Some(metadata));
    std::fs::write(path, bytes.map_err(|error| io::Error::other(error.to_string()))?)?;
    Ok(left_out)
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
    let layouts = header.metadata().as_ref().and_then(|metadata| metadata.get(LAYOUTS));
    let layouts = layouts.ok_or_else(|| fail(format!("its metadata have no `{LAYOUTS}`")))?;
    let layouts: BTreeMap<String, Layout> =
        serde_json::from_str(layouts).map_err(|error| fail(error.to_string()))?;
    let read = |(path, layout): (String, Layout)| {
        let tensor = |part: &str| {
            let tensor = file.tensor(&format!("{path}.{part}"));
            tensor.map_err(|error| fail(format!("{path}.{part}: {error}")))
        };
        let count = layout.shape.iter().product();
        let words = unpack(tensor("codes")?.data(), layout.format.bits(), count)
            .map_err(|source| CodesError::Coding { path: path.clone(), source })?;
        let ranges = tensor("range-exponents")?;
        let ranges = ranges.data().as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b));
        let range_exponents: Vec<i32> = ranges.collect();
        let expected = layout.granularity.count(&layout.shape);
        if range_exponents.len() != expected {
            let found = range_exponents.len();
            return Err(fail(format!("{path}: {found} range exponents instead of {expected}")));
        }
        Ok(Codes { path, words, range_exponents, layout })
    };
    layouts.into_iter().map(read).collect()
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
