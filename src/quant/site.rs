//! Finding what can be quantized in a model.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// A tensor of a model that a plan can quantize.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Site {
    /// The parameter's path in the module tree, to which the quantizer attaches.
    pub path: String,
    /// The layer it belongs to, as patterns of a config name it: `encoder.layers.0.attention.query`.
    pub layer: String,
    /// Which of the layer's tensors it is: `weight`, `input`, ...
    pub tensor: String,
    /// Weight or activation.
    pub kind: SiteKind,
}

/// Weight or activation, with what a coding needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteKind {
    /// A weight.
    #[serde(rename_all = "kebab-case")]
    Weight {
        /// Its shape.
        shape: Vec<usize>,
        /// The axis of its output channels.
        channel_axis: usize,
        /// The axis that a dot product runs along.
        input_axis: usize,
    },
    /// An activation.
    #[serde(rename_all = "kebab-case")]
    Activation {
        /// Whether it cannot be negative, so that its coding has no sign bit.
        non_negative: bool,
    },
}

impl SiteKind {
    /// Whether the site is a weight.
    pub fn is_weight(&self) -> bool {
        matches!(self, SiteKind::Weight { .. })
    }
}

impl Site {
    /// The activation among `sites` that this weight meets: that of its own layer; for the `query`, `key` and
    /// `value` of an attention the `input` of the attention, and for the latter two its `memory`, where there is
    /// one. An embedding meets none, nor does a weight of which nothing says what it meets.
    pub(crate) fn input<'a>(
        &self,
        sites: impl Iterator<Item = &'a Site> + Clone,
    ) -> Option<&'a Site> {
        let SiteKind::Weight { shape, channel_axis, .. } = &self.kind else { return None };
        if shape.len() == 2 && *channel_axis == 0 {
            return None;
        }
        let find = |layer: &str, tensor: Option<&str>| {
            sites.clone().find(|site| {
                let named = tensor.is_none_or(|tensor| site.tensor == tensor);
                !site.kind.is_weight() && site.layer == layer && named
            })
        };
        if let Some(own) = find(&self.layer, Some("input")).or_else(|| find(&self.layer, None)) {
            return Some(own);
        }
        let (attention, projection) = self.layer.rsplit_once('.')?;
        let memory =
            || attention.rsplit_once('.').and_then(|(around, _)| find(around, Some("memory")));
        match projection {
            "query" => find(attention, Some("input")),
            "key" | "value" => memory().or_else(|| find(attention, Some("input"))),
            _ => None,
        }
    }
}

/// Every site of a model, in the order of its fields.
///
/// Weights are the float parameters of rank 2 and more. Their axes follow the Burn layer that
/// holds them; a parameter of another module is read as `[input, output]`, like a linear layer's.
/// Activations are the model's [`ActivationQuantizer`](super::ActivationQuantizer)s.
pub fn sites<M: Module>(model: &M) -> Vec<Site> {
    let mut finder = Finder::default();
    model.visit(&mut finder);
    finder.sites
}

#[derive(Default)]
struct Finder {
    /// Field name, and the type that holds the field.
    path: Vec<(String, String)>,
    sites: Vec<Site>,
}

impl Finder {
    fn join(&self, depth: usize) -> String {
        let names: Vec<&str> = self.path[..depth].iter().map(|(name, _)| name.as_str()).collect();
        names.join(".")
    }
}

impl ModuleVisitor for Finder {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((name.to_string(), container_type.to_string()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let depth = self.path.len();
        let Some((name, container)) = self.path.last() else { return };
        if container == "Enum:ActivationQuantizer" {
            self.sites.push(Site {
                path: self.join(depth),
                layer: self.join(depth.saturating_sub(2)),
                tensor: self.path[depth.saturating_sub(2)].0.clone(),
                kind: SiteKind::Activation { non_negative: name == "NonNegative" },
            });
        } else if D >= 2 && !self.path.iter().any(|(_, c)| c == "Reparameterization") {
            let (channel_axis, input_axis) = weight_axes(container, D);
            let holder = depth.checked_sub(2).map(|index| self.path[index].1.as_str());
            let wrapped = matches!(holder, Some("Struct:Quantized" | "Struct:ConvNorm"));
            self.sites.push(Site {
                path: self.join(depth),
                layer: self.join(depth - if wrapped { 2 } else { 1 }),
                tensor: name.clone(),
                kind: SiteKind::Weight {
                    shape: param.lazy_shape().to_vec(),
                    channel_axis,
                    input_axis,
                },
            });
        }
    }
}

/// (output channel axis, input axis) of a weight of rank `rank` held by a Burn layer.
fn weight_axes(container: &str, rank: usize) -> (usize, usize) {
    match container.trim_start_matches("Struct:") {
        "Conv1d" | "Conv2d" | "Conv3d" | "DeformConv2d" | "Embedding" => (0, 1),
        "ConvTranspose1d" | "ConvTranspose2d" | "ConvTranspose3d" => (1, 0),
        _ => (rank - 1, 0),
    }
}
