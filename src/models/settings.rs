//! Checks that the settings of several models share.

/// A setting that cannot be: its key, and what it is and may be.
pub type Refused = (&'static str, String);

/// Refuses numbers of layers, channels, positions and the like that are 0, or more than any model has.
pub(super) fn sizes<const N: usize>(settings: [(&'static str, usize); N]) -> Result<(), Refused> {
    const MOST: usize = 1_000_000;
    match settings.into_iter().find(|(_, value)| !(1..=MOST).contains(value)) {
        Some((key, value)) => Err((key, format!("is {value}; must be 1 to {MOST}"))),
        None => Ok(()),
    }
}

/// Refuses dropout probabilities that leave nothing, or are none.
pub(super) fn probabilities<const N: usize>(
    settings: [(&'static str, f64); N],
) -> Result<(), Refused> {
    match settings.into_iter().find(|(_, p)| !(0.0..1.0).contains(p)) {
        Some((key, p)) => Err((key, format!("is {p}; must be at least 0 and below 1"))),
        None => Ok(()),
    }
}

/// Refuses numbers that are not above 0, or not finite.
pub(super) fn positive<const N: usize>(settings: [(&'static str, f64); N]) -> Result<(), Refused> {
    match settings.into_iter().find(|(_, value)| !(*value > 0.0 && value.is_finite())) {
        Some((key, value)) => Err((key, format!("is {value}; must be above 0"))),
        None => Ok(()),
    }
}

/// Refuses heads of attention that do not share a width out evenly.
pub(super) fn heads(key: &'static str, heads: usize, width: usize) -> Result<(), Refused> {
    match heads > 0 && width.is_multiple_of(heads) {
        true => Ok(()),
        false => Err((key, format!("is {heads}; must divide hidden-size, {width}"))),
    }
}

/// Panics where a model is made of settings that were refused.
#[track_caller]
pub(super) fn assert_valid(checked: Result<(), Refused>) {
    if let Err((key, message)) = checked {
        panic!("{key} {message}");
    }
}
