use crate::arguments::Doctor;
use std::process::ExitCode;
pub fn run(_options: &Doctor) -> ExitCode {
    ExitCode::SUCCESS
}
