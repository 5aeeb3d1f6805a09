//! What leaves the project: weights on the grid and packed code words.

mod codes;

pub use codes::{Codes, CodesError, Layout, load_codes, save_codes, save_weights};
