//! Optimizers and learning-rate schedules from a stage's settings.

use burn::grad_clipping::GradientClippingConfig;
use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::lr_scheduler::LrSchedulerConfig;
use burn::optim::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::optim::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::optim::lr_scheduler::module_lr_scheduler::{ModuleLrScheduler, ModuleLrSchedulerConfig};
use burn::optim::lr_scheduler::sequential::SequentialLrSchedulerConfig;
use burn::optim::lr_scheduler::step::StepLrSchedulerConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{ModuleOptimizer, SgdConfig};

use crate::config::{OptimizerName, ScheduleName, StageConfig};
use crate::kernels::AdamW;

/// Biases and normalization parameters, which no weight decay should pull to zero.
const NOT_DECAYED: &str = r"(^|\.)(bias|gamma|beta)$";

/// The ranges of quantizers that train, which have a decay and a learning rate of their own.
const RANGES: &str = r"(^|\.)quantizer\.scale$";

/// The optimizer of a stage.
pub(super) fn optimizer(stage: &StageConfig) -> ModuleOptimizer {
    let settings = stage.optimizer;
    let decay = settings.weight_decay as f32;
    let range_decay = stage.range_weight_decay as f32;
    let clipping = stage.gradient_clip_norm.map(|n| GradientClippingConfig::Norm(n as f32).init());
    let [not_decayed, ranges] = [NOT_DECAYED, RANGES]
        .map(|regex| ParamGroup::from_regex(regex).expect("a valid regular expression"));
    let optimizer = match settings.name {
        OptimizerName::Adamw => ModuleOptimizer::from(AdamW::new(decay))
            .with_group(not_decayed, AdamW::new(0.0), clipping.clone())
            .with_group(ranges, AdamW::new(range_decay), clipping.clone()),
        OptimizerName::Sgd => {
            let sgd = |decay: f32| {
                let momentum = settings.momentum.map(|momentum| {
                    MomentumConfig::new().with_momentum(momentum).with_dampening(0.0)
                });
                let decay = (decay > 0.0).then(|| WeightDecayConfig::new(decay));
                SgdConfig::new().with_momentum(momentum).with_weight_decay(decay).build()
            };
            ModuleOptimizer::from(sgd(decay))
                .with_group(not_decayed, sgd(0.0), clipping.clone())
                .with_group(ranges, sgd(range_decay), clipping.clone())
        }
    };
    match clipping {
        Some(clipping) => optimizer.with_grad_clipping(clipping),
        None => optimizer,
    }
}

/// The schedule of a stage of `steps_per_epoch` steps an epoch.
pub(super) fn schedule(stage: &StageConfig, steps_per_epoch: usize) -> ModuleLrScheduler {
    let of = |rate| schedule_of_rate(stage, rate, steps_per_epoch);
    let mut config = ModuleLrSchedulerConfig::new(of(stage.optimizer.learning_rate));
    if let Some(rate) = stage.range_learning_rate {
        let ranges = ParamGroup::from_regex(RANGES).expect("a valid regular expression");
        config = config.with_group(ranges, of(rate));
    }
    config.init().expect("settings inside the schedulers' limits")
}

fn schedule_of_rate(stage: &StageConfig, rate: f64, steps_per_epoch: usize) -> LrSchedulerConfig {
    let settings = stage.schedule;
    let steps = steps_per_epoch * stage.epochs;
    let warmup = (settings.warmup * steps as f64).round() as usize;
    let rest = (steps - warmup).max(1);
    let main: LrSchedulerConfig = match settings.name {
        ScheduleName::Constant => LrSchedulerConfig::Constant(rate),
        ScheduleName::Linear => LinearLrSchedulerConfig::new(rate, 0.0, rest).into(),
        ScheduleName::Cosine => CosineAnnealingLrSchedulerConfig::new(rate, rest).into(),
        ScheduleName::Step => {
            let every = settings.every.expect("checked when the configuration was read");
            let factor = settings.factor.expect("checked when the configuration was read");
            StepLrSchedulerConfig::new(rate, every * steps_per_epoch).with_gamma(factor).into()
        }
    };
    match warmup {
        0 => main,
        _ => {
            let rise = LinearLrSchedulerConfig::new(rate / warmup as f64, rate, warmup);
            SequentialLrSchedulerConfig::new(vec![rise.into(), main], vec![warmup]).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Optimizer, Schedule, Select};
    use burn::module::ParamId;

    fn stage(name: ScheduleName, warmup: f64, every: Option<usize>) -> StageConfig {
        StageConfig {
            epochs: 4,
            batch_size: 1,
            optimizer: Optimizer {
                name: OptimizerName::Sgd,
                learning_rate: 1.0,
                weight_decay: 0.0,
                momentum: None,
            },
            range_learning_rate: None,
            range_weight_decay: 0.0,
            schedule: Schedule { name, warmup, every, factor: every.map(|_| 0.5) },
            gradient_clip_norm: None,
            early_stopping: None,
            select: Select::Last,
        }
    }

    fn rates(name: ScheduleName, warmup: f64, every: Option<usize>) -> Vec<f64> {
        let mut schedule = schedule(&stage(name, warmup, every), 5);
        (0..20).map(|_| schedule.step().base()).collect()
    }

    #[test]
    fn decay_spares_biases_normalization_and_ranges() {
        let groups = [NOT_DECAYED, RANGES].map(|regex| ParamGroup::from_regex(regex).unwrap());
        let spared = |path: &str| groups.iter().any(|g| g.matches(&ParamId::new(), Some(path)));
        for path in ["bias", "head.bias", "norm.gamma", "norm.beta", "head.weight.quantizer.scale"]
        {
            assert!(spared(path), "{path}");
        }
        for path in ["head.weight", "scale", "head.weight_bias"] {
            assert!(!spared(path), "{path}");
        }
    }

    #[test]
    fn schedules_follow_their_shapes() {
        let linear = rates(ScheduleName::Linear, 0.0, None);
        assert_eq!((linear[0], linear[10]), (1.0, 0.5));
        assert!(linear[19] > 0.0 && linear[19] < 0.06);

        let cosine = rates(ScheduleName::Cosine, 0.0, None);
        assert!((cosine[10] - 0.5).abs() < 1e-9, "{cosine:?}");

        let step = rates(ScheduleName::Step, 0.0, Some(2));
        assert_eq!((step[9], step[10]), (1.0, 0.5));

        assert_eq!(rates(ScheduleName::Constant, 0.0, None), [1.0; 20]);
    }

    #[test]
    fn ranges_may_have_a_rate_of_their_own() {
        let stage = StageConfig {
            range_learning_rate: Some(0.25),
            ..stage(ScheduleName::Linear, 0.25, None)
        };
        let mut schedule = schedule(&stage, 5);
        for _ in 0..20 {
            let rates = schedule.step();
            let of = |path| rates.lr_from_param(ParamId::new(), Some(path));
            assert_eq!(of("head.weight"), rates.base());
            assert!((of("head.weight.quantizer.scale") - 0.25 * rates.base()).abs() < 1e-12);
        }
    }

    #[test]
    fn warmup_rises_to_the_full_rate() {
        let warm = rates(ScheduleName::Linear, 0.25, None);
        assert!((warm[0] - 0.2).abs() < 1e-9, "{warm:?}");
        assert!(warm[..6].windows(2).all(|w| w[0] < w[1]), "{warm:?}");
        assert!((warm[5] - 1.0).abs() < 1e-9, "{warm:?}");
        assert!(warm[5..].windows(2).all(|w| w[0] > w[1]), "{warm:?}");
    }
}
