//! The `scopegate` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    scopegate::cli::run()
}
