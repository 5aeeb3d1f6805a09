//! The `ausn` command.

use std::process::ExitCode;

/// Every tensor operation allocates its result; the system's allocator gives the pages back each
/// time, which makes a training step 1.5 to 5 times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ausn::cli::run()
}
