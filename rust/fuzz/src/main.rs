//! Feeds the targets with changed inputs until the time or the number is over. Ends with 1 when one of them failed, and
//! leaves the input in a file that `--replay` takes.
//!
//! One thread works, the other watches: an input that takes more than [`HANG`] of the working thread's processor time is a
//! failure too. Time on the clock says nothing on a machine that has other things to do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kafka_fast_fuzz::memory;
use kafka_fast_fuzz::mutate;
use kafka_fast_fuzz::seeds::Seeds;
use kafka_fast_fuzz::targets::{TARGETS, Target, named};

/// The longest that one input may take.
const HANG: Duration = Duration::from_secs(1);

const USAGE: &str = "\
usage: fuzz [--seconds N | --executions N] [--seed N] [--target NAME] [--out DIR]
       fuzz --target NAME --replay FILE
       fuzz --write-seeds DIR      valid inputs as files, a folder for each target
       fuzz --list                 the names of the targets";

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("fuzz: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let done = match &options.what {
        What::List => {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        What::Replay(file) => replay(&options.targets, file),
        What::WriteSeeds(folder) => write_seeds(&options, folder),
        What::Run(until) => run(&options, *until),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("fuzz: {problem}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy)]
enum Until {
    Time(Duration),
    Executions(u64),
}

enum What {
    Run(Until),
    Replay(PathBuf),
    WriteSeeds(PathBuf),
    List,
}

struct Options {
    what: What,
    seed: u64,
    targets: Vec<&'static Target>,
    out: PathBuf,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
        let mut options = Self {
            what: What::Run(Until::Time(Duration::from_secs(60))),
            seed: now % 1_000_000_007,
            targets: TARGETS.iter().collect(),
            out: "target/fuzz".into(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
            match &*word {
                "--seconds" => {
                    options.what = What::Run(Until::Time(Duration::from_secs(number(value()?)?)));
                }
                "--executions" => options.what = What::Run(Until::Executions(number(value()?)?)),
                "--seed" => options.seed = number(value()?)?,
                "--target" => {
                    let name = value()?;
                    options.targets = vec![named(&name).ok_or_else(|| format!("there is no target {name}"))?];
                }
                "--out" => options.out = value()?.into(),
                "--replay" => options.what = What::Replay(value()?.into()),
                "--write-seeds" => options.what = What::WriteSeeds(value()?.into()),
                "--list" => options.what = What::List,
                _ => return Err(format!("{word} is not known")),
            }
        }
        Ok(options)
    }
}

fn replay(targets: &[&Target], file: &Path) -> Result<(), String> {
    let [target] = targets else { return Err("--replay wants a --target".into()) };
    let input = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    (target.run)(&input);
    println!("{}: {} bytes did no harm", target.name, input.len());
    Ok(())
}

fn write_seeds(options: &Options, folder: &Path) -> Result<(), String> {
    for target in &options.targets {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for (i, seed) in (target.seeds)(options.seed).iter().enumerate() {
            std::fs::write(folder.join(i.to_string()), seed).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// What the watching thread knows of the working one.
#[derive(Default)]
struct Progress {
    target: AtomicUsize,
    number: AtomicU64,
    over: AtomicBool,
}

fn run(options: &Options, until: Until) -> Result<(), String> {
    println!("seed {}; {} targets", options.seed, options.targets.len());
    let progress = Progress::default();
    std::thread::scope(|scope| {
        // This thread works. Its name in /proc is known only to itself.
        let me = std::fs::read_link("/proc/thread-self").ok();
        let progress = &progress;
        scope.spawn(move || watch(options, progress, me.as_deref()));
        let done = work(options, until, progress);
        progress.over.store(true, Ordering::Release);
        done
    })
}

/// Ends the process when one input takes too long, and saves it.
fn watch(options: &Options, progress: &Progress, thread: Option<&Path>) {
    let mut last = (u64::MAX, Duration::ZERO);
    while !progress.over.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(50));
        let (target, number) =
            (progress.target.load(Ordering::Relaxed), progress.number.load(Ordering::Relaxed));
        let used = processor_time(thread);
        if number != last.0 {
            last = (number, used);
        } else if used.saturating_sub(last.1) > HANG && !progress.over.load(Ordering::Acquire) {
            let target = options.targets[target];
            let (seeds, mut input) = ((target.seeds)(options.seed), Vec::new());
            mutate::input(&seeds, seed_of(options.seed, target), number, &mut input);
            let what = format!("input {number} took more than {HANG:?}");
            eprintln!("fuzz: {}", failure(options, target, number, &input, &what));
            std::process::exit(1);
        }
    }
}

/// What the thread has used so far; the clock where nobody says.
fn processor_time(thread: Option<&Path>) -> Duration {
    let text =
        thread.and_then(|t| std::fs::read_to_string(Path::new("/proc").join(t).join("schedstat")).ok());
    let nanoseconds = text.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap_or_default(), Duration::from_nanos)
}

/// Each target its own inputs.
fn seed_of(seed: u64, target: &Target) -> u64 {
    target.name.bytes().fold(seed, |seed, byte| seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte))
}

fn work(options: &Options, until: Until, progress: &Progress) -> Result<(), String> {
    let began = Instant::now();
    let count = options.targets.len();
    let (mut total, mut failures) = (0, Vec::new());
    println!("{:<28}{:>12}{:>12}{:>10}{:>9}", "target", "executions", "a second", "largest", "memory");
    for (i, target) in options.targets.iter().enumerate() {
        progress.target.store(i, Ordering::Relaxed);
        let seeds = (target.seeds)(options.seed);
        let share = match until {
            // Those that were fast leave their time to the others.
            Until::Time(all) => Until::Time(all.saturating_sub(began.elapsed()) / (count - i) as u32),
            Until::Executions(all) => Until::Executions((all - total) / (count - i) as u64),
        };
        let result = feed(options, target, &seeds, share, progress);
        println!(
            "{:<28}{:>12}{:>12.0}{:>10}{:>7} %",
            target.name,
            result.executions,
            result.executions as f64 / result.took.as_secs_f64(),
            result.largest,
            memory::take_peak()
        );
        total += result.executions;
        failures.extend(result.failure);
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "{total} executions in {took:.0} s, {:.0} a second; memory is of what is allowed",
        total as f64 / took
    );
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\nfuzz: ")) }
}

struct Fed {
    executions: u64,
    took: Duration,
    largest: usize,
    failure: Option<String>,
}

/// Feeds one target, until its share is over or it fails.
fn feed(options: &Options, target: &Target, seeds: &Seeds, share: Until, progress: &Progress) -> Fed {
    let (began, seed) = (Instant::now(), seed_of(options.seed, target));
    let mut fed = Fed { executions: 0, took: Duration::ZERO, largest: 0, failure: None };
    let mut input = Vec::new();
    loop {
        let number = fed.executions;
        let is_over = match share {
            // The clock costs as much as a small input.
            Until::Time(share) => number.is_multiple_of(64) && began.elapsed() >= share,
            Until::Executions(share) => number >= share,
        };
        if is_over {
            break;
        }
        mutate::input(seeds, seed, number, &mut input);
        progress.number.store(number, Ordering::Relaxed);
        fed.largest = fed.largest.max(input.len());
        fed.executions += 1;
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            let what = format!("input {number} failed, see above");
            fed.failure = Some(failure(options, target, number, &input, &what));
            break;
        }
    }
    fed.took = began.elapsed();
    fed
}

/// Saves the input and says how to run it again.
fn failure(options: &Options, target: &Target, number: u64, input: &[u8], what: &str) -> String {
    let file = options.out.join(format!("{}-{}-{number}", target.name, options.seed));
    let saved = std::fs::create_dir_all(&options.out).and_then(|()| std::fs::write(&file, input));
    let saved = match saved {
        Ok(()) => format!("fuzz --target {} --replay {}", target.name, file.display()),
        Err(error) => format!("it could not be written to {}: {error}", file.display()),
    };
    format!("{}: {what} ({} bytes); again: {saved}", target.name, input.len())
}
