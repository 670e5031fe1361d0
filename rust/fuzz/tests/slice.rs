//! Ten seconds of the program, with another seed each time. What it prints says which, and how to have a failure again.

use std::process::Command;

#[test]
fn changed_inputs_do_no_harm() {
    let out = concat!(env!("CARGO_TARGET_TMPDIR"), "/hostile");
    let run = Command::new(env!("CARGO_BIN_EXE_fuzz")).args(["--seconds", "10", "--out", out]).output();
    let run = run.expect("it was built for this test");
    let (said, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{said}{errors}");
    // A last line that counts them: it was not over before it began.
    let last = said.lines().last().expect("it prints a sum");
    let executions: u64 =
        last.split(' ').next().and_then(|n| n.parse().ok()).expect("a number of executions");
    assert!(executions > 1000, "{said}");
}
