//! The program: the hub, a bare echo server, the load tool, and a check of the system's limits.

#[cfg(unix)]
mod activated;
mod arguments;
#[cfg(feature = "bench")]
mod bench;
mod cable;
mod cgroup;
mod descriptors;
mod doctor;
mod echo;
mod help;
mod limits;
mod listen_address;
mod log_line;
mod log_writer;
mod memory;
mod mercure;
mod options_file;
mod output;
mod pusher;
mod redirect;
mod redis;
mod reload;
mod secrets;
mod serve;
mod sockets;
mod succession;
#[cfg(target_os = "linux")]
mod takeover;
mod tls;
mod topics;
mod values;

use std::process::ExitCode;

use self::arguments::Command;
use self::output::{finish_log, print, print_error};

fn main() -> ExitCode {
    let command = match arguments::parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(why) => {
            eprintln!("waterwheel: {why}");
            eprintln!("{} --help lists the options.", arguments::given_command());
            return ExitCode::from(2);
        }
    };
    let outcome = match command {
        Command::Help(text) => {
            print(&text);
            Ok(())
        }
        Command::Version => {
            print(concat!("waterwheel ", env!("CARGO_PKG_VERSION"), "\n"));
            Ok(())
        }
        Command::Serve(options) => serve::run(&options),
        Command::Echo(options) => echo::run(&options),
        #[cfg(feature = "bench")]
        Command::Bench(options) => {
            let code = bench::run(options);
            finish_log();
            return code;
        }
        Command::Doctor(options) => return doctor::run(&options),
    };
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("waterwheel: {error}"));
            ExitCode::from(1)
        }
    };
    finish_log();
    code
}
