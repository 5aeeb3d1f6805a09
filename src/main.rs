//! The `ausn` command.

use std::process::ExitCode;

use ausn::allocator::{MiMalloc, keep_memory};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    keep_memory();
    ausn::cli::run()
}
