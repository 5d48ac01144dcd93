// peer_proc_rust.rs FIGURE - std::process::Command: prints us for each command; `version` prints
// what compiled it. The figures are those of bench_proc.c, which has the same loops.
use std::process::Command;
use std::time::Instant;

fn run_true() {
    assert!(Command::new("/bin/true").status().unwrap().success());
}

// Unlike run_true's, its output goes through pipes, which output() makes.
fn run_capture() {
    let output = Command::new("/bin/echo").arg("hello").output().unwrap();
    assert!(output.status.success() && output.stdout == b"hello\n");
}

// Microseconds for each call, after some to warm up.
fn us_each(once: fn(), count: u32) -> f64 {
    for _ in 0..count / 4 {
        once();
    }
    let began = Instant::now();
    for _ in 0..count {
        once();
    }
    began.elapsed().as_nanos() as f64 / f64::from(count) / 1e3
}

fn main() {
    let figure = std::env::args().nth(1).unwrap_or_default();
    let us = match figure.as_str() {
        // run.sh says what `rustc --version` printed, as in: rustc 1.63.0
        "version" => return println!("{}", option_env!("PEER_COMPILER").unwrap_or("rustc ?")),
        "run_true" => us_each(run_true, 300),
        "run_capture" => us_each(run_capture, 300),
        _ => {
            eprintln!("peer_proc_rust: no figure '{}'", figure);
            std::process::exit(2);
        }
    };
    println!("{:.3}", us);
}
