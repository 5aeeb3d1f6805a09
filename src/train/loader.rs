//! Feeds batches to burn-train in an order that depends on seed and epoch alone.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::tasks::{Part, Prefetch, Share, Source, batches_by_size};

/// Batches that are sorted by size together, so that little of a batch is padding.
const BATCHES_PER_WINDOW: usize = 32;

type Hook = Arc<dyn Fn(usize) + Send + Sync>;

/// A data loader whose epoch n is the same in a run that was resumed as in one that was not.
///
/// Each epoch starts by seeding the device from seed and epoch, so that dropout repeats too.
pub struct EpochLoader<B> {
    source: Arc<dyn Source<B>>,
    range: Range<usize>,
    batch_size: usize,
    /// The seed of the order; none keeps the source's order, sorted by size.
    shuffle: Option<u64>,
    device: Device,
    /// Epochs begun, shared by the copies that burn-train makes.
    epoch: Arc<AtomicUsize>,
    on_start: Option<Hook>,
    on_end: Option<Hook>,
}

impl<B: 'static> EpochLoader<B> {
    /// All examples of a source, in the source's order sorted by size.
    pub fn new(source: Arc<dyn Source<B>>, batch_size: usize, device: &Device) -> Self {
        Self {
            range: 0..source.len(),
            source,
            batch_size,
            shuffle: None,
            device: device.clone(),
            epoch: Arc::default(),
            on_start: None,
            on_end: None,
        }
    }

    /// Shuffles anew in each epoch.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.shuffle = Some(seed);
        self
    }

    /// Goes on after `epochs` epochs.
    pub fn after(self, epochs: usize) -> Self {
        self.epoch.store(epochs, Ordering::SeqCst);
        self
    }

    /// Calls `start` before the first batch of an epoch and `end` after its last one.
    pub fn hooks(
        mut self,
        start: impl Fn(usize) + Send + Sync + 'static,
        end: impl Fn(usize) + Send + Sync + 'static,
    ) -> Self {
        self.on_start = Some(Arc::new(start));
        self.on_end = Some(Arc::new(end));
        self
    }

    /// The indices of each batch of an epoch.
    fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let Some(seed) = self.shuffle else {
            return batches_by_size(self.source.as_ref(), self.range.clone(), self.batch_size);
        };
        let mut order: Vec<usize> = self.range.clone().collect();
        let mut rng = epoch_rng(seed, epoch);
        order.shuffle(&mut rng);
        for window in order.chunks_mut(self.batch_size * BATCHES_PER_WINDOW) {
            window.sort_by_key(|&i| self.source.size(i));
        }
        let mut batches: Vec<Vec<usize>> =
            order.chunks(self.batch_size).map(<[usize]>::to_vec).collect();
        batches.shuffle(&mut rng);
        batches
    }
}

fn epoch_rng(seed: u64, epoch: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    rng
}

impl<B: Send + 'static> EpochLoader<B> {
    /// Begins the next epoch; `part` is another number for each device, which gets of every batch
    /// what `own` leaves of it.
    fn begin(
        &self,
        part: usize,
        own: impl FnMut(&Vec<usize>) -> Vec<usize>,
    ) -> EpochIterator<'_, B> {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(seed) = self.shuffle {
            // Another stream than the order's, so that the two do not depend on each other.
            let seed = epoch_rng(!seed, epoch).next_u64();
            self.device.seed(seed.wrapping_add(part as u64));
        }
        if let Some(start) = &self.on_start {
            start(epoch);
        }
        let joined = self.batches(epoch);
        let own = joined.iter().map(own).collect();
        let source = self.source.clone();
        EpochIterator {
            loader: self,
            epoch,
            sizes: joined.iter().map(Vec::len).collect::<Vec<_>>().into_iter(),
            batches: match self.shuffle {
                Some(_) => Prefetch::training(source, own, epoch, &self.device),
                None => Prefetch::new(source, own, &self.device),
            },
            processed: 0,
            ended: false,
        }
    }
}

impl<B: Send + 'static> DataLoader<B> for EpochLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<B> + 'a> {
        Box::new(self.begin(0, Vec::clone))
    }

    fn num_items(&self) -> usize {
        self.range.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<B>> {
        Arc::new(Self { device: device.clone(), ..self.clone() })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B>> {
        let range = self.range.start + start..self.range.start + end;
        Arc::new(Self { range, ..self.clone() })
    }
}

/// A clone shares the epoch counter; `B` itself need not be `Clone`.
impl<B> Clone for EpochLoader<B> {
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            range: self.range.clone(),
            batch_size: self.batch_size,
            shuffle: self.shuffle,
            device: self.device.clone(),
            epoch: self.epoch.clone(),
            on_start: self.on_start.clone(),
            on_end: self.on_end.clone(),
        }
    }
}

struct EpochIterator<'a, B> {
    loader: &'a EpochLoader<B>,
    epoch: usize,
    /// Examples of each joined batch to come.
    sizes: std::vec::IntoIter<usize>,
    batches: Prefetch<B>,
    processed: usize,
    ended: bool,
}

impl<B: Send + 'static> Iterator for EpochIterator<'_, B> {
    type Item = Result<B, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(batch) = self.batches.next() else {
            if let (false, Some(end)) = (self.ended, &self.loader.on_end) {
                end(self.epoch);
            }
            self.ended = true;
            return None;
        };
        self.processed += self.sizes.next().unwrap_or(0);
        Some(batch.map_err(DatasetError::new))
    }
}

impl<B: Send + 'static> DataLoaderIterator<B> for EpochIterator<'_, B> {
    fn progress(&self) -> Progress {
        Progress::new(self.processed, self.loader.range.len(), Some("examples".to_string()))
    }
}

/// Training batches, split between devices.
///
/// burn-train cuts a loader's examples into one range for each device. Here a range of all examples
/// stands for the same part of every batch, so that the devices together see, step by step, the
/// batches that one device sees alone.
pub struct PartLoader<B> {
    epochs: EpochLoader<B>,
    parts: usize,
    range: Range<usize>,
}

impl<B: 'static> PartLoader<B> {
    /// The batches of `epochs` in as many parts as there are devices.
    pub fn new(epochs: EpochLoader<B>, parts: usize) -> Self {
        Self { range: 0..epochs.range.len(), epochs, parts }
    }

    /// This part of a batch, and its share.
    fn part<'a>(&self, batch: &'a [usize]) -> (&'a [usize], Share) {
        // Rounded up, so that the first devices get what is left over.
        let cut = |at: usize| (batch.len() * at).div_ceil(self.epochs.range.len());
        let part = cut(self.range.start)..cut(self.range.end);
        let share = Share { examples: part.len(), joined: batch.len(), parts: self.parts };
        // A device without an example would fall out of step with the others.
        let part = if part.is_empty() { 0..1 } else { part };
        (&batch[part], share)
    }
}

impl<B: Send + 'static> DataLoader<Part<B>> for PartLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Part<B>> + 'a> {
        let mut shares = Vec::new();
        let batches = self.epochs.begin(self.range.start, |joined| {
            let (own, share) = self.part(joined);
            shares.push(share);
            own.to_vec()
        });
        Box::new(PartIterator { loader: self, batches, shares: shares.into_iter() })
    }

    fn num_items(&self) -> usize {
        self.range.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<Part<B>>> {
        let epochs = EpochLoader { device: device.clone(), ..self.epochs.clone() };
        Arc::new(Self { epochs, parts: self.parts, range: self.range.clone() })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<Part<B>>> {
        let begun = self.epochs.epoch.load(Ordering::SeqCst);
        Arc::new(Self {
            // Every device counts the epochs for itself.
            epochs: EpochLoader { epoch: Arc::new(begun.into()), ..self.epochs.clone() },
            parts: self.parts,
            range: self.range.start + start..self.range.start + end,
        })
    }
}

struct PartIterator<'a, B> {
    loader: &'a PartLoader<B>,
    batches: EpochIterator<'a, B>,
    /// That of each batch to come.
    shares: std::vec::IntoIter<Share>,
}

impl<B: Send + 'static> Iterator for PartIterator<'_, B> {
    type Item = Result<Part<B>, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        let share = self.shares.next().expect("a share of every batch");
        Some(batch.map(|batch| Part { batch, share }))
    }
}

impl<B: Send + 'static> DataLoaderIterator<Part<B>> for PartIterator<'_, B> {
    fn progress(&self) -> Progress {
        // burn-train adds up the devices.
        let total = self.loader.epochs.range.len();
        let done = |at: usize| self.batches.processed * at / total;
        let processed = done(self.loader.range.end) - done(self.loader.range.start);
        Progress::new(processed, self.loader.range.len(), Some("examples".to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataError;
    use burn::data::dataloader::split::split_dataloader;

    struct Numbers(Vec<usize>);

    impl Source<Vec<usize>> for Numbers {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn size(&self, index: usize) -> usize {
            self.0[index]
        }

        fn batch(&self, indices: &[usize], _device: &Device) -> Result<Vec<usize>, DataError> {
            Ok(indices.iter().map(|&i| self.0[i]).collect())
        }
    }

    fn loader() -> EpochLoader<Vec<usize>> {
        let source = Arc::new(Numbers((0..1000).map(|i| i * 7 % 1000).collect()));
        EpochLoader::new(source, 8, &Device::default()).shuffled(5)
    }

    fn epoch(loader: &EpochLoader<Vec<usize>>) -> Vec<Vec<usize>> {
        loader.iter().map(Result::unwrap).collect()
    }

    #[test]
    fn every_epoch_holds_every_example_once_in_another_order() {
        let loader = loader();
        let (first, second) = (epoch(&loader), epoch(&loader));
        assert_ne!(first, second);
        let mut all: Vec<usize> = first.concat();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_resumed_loader_repeats_the_later_epochs() {
        let whole = loader();
        epoch(&whole);
        let second = epoch(&whole);
        assert_eq!(epoch(&loader().after(1)), second);
    }

    /// Loads one epoch as burn-train does with `devices` devices.
    fn parts(loader: &EpochLoader<Vec<usize>>, devices: usize) -> Vec<Vec<Part<Vec<usize>>>> {
        let loader: Arc<dyn DataLoader<Part<Vec<usize>>>> =
            Arc::new(PartLoader::new(loader.clone(), devices));
        let device = Device::default();
        let loaders = split_dataloader(loader, &vec![device; devices]);
        loaders.iter().map(|loader| loader.iter().map(Result::unwrap).collect()).collect()
    }

    #[test]
    fn devices_together_see_the_batches_that_one_sees_alone() {
        // 1000 examples: 14 batches of 71 and one of 6.
        let loader = || EpochLoader { batch_size: 71, ..loader().after(2) };
        let joined = epoch(&loader());
        for devices in 1..=4 {
            let parts = parts(&loader(), devices);
            assert_eq!(parts.len(), devices);
            for (step, joined) in joined.iter().enumerate() {
                let of_step = parts.iter().map(|part| &part[step]);
                let together: Vec<usize> = of_step.clone().flat_map(|p| p.batch.clone()).collect();
                assert_eq!(&together, joined, "{devices} devices, step {step}");
                for part in of_step {
                    let even = joined.len().div_ceil(devices);
                    assert!(part.batch.len().abs_diff(even) <= 1, "{:?}", part.share);
                    let examples = part.batch.len();
                    let share = Share { examples, joined: joined.len(), parts: devices };
                    assert_eq!(part.share, share);
                }
            }
        }
    }

    #[test]
    fn a_batch_with_fewer_examples_than_devices_keeps_all_of_them_in_step() {
        // 249 batches of 4 and one of 2.
        let loader = EpochLoader { range: 0..998, batch_size: 4, ..loader() };
        let parts = parts(&loader, 4);
        assert!(parts.iter().all(|part| part.len() == 250));
        let step = (0..250).find(|&step| parts[0][step].share.joined == 2).expect("a rest of 2");
        let counted: Vec<usize> = parts.iter().map(|part| part[step].share.examples).collect();
        assert_eq!(counted.iter().sum::<usize>(), 2, "{counted:?}");
        assert!(parts.iter().all(|part| part[step].batch.len() == 1));
    }

    #[test]
    fn batches_hold_examples_of_similar_size() {
        let spread = |batch: &Vec<usize>| batch.iter().max().unwrap() - batch.iter().min().unwrap();
        let batches = epoch(&loader());
        let mean = batches.iter().map(spread).sum::<usize>() / batches.len();
        assert!(mean < 100, "spread of sizes in a batch is {mean} of 1000");
    }
}
