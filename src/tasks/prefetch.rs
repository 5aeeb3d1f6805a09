//! Batches made ahead of their use.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use burn::tensor::Device;

use super::Source;
use crate::data::DataError;

/// Batches that wait to be used, at most.
const AHEAD: usize = 2;

/// The batches of a source, in order, made on a thread of their own while the ones before are used.
///
/// Dropping it ends the thread after the batch under way.
pub struct Prefetch<B> {
    batches: Receiver<Result<B, DataError>>,
    thread: Option<JoinHandle<()>>,
}

impl<B: Send + 'static> Prefetch<B> {
    /// Starts to make the batches of the given indices, to evaluate on. One without an image that
    /// can be decoded is passed over.
    pub fn new(source: Arc<dyn Source<B>>, indices: Vec<Vec<usize>>, device: &Device) -> Self {
        let device = device.clone();
        Self::start(indices, move |indices| match source.batch(indices, &device) {
            Err(DataError::BatchCorrupt { .. }) => None,
            batch => Some(batch),
        })
    }

    /// The same to train on in an epoch.
    pub fn training(
        source: Arc<dyn Source<B>>,
        indices: Vec<Vec<usize>>,
        epoch: usize,
        device: &Device,
    ) -> Self {
        let device = device.clone();
        Self::start(indices, move |indices| Some(source.training_batch(indices, epoch, &device)))
    }

    fn start(
        indices: Vec<Vec<usize>>,
        make: impl Fn(&[usize]) -> Option<Result<B, DataError>> + Send + 'static,
    ) -> Self {
        let (sender, batches) = sync_channel(AHEAD);
        let thread = thread::spawn(move || {
            for batch in indices.iter().filter_map(|indices| make(indices)) {
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        Self { batches, thread: Some(thread) }
    }
}

impl<B> Iterator for Prefetch<B> {
    type Item = Result<B, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.recv().ok();
        if batch.is_none()
            && let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
        {
            resume_unwind(panic);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts the batches that were made; its last example cannot be read.
    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Source<usize> for Counted {
        fn len(&self) -> usize {
            100
        }

        fn batch(&self, indices: &[usize], _device: &Device) -> Result<usize, DataError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            assert_ne!(indices, [99], "the last example");
            Ok(indices.iter().sum())
        }
    }

    fn start(source: &Arc<Counted>, range: std::ops::Range<usize>) -> Prefetch<usize> {
        Prefetch::new(source.clone(), range.map(|i| vec![i]).collect(), &Device::default())
    }

    #[test]
    fn batches_come_in_order_and_are_made_ahead() {
        let source = Arc::new(Counted::default());
        let mut batches = start(&source, 0..50);
        assert_eq!(batches.next().map(Result::unwrap), Some(0));
        // The thread goes on without being asked, until enough batches wait.
        while source.0.load(Ordering::SeqCst) < 1 + AHEAD {
            thread::yield_now();
        }
        let rest: Vec<usize> = batches.map(Result::unwrap).collect();
        assert_eq!(rest, (1..50).collect::<Vec<_>>());
    }

    #[test]
    fn dropping_it_ends_the_thread() {
        let source = Arc::new(Counted::default());
        let mut batches = start(&source, 0..50);
        batches.next();
        let thread = batches.thread.take().expect("a thread");
        drop(batches);
        thread.join().expect("no panic");
        assert!(source.0.load(Ordering::SeqCst) <= 2 + AHEAD);
    }

    #[test]
    #[should_panic(expected = "the last example")]
    fn a_panic_of_the_source_is_not_an_early_end() {
        start(&Arc::new(Counted::default()), 98..100).for_each(drop);
    }
}
