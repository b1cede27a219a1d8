//! The `egret` program.

fn main() -> std::process::ExitCode {
    egret::cli::main()
}
