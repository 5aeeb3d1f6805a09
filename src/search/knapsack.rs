//! The multiple-choice knapsack problem: one candidate for each layer, least summed error within a budget.
//!
//! # Method
//!
//! With a price `p` for each unit of cost, every layer can be minimized by itself, and
//!
//! ```text
//! L(p) = sum over layers of min (error + p * cost) - p * budget
//! ```
//!
//! is a lower bound of what is sought (Lagrange). Its maximum over `p` is where the steps of all layers' lower convex
//! hulls, taken by falling gain for their cost, use the budget up: a piecewise linear function of the budget, which
//! is made once for the layers from each on. That greedy walk, and exchanges of single candidates for what it leaves
//! over, give an upper bound.
//!
//! What is left is solved by dynamic programming over the frontier of partial choices: layer by layer, those of the
//! widest span of cost first, each partial choice is extended by each candidate, and dropped where it cannot fit the
//! budget, where its error and the lower bound of the layers to come for the budget left are above the upper bound,
//! or where another one has neither more cost nor more error. This is exact.
//!
//! # Cost
//!
//! The bounds close in as layers grow in number, so that real problems keep few partial choices (those of 200 layers
//! of 60 candidates take a second or less), and layers of one size have few different sums besides. But the problem
//! is NP-hard: where a frontier would grow beyond [`WIDEST`], only the partial choices of the lowest bounds go on,
//! and the lowest bound among the others, kept in [`Choice::lower_bound`], tells how far the result is from the
//! optimum at most. Time is then within `layers * candidates * WIDEST` steps and the logarithm of a sort.

use serde::Serialize;
use thiserror::Error;

/// Partial choices that go on from one layer to the next in the first, quick search, which mostly finds the optimum
/// and with it a better upper bound.
const NARROW: usize = 1 << 8;

/// The most partial choices that go on from one layer to the next.
const WIDEST: usize = 1 << 14;

/// Room for rounding where sums of the same numbers are compared, relative to these numbers.
const ROUNDING: f64 = 1e-12;

/// What a coding costs a layer, and what it loses there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// In the unit of the budget. Sums of whole numbers up to 2^53 are exact.
    pub cost: f64,
    /// In any unit of which the sum over layers has a meaning.
    pub error: f64,
}

/// One candidate for each layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// For each layer the index of its candidate.
    pub candidates: Vec<usize>,
    /// The summed cost.
    pub cost: f64,
    /// The summed error.
    pub error: f64,
    /// The Lagrangian lower bound: the error if layers could mix their candidates.
    pub lagrangian_bound: f64,
    /// No choice within the budget has a smaller error than this. It is `error` itself if the search was complete.
    pub lower_bound: f64,
}

impl Choice {
    /// Whether no choice within the budget has a smaller error.
    pub fn is_optimal(&self) -> bool {
        self.lower_bound >= self.error
    }

    /// How far the error is above the Lagrangian bound.
    pub fn lagrangian_gap(&self) -> f64 {
        // Rounding may put the bound a hair above.
        (self.error - self.lagrangian_bound).max(0.0)
    }
}

/// Why there is no choice.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum KnapsackError {
    /// A layer without a candidate.
    #[error("layer {layer} has no candidate to choose from")]
    NoCandidate {
        /// The layer, counted from 0.
        layer: usize,
    },
    /// A candidate that cannot be compared with others.
    #[error(
        "candidate {candidate} of layer {layer} has cost {cost} and error {error}: \
         both have to be finite, and the cost not negative"
    )]
    NotComparable {
        /// The layer, counted from 0.
        layer: usize,
        /// The candidate, counted from 0.
        candidate: usize,
        /// Its cost.
        cost: f64,
        /// Its error.
        error: f64,
    },
    /// A budget that not even the cheapest candidates keep.
    #[error("a budget of {budget} cannot be kept: the cheapest candidates already cost {least}")]
    Infeasible {
        /// The budget.
        budget: f64,
        /// The least possible cost.
        least: f64,
    },
}

/// Chooses one candidate for each layer so that the summed error is least and the summed cost within `budget`; of
/// equal errors, the cheaper. The budget is kept up to one part in 10^12, the room that sums of fractions need: the
/// summed cost of some choice, whatever the order it was summed in, is a budget that this choice keeps.
///
/// # Errors
///
/// A layer without candidates, a candidate that is not a number, and a budget below the least possible cost.
pub fn choose(layers: &[Vec<Candidate>], budget: f64) -> Result<Choice, KnapsackError> {
    choose_within(layers, budget, [NARROW, WIDEST])
}

/// [`choose`] with the widths of frontiers that are tried until one suffices.
fn choose_within(
    layers: &[Vec<Candidate>],
    budget: f64,
    widths: [usize; 2],
) -> Result<Choice, KnapsackError> {
    check(layers)?;
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by(|&a, &b| span(&layers[b]).total_cmp(&span(&layers[a])));
    let ordered: Vec<&[Candidate]> = order.iter().map(|&layer| &layers[layer][..]).collect();
    let hulls: Vec<Vec<usize>> = ordered.iter().map(|layer| convex_hull(layer)).collect();
    let cheapest: Vec<usize> = hulls.iter().map(|hull| hull[0]).collect();
    let (least, _) = sums(&ordered, &cheapest);
    if !keeps(least, budget) {
        return Err(KnapsackError::Infeasible { budget, least });
    }
    let problem = Problem::new(&ordered, &hulls, roomy(budget));
    let mut best = problem.improve(problem.greedy(&hulls));
    let mut dropped = f64::NEG_INFINITY;
    for width in widths {
        (best, dropped) = problem.search(best, width);
        if dropped >= best.error {
            break;
        }
    }
    best.lower_bound = best.error.min(dropped.max(best.lagrangian_bound));
    let mut candidates = vec![0; layers.len()];
    order.iter().zip(&best.candidates).for_each(|(&layer, &chosen)| candidates[layer] = chosen);
    Ok(Choice { candidates, ..best })
}

/// A budget with room for rounding.
fn roomy(budget: f64) -> f64 {
    budget + ROUNDING * budget.abs()
}

/// Whether a cost is within a budget.
pub(super) fn keeps(cost: f64, budget: f64) -> bool {
    cost <= roomy(budget)
}

fn check(layers: &[Vec<Candidate>]) -> Result<(), KnapsackError> {
    for (layer, candidates) in layers.iter().enumerate() {
        if candidates.is_empty() {
            return Err(KnapsackError::NoCandidate { layer });
        }
        for (candidate, &Candidate { cost, error }) in candidates.iter().enumerate() {
            if !(cost.is_finite() && error.is_finite() && cost >= 0.0) {
                return Err(KnapsackError::NotComparable { layer, candidate, cost, error });
            }
        }
    }
    Ok(())
}

/// Between the highest and the lowest cost.
fn span(layer: &[Candidate]) -> f64 {
    let costs = || layer.iter().map(|c| c.cost);
    costs().fold(0.0, f64::max) - costs().fold(f64::INFINITY, f64::min)
}

/// Summed cost and error, in the order of the layers.
fn sums(layers: &[&[Candidate]], candidates: &[usize]) -> (f64, f64) {
    let chosen = layers.iter().zip(candidates).map(|(layer, &candidate)| layer[candidate]);
    chosen.fold((0.0, 0.0), |(cost, error), c| (cost + c.cost, error + c.error))
}

/// What each unit of cost gains between two candidates.
fn gain(from: Candidate, to: Candidate) -> f64 {
    (from.error - to.error) / (to.cost - from.cost)
}

/// The candidates on the lower convex hull of error over cost, from the cheapest to that of least error.
fn convex_hull(layer: &[Candidate]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..layer.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (layer[a], layer[b]);
        a.cost.total_cmp(&b.cost).then(a.error.total_cmp(&b.error))
    });
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        if hull.last().is_some_and(|&last| layer[last].error <= layer[next].error) {
            continue;
        }
        while let [.., before, last] = hull[..]
            && gain(layer[before], layer[last]) <= gain(layer[last], layer[next])
        {
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

/// The least error of some layers over their summed cost, if layers could mix their candidates: piecewise linear,
/// falling and convex.
struct Envelope {
    /// Summed cost and error at the corners, from the cheapest on.
    corners: Vec<(f64, f64)>,
}

impl Envelope {
    /// Of each layer and those behind it, and of none at the end.
    fn of_rests(layers: &[&[Candidate]], hulls: &[Vec<usize>]) -> Vec<Self> {
        let mut steps: Vec<(Candidate, Candidate)> = Vec::new();
        let mut least_error = (0.0, 0.0);
        let mut envelopes = vec![Self { corners: vec![least_error] }];
        for (layer, hull) in layers.iter().zip(hulls).rev() {
            let last = layer[hull[hull.len() - 1]];
            least_error = (least_error.0 + last.cost, least_error.1 + last.error);
            steps.extend(hull.windows(2).map(|pair| (layer[pair[0]], layer[pair[1]])));
            steps.sort_by(|a, b| gain(a.0, a.1).total_cmp(&gain(b.0, b.1)));
            // Backwards from the least error, so that one huge error of a cheap candidate does not take the digits
            // of all others.
            let back = |at: &mut (f64, f64), (from, to): &(Candidate, Candidate)| {
                *at = (at.0 - (to.cost - from.cost), at.1 + (from.error - to.error));
                Some(*at)
            };
            let mut corners = vec![least_error];
            corners.extend(steps.iter().scan(least_error, back));
            corners.reverse();
            envelopes.push(Self { corners });
        }
        envelopes.reverse();
        envelopes
    }

    /// The error for a cost of `room`; infinite if not even the cheapest candidates fit.
    fn at(&self, room: f64) -> f64 {
        let next = self.corners.partition_point(|corner| corner.0 <= room);
        match (next.checked_sub(1).map(|before| self.corners[before]), self.corners.get(next)) {
            (Some(before), Some(after)) => {
                after.1 + (before.1 - after.1) * ((after.0 - room) / (after.0 - before.0))
            }
            (Some(last), None) => last.1,
            (None, Some(first)) if first.0 - room <= self.rounding() => first.1,
            (None, _) => f64::INFINITY,
        }
    }

    /// Of costs, which were summed in another order than those of a choice.
    fn rounding(&self) -> f64 {
        ROUNDING * self.corners.last().map_or(0.0, |last| last.0)
    }
}

/// A knapsack with its bounds.
struct Problem<'a> {
    layers: &'a [&'a [Candidate]],
    budget: f64,
    /// Of the layers from each on.
    envelopes: Vec<Envelope>,
    /// The summed magnitudes of the least errors, to which rounding is relative.
    least_errors: f64,
}

/// A choice for the first layers.
#[derive(Clone, Copy)]
struct Partial {
    cost: f64,
    error: f64,
    /// Of what it can become.
    bound: f64,
    link: Link,
}

/// The last step of a partial choice.
#[derive(Clone, Copy)]
struct Link {
    /// Its place in the frontier of the layer before.
    parent: u32,
    candidate: u32,
}

impl<'a> Problem<'a> {
    fn new(layers: &'a [&'a [Candidate]], hulls: &[Vec<usize>], budget: f64) -> Self {
        let least =
            |(layer, hull): (&&[Candidate], &Vec<usize>)| layer[hull[hull.len() - 1]].error.abs();
        let least_errors = layers.iter().zip(hulls).map(least).sum();
        Self { layers, budget, envelopes: Envelope::of_rests(layers, hulls), least_errors }
    }

    /// Takes the steps of all hulls by falling gain while they fit the budget.
    fn greedy(&self, hulls: &[Vec<usize>]) -> Vec<usize> {
        let mut chosen: Vec<usize> = hulls.iter().map(|hull| hull[0]).collect();
        let mut steps: Vec<(f64, usize, usize)> = Vec::new();
        for (layer, hull) in hulls.iter().enumerate() {
            let candidates = self.layers[layer];
            for pair in hull.windows(2) {
                steps.push((gain(candidates[pair[0]], candidates[pair[1]]), layer, pair[1]));
            }
        }
        // Stable: the steps of a layer stay in their order.
        steps.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, layer, next) in steps {
            let before = std::mem::replace(&mut chosen[layer], next);
            if sums(self.layers, &chosen).0 > self.budget {
                chosen[layer] = before;
                break;
            }
        }
        chosen
    }

    fn choice(&self, candidates: Vec<usize>) -> Choice {
        let (cost, error) = sums(self.layers, &candidates);
        let bound = self.envelopes[0].at(self.budget);
        Choice { candidates, cost, error, lagrangian_bound: bound, lower_bound: bound }
    }

    /// Exchanges single candidates, each time that of largest gain, as long as one fits the budget.
    fn improve(&self, start: Vec<usize>) -> Choice {
        let mut now = self.choice(start);
        loop {
            let mut best = (0.0, None);
            for (layer, candidates) in self.layers.iter().enumerate() {
                let current = candidates[now.candidates[layer]];
                for (candidate, other) in candidates.iter().enumerate() {
                    let gain = current.error - other.error;
                    if gain > best.0 && now.cost - current.cost + other.cost <= self.budget {
                        best = (gain, Some((layer, candidate)));
                    }
                }
            }
            let Some((layer, candidate)) = best.1 else { return now };
            let mut exchanged = now.candidates.clone();
            exchanged[layer] = candidate;
            let exchanged = self.choice(exchanged);
            // Summed anew, it may round to the other side.
            if exchanged.cost > self.budget || exchanged.error >= now.error {
                return now;
            }
            now = exchanged;
        }
    }

    /// Dynamic programming with frontiers of at most `width`: the best choice found, and the lowest bound among the
    /// partial choices that were left out for want of room (infinite if none was).
    fn search(&self, best: Choice, width: usize) -> (Choice, f64) {
        let limit = best.error + ROUNDING * (best.error.abs() + self.least_errors);
        let mut dropped = f64::INFINITY;
        let mut links: Vec<Vec<Link>> = Vec::with_capacity(self.layers.len());
        let start = Link { parent: 0, candidate: 0 };
        let mut frontier = vec![Partial { cost: 0.0, error: 0.0, bound: 0.0, link: start }];
        for (layer, to_come) in self.layers.iter().zip(&self.envelopes[1..]) {
            let mut extended = Vec::new();
            for (parent, partial) in (0..).zip(&frontier) {
                for (candidate, added) in (0..).zip(*layer) {
                    let (cost, error) = (partial.cost + added.cost, partial.error + added.error);
                    if cost <= self.budget {
                        let bound = error + to_come.at(self.budget - cost);
                        if bound <= limit {
                            let link = Link { parent, candidate };
                            extended.push(Partial { cost, error, bound, link });
                        }
                    }
                }
            }
            frontier = undominated(extended);
            if frontier.len() > width {
                let by_bound = |a: &Partial, b: &Partial| a.bound.total_cmp(&b.bound);
                let (_, left_out, _) = frontier.select_nth_unstable_by(width, by_bound);
                dropped = dropped.min(left_out.bound);
                frontier.truncate(width);
            }
            links.push(frontier.iter().map(|partial| partial.link).collect());
        }
        let by_error = |a: &(usize, &Partial), b: &(usize, &Partial)| {
            a.1.error.total_cmp(&b.1.error).then(a.1.cost.total_cmp(&b.1.cost))
        };
        // Without any, room was too small for the choice that is known.
        let Some((place, last)) = frontier.iter().enumerate().min_by(by_error) else {
            return (best, dropped);
        };
        if (last.error, last.cost) >= (best.error, best.cost) {
            return (best, dropped);
        }
        let mut chosen = Vec::with_capacity(links.len());
        let mut place = place;
        for links in links.iter().rev() {
            let link = links[place];
            chosen.push(link.candidate as usize);
            place = link.parent as usize;
        }
        chosen.reverse();
        (self.choice(chosen), dropped)
    }
}

/// Those than which no other has neither more cost nor more error, by ascending cost.
fn undominated(mut partials: Vec<Partial>) -> Vec<Partial> {
    partials.sort_unstable_by(|a, b| {
        a.cost
            .total_cmp(&b.cost)
            .then(a.error.total_cmp(&b.error))
            .then_with(|| (a.link.parent, a.link.candidate).cmp(&(b.link.parent, b.link.candidate)))
    });
    let mut least = f64::INFINITY;
    partials.retain(|partial| {
        let is_better = partial.error < least;
        least = least.min(partial.error);
        is_better
    });
    partials
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn layer(candidates: &[(f64, f64)]) -> Vec<Candidate> {
        candidates.iter().map(|&(cost, error)| Candidate { cost, error }).collect()
    }

    /// Summed cost and error.
    fn sums(layers: &[Vec<Candidate>], candidates: &[usize]) -> (f64, f64) {
        super::sums(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>(), candidates)
    }

    /// Equal up to the order in which sums were taken.
    #[track_caller]
    fn assert_close(found: (f64, f64), expected: (f64, f64)) {
        let is_close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * (1.0 + b.abs());
        let both = is_close(found.0, expected.0) && is_close(found.1, expected.1);
        assert!(both, "{found:?} but {expected:?}");
    }

    /// The least error within the budget and the least cost for it, by trying every choice.
    fn brute_force(layers: &[Vec<Candidate>], budget: f64) -> Option<(f64, f64)> {
        let mut best: Option<(f64, f64)> = None;
        let mut chosen = vec![0; layers.len()];
        loop {
            let (cost, error) = sums(layers, &chosen);
            if cost <= budget && best.is_none_or(|best| (error, cost) < best) {
                best = Some((error, cost));
            }
            let Some(next) = (0..layers.len()).find(|&i| chosen[i] + 1 < layers[i].len()) else {
                return best;
            };
            chosen[..next].fill(0);
            chosen[next] += 1;
        }
    }

    /// Small problems of several kinds: anything goes; whole numbers, with many ties; as codings are, with errors
    /// that fall with the cost; and costs that are errors, in which bounds tell nothing.
    fn random_problem(random: &mut ChaCha8Rng) -> (Vec<Vec<Candidate>>, f64) {
        let kind = random.random_range(0..4);
        let count = random.random_range(1..=6);
        let layers: Vec<Vec<Candidate>> = (0..count)
            .map(|_| {
                let weights = f64::from(random.random_range(1..1000));
                let candidates = random.random_range(1..=5);
                let candidate = |_| match kind {
                    0 => (random.random_range(0.0..9.0), random.random_range(-1.0..1.0)),
                    1 => (random.random_range(0..5).into(), random.random_range(0..5).into()),
                    2 => {
                        let bits = f64::from(random.random_range(2..9));
                        let error = (-2.0 * bits).exp2() * random.random_range(0.5..2.0);
                        (weights * bits, weights * error)
                    }
                    _ => {
                        let cost = f64::from(random.random_range(1..10_000));
                        (cost, -cost)
                    }
                };
                layer(&(0..candidates).map(candidate).collect::<Vec<(f64, f64)>>())
            })
            .collect();
        let extreme = |pick: fn(f64, f64) -> f64| -> f64 {
            layers.iter().map(|l| l.iter().map(|c| c.cost).reduce(pick).unwrap()).sum()
        };
        let (low, high) = (extreme(f64::min), extreme(f64::max));
        let budget = low + (high - low) * random.random_range(-0.1..1.1);
        (layers, if kind == 0 { budget } else { budget.floor() })
    }

    #[test]
    fn equals_brute_force() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut infeasible = 0;
        for round in 0..2000 {
            let (layers, budget) = random_problem(&mut random);
            let Some((error, cost)) = brute_force(&layers, budget) else {
                let refused = choose(&layers, budget);
                assert!(matches!(refused, Err(KnapsackError::Infeasible { .. })), "{refused:?}");
                infeasible += 1;
                continue;
            };
            let found = choose(&layers, budget).unwrap();
            assert_close((found.cost, found.error), (cost, error));
            assert_close(sums(&layers, &found.candidates), (cost, error));
            assert!(found.is_optimal() && found.lower_bound == found.error, "{round}: {found:?}");
            let bound = found.lagrangian_bound;
            assert!(bound <= error + 1e-12 * (1.0 + error.abs()), "{round}: {found:?}");
        }
        assert!((20..500).contains(&infeasible), "{infeasible}");
    }

    #[test]
    fn a_search_without_room_proves_how_far_off_it_is() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let (mut missed, mut unproven) = (0, 0);
        for _ in 0..2000 {
            let (layers, budget) = random_problem(&mut random);
            let Some((error, _)) = brute_force(&layers, budget) else { continue };
            let found = choose_within(&layers, budget, [1, 2]).unwrap();
            assert_close(sums(&layers, &found.candidates), (found.cost, found.error));
            let rounding = 1e-12 * (1.0 + error.abs());
            assert!(found.cost <= budget && found.error >= error - rounding);
            assert!(found.lower_bound <= error + rounding, "{found:?} but {error}");
            assert!(found.lower_bound >= found.lagrangian_bound - rounding);
            missed += usize::from(found.error > error + rounding);
            unproven += usize::from(!found.is_optimal());
        }
        assert!(0 < missed && missed <= unproven, "{missed} of {unproven}");
    }

    /// Layers as of a model: sizes over three orders of magnitude, errors that fall by about 6 dB for each bit.
    fn model(layers: usize, candidates: usize, seed: u64) -> (Vec<Vec<Candidate>>, f64) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut weights = 0.0;
        let layers = (0..layers)
            .map(|_| {
                let size = random.random_range(6.0..16.0_f64).exp2().floor();
                let variance = random.random_range(-8.0..0.0_f64).exp2();
                weights += size;
                (0..candidates)
                    .map(|i| {
                        let bits = 2.0 + (i % 7) as f64;
                        let factor = random.random_range(0.5..2.0);
                        let error = size * variance * (-2.0 * bits).exp2() * factor;
                        Candidate { cost: size * bits, error }
                    })
                    .collect()
            })
            .collect();
        (layers, weights)
    }

    #[test]
    fn real_sizes_are_solved_exactly() {
        for (layers, candidates) in [(10, 3), (37, 14), (75, 60), (200, 60)] {
            for average_bits in [3.0, 4.0, 5.5] {
                let (layers, weights) = model(layers, candidates, layers as u64);
                let budget = average_bits * weights;
                let found = choose(&layers, budget).unwrap();
                assert!(found.is_optimal() && found.cost <= budget, "{found:?}");
                let gap = found.lagrangian_gap() / found.error;
                assert!((0.0..0.1).contains(&gap), "{} layers: {gap}", layers.len());
                // Neither a better exchange of one candidate nor of two is left.
                let (cost, error) = (found.cost, found.error);
                let moves: Vec<(usize, f64, f64)> = layers
                    .iter()
                    .zip(&found.candidates)
                    .enumerate()
                    .flat_map(|(i, (layer, &chosen))| {
                        let now = layer[chosen];
                        layer.iter().map(move |c| (i, c.cost - now.cost, c.error - now.error))
                    })
                    .collect();
                for a in moves.iter().step_by(3) {
                    for b in moves.iter().step_by(3).filter(|b| b.0 != a.0) {
                        let fits = cost + a.1 + b.1 <= budget;
                        assert!(!fits || a.2 + b.2 >= -1e-12 * error, "{a:?} {b:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn ties_go_to_the_cheaper() {
        let layers =
            [layer(&[(3.0, 1.0), (2.0, 1.0)]), layer(&[(5.0, 0.0), (4.0, 0.0), (1.0, 2.0)])];
        let found = choose(&layers, 100.0).unwrap();
        assert_eq!((found.candidates, found.cost, found.error), (vec![1, 1], 6.0, 1.0));
        let found = choose(&layers, 5.9).unwrap();
        assert_eq!((found.candidates, found.cost, found.error), (vec![1, 2], 3.0, 3.0));
    }

    #[test]
    fn a_choice_keeps_the_budget_that_is_its_own_cost() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..200 {
            let candidate = |i: u32| {
                let step = f64::from(i);
                Candidate { cost: 0.1 + step * random.random_range(0.1..0.9), error: -step }
            };
            let layers: Vec<Vec<Candidate>> = vec![(0..3).map(candidate).collect(); 40];
            for candidate in 0..3 {
                let (cost, error) = sums(&layers, &[candidate; 40]);
                assert!(choose(&layers, cost).unwrap().error <= error);
                // As a product, which rounds otherwise.
                let cost = 40.0 * layers[0][candidate].cost;
                assert!(choose(&layers, cost).unwrap().error <= error);
            }
        }
    }

    #[test]
    fn a_huge_error_does_not_hide_small_ones() {
        let wild = layer(&[(1.0, 1e30), (2.0, 1e-3)]);
        let fine = layer(&[(1.0, 3e-5), (2.0, 2e-5), (3.0, 1e-5)]);
        let layers: Vec<Vec<Candidate>> = [vec![wild], vec![fine; 30]].concat();
        let found = choose(&layers, 61.0).unwrap();
        assert!(found.is_optimal());
        assert_close((found.cost, found.error * 1e5), (61.0, 100.0 + 30.0 * 2.0 + 1.0));
    }

    #[test]
    fn no_layers_and_no_limit() {
        let nothing = choose(&[], 0.0).unwrap();
        assert_eq!((nothing.candidates.len(), nothing.cost, nothing.error), (0, 0.0, 0.0));
        let layers = [layer(&[(1.0, 5.0), (9.0, 1.0)]), layer(&[(2.0, 3.0), (8.0, 0.5)])];
        let found = choose(&layers, f64::INFINITY).unwrap();
        assert_eq!((&*found.candidates, found.error), (&[1, 1][..], 1.5));
        assert!(found.is_optimal() && found.lagrangian_gap() == 0.0);
    }

    #[test]
    fn impossible_problems_are_refused() {
        let layers = [layer(&[(3.0, 1.0), (2.0, 5.0)]), layer(&[(5.0, 0.0)])];
        let message =
            |layers: &[Vec<Candidate>], budget| choose(layers, budget).unwrap_err().to_string();
        assert_eq!(
            message(&layers, 6.9),
            "a budget of 6.9 cannot be kept: the cheapest candidates already cost 7"
        );
        assert!(message(&layers, f64::NAN).starts_with("a budget of NaN cannot be kept"));
        assert_eq!(
            message(&[layer(&[(1.0, 1.0)]), vec![]], 9.0),
            "layer 1 has no candidate to choose from"
        );
        for bad in [(-1.0, 0.0), (f64::NAN, 0.0), (f64::INFINITY, 0.0), (0.0, f64::NAN)] {
            let message = message(&[layer(&[(1.0, 1.0), bad])], 9.0);
            assert!(message.starts_with("candidate 1 of layer 0 has cost "), "{message}");
        }
    }
}
