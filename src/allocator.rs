//! The allocator of the programs of this package.
//!
//! Every tensor operation allocates its result. The system's allocator gives the pages of a large
//! one back each time, and a training step then takes 1.5 to 5 times as long.

use std::ffi::c_long;

pub use mimalloc::MiMalloc;

/// Milliseconds for which freed memory is kept before it goes back to the system: longer than a
/// training step.
const PURGE_DELAY: c_long = 10_000;

/// The number of mimalloc's option `purge_delay`, whose default is one second.
const PURGE_DELAY_OPTION: i32 = 15;

/// Makes [`MiMalloc`] keep freed memory from one training step to the next. What the environment
/// says in `MIMALLOC_PURGE_DELAY` has precedence.
///
/// Call it first in `main` of a program that has `MiMalloc` as its global allocator.
pub fn keep_memory() {
    // SAFETY: the function only stores a number; no other thread runs when `main` begins.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY_OPTION, PURGE_DELAY) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: the function only reads a number.
        let value = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY_OPTION) };
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
            return;
        }
        assert_eq!(value(), 1000, "mimalloc's default");
        keep_memory();
        assert_eq!(value(), PURGE_DELAY);
    }
}
