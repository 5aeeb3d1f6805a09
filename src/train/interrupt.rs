//! Stopping a run from outside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use burn::train::Interrupter;

/// A handle with which a signal handler stops a run at the next step.
#[derive(Clone, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
    /// The training loop that runs right now.
    running: Arc<Mutex<Option<Interrupter>>>,
}

impl Interrupt {
    /// Asks the run to stop. Returns whether it had been asked before.
    pub fn request(&self) -> bool {
        let before = self.requested.swap(true, Ordering::SeqCst);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interrupter) = running.as_ref() {
            interrupter.stop(Some("interrupted"));
        }
        before
    }

    /// Whether the run was asked to stop.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Connects the handle with a training loop.
    pub(super) fn watch(&self, interrupter: &Interrupter) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = Some(interrupter.clone());
        if self.requested() {
            interrupter.stop(Some("interrupted"));
        }
    }
}
