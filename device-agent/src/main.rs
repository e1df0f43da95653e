//! agent
use n2n_agent::allocator;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::new();

fn main() -> std::process::ExitCode {
    allocator::register(&ALLOCATOR);
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return n2n_agent::worker::main();
    }
    std::process::ExitCode::FAILURE
}
