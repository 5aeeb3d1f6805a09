//! E and S of activations, at the bits that the plan gives them.

use rayon::prelude::*;
use serde::Serialize;

use super::layers::{LayerCandidate, open};
use super::objective::Coded;
use super::{Evidence, SearchError};
use crate::coding::Format;
use crate::quant::{
    Granularity, Grouped, Observation, Plan, PlanEntry, QuantSpec, SiteKind, check_fixed_range,
    choose_range,
};

/// An activation, and the codings of the plan's bits that it could get.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Activation {
    /// The layer.
    pub layer: String,
    /// Which of its tensors.
    pub tensor: String,
    /// The codings. They cost nothing: a budget is for weights.
    pub candidates: Vec<LayerCandidate>,
    /// The index of the one with the least error.
    pub chosen: usize,
    /// What the plan says of it besides.
    #[serde(skip)]
    pub spec: QuantSpec,
    /// The site's path in the model.
    #[serde(skip)]
    pub(super) path: String,
}

impl Activation {
    /// The chosen candidate.
    pub fn chosen(&self) -> &LayerCandidate {
        &self.candidates[self.chosen]
    }
}

/// Whether the plan leaves E and S of an entry open that is an activation.
pub(super) fn is_open(entry: &PlanEntry) -> bool {
    !entry.site.kind.is_weight() && open(entry.spec.coding).is_some()
}

/// Every activation whose E and S the plan leaves open, with the codings of the plan's bits, and the one of least
/// divergence among them. Those that no data reached are left out.
///
/// # Errors
///
/// An activation that is not finite.
pub fn activations(plan: &Plan, evidence: &Evidence) -> Result<Vec<Activation>, SearchError> {
    let entries: Vec<&PlanEntry> = plan.entries.iter().filter(|entry| is_open(entry)).collect();
    let seen = entries.par_iter().filter_map(|entry| {
        let (_, seen) = evidence.observed.get(&entry.site.path)?;
        (seen.count > 0).then_some((entry, seen))
    });
    seen.map(|(entry, seen)| activation(entry, seen)).collect()
}

fn activation(entry: &PlanEntry, seen: &Observation) -> Result<Activation, SearchError> {
    let PlanEntry { site, spec } = entry;
    if seen.non_finite > 0 {
        return Err(SearchError::non_finite(site));
    }
    let signed = !matches!(site.kind, SiteKind::Activation { non_negative: true });
    let formats = spec.coding.candidates(signed).expect("checked when the plan was resolved");
    check_fixed_range(entry, &formats)?;
    let grouped = Grouped::activation(seen.clone());
    // Zeros, as a ReLU makes many of, are exact in every coding; their density would outweigh all others.
    let values: Vec<f32> = seen.even_sample().into_iter().filter(|&v| v != 0.0).collect();
    let shape = [values.len()];
    let candidate = |format: Format| {
        let (ranges, lost) = choose_range(&grouped, format, spec.range, spec.scale);
        let granularity = Granularity::Tensor;
        let coded = Coded { values: &values, shape: &shape, granularity, format, ranges: &ranges };
        let divergence = coded.divergence();
        LayerCandidate::new(format, (ranges, lost), divergence, 0.0)
    };
    let candidates: Vec<LayerCandidate> = formats.into_iter().map(candidate).collect();
    let errors = candidates.iter().map(|candidate| candidate.error).enumerate();
    let (chosen, _) =
        errors.min_by(|a, b| a.1.total_cmp(&b.1)).expect("a plan's bits have codings");
    Ok(Activation {
        layer: site.layer.clone(),
        tensor: site.tensor.clone(),
        candidates,
        chosen,
        spec: *spec,
        path: site.path.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Site;
    use crate::search::input::testing::{evidence, observed};

    fn plan(site: &Site) -> Plan {
        Plan { entries: vec![PlanEntry { site: site.clone(), spec: QuantSpec::ausn(6) }] }
    }

    #[test]
    fn the_coding_whose_density_is_nearest_is_chosen() {
        // The flanks of a bell want evenly spread levels, numbers of all sizes want powers of two.
        let even: Vec<f32> = (0..4000).map(|i| ((i * 37) % 4000) as f32 / 2000.0 - 1.0).collect();
        let part = |i: usize, n: usize| ((i * n) % 4000) as f32 / 4000.0 - 0.5;
        let bell: Vec<f32> =
            (0..4000).map(|i| part(i, 37) + part(i, 1013) + part(i / 3, 71)).collect();
        let sizes: Vec<f32> = even.iter().map(|v| v.signum() * (-12.0 * v.abs()).exp2()).collect();
        for (values, exponent_bits) in [(bell, 0..=2), (sizes, 3..=5)] {
            let (site, seen) = observed("a", "input", &values, &[4000, 1]);
            let plan = plan(&site);
            let observed = evidence(vec![(site, seen)]);
            let found = activations(&plan, &Evidence { observed, ..Evidence::default() }).unwrap();
            let [found] = &found[..] else { panic!("one activation") };
            let chosen = &found.candidates[found.chosen];
            let e = chosen.exponent_bits.unwrap();
            assert!(exponent_bits.contains(&e), "{chosen:?}");
            assert!(found.candidates.iter().all(|c| c.bits == 6 && c.error >= chosen.error));
        }
    }

    #[test]
    fn zeros_change_nothing_and_what_was_not_seen_is_left_out() {
        let values: Vec<f32> = (0..3000).map(|i| ((i * 71) % 3001) as f32 / 1000.0 - 1.5).collect();
        let with_zeros: Vec<f32> = values.iter().flat_map(|&v| [v, 0.0]).collect();
        let found = |values: &[f32]| {
            let (site, seen) = observed("a", "input", values, &[values.len(), 1]);
            let plan = plan(&site);
            let observed = evidence(vec![(site, seen)]);
            activations(&plan, &Evidence { observed, ..Evidence::default() }).unwrap()
        };
        let errors = |found: &[Activation]| -> Vec<f64> {
            found[0].candidates.iter().map(|candidate| candidate.error).collect()
        };
        assert_eq!(errors(&found(&values)), errors(&found(&with_zeros)));
        let (site, _) = observed("a", "input", &[1.0], &[1, 1]);
        assert_eq!(activations(&plan(&site), &Evidence::default()).unwrap(), []);
        let never = evidence(vec![(site.clone(), Observation::default())]);
        let never = Evidence { observed: never, ..Evidence::default() };
        assert_eq!(activations(&plan(&site), &never).unwrap(), []);
        let (site, seen) = observed("a", "input", &[f32::NAN], &[1, 1]);
        let plan = plan(&site);
        let observed = evidence(vec![(site, seen)]);
        let refused = activations(&plan, &Evidence { observed, ..Evidence::default() });
        assert!(matches!(refused, Err(SearchError::NonFinite { .. })));
    }
}
