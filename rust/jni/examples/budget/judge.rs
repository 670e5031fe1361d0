//! Runs the cases under callgrind and DHAT, and holds what they counted against the file of budgets.

use std::collections::BTreeMap;
use std::ffi::c_long;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::copies;
use crate::count::{CALLGRIND, CASE_END, MARK};

/// How much more a figure may be than its budget. Two runs differ by less than 1 %.
const ALLOWED: f64 = 1.03;
/// What is allowed beyond that, by column, because a few figures are near zero and a few depend on when an answer comes, and
/// on a busy machine it comes in more pieces: of what is counted by the record, and of what is not.
const SLACK_RECORD: [f64; COLUMNS.len()] = [0.0, 0.001, 0.002, 0.005, 1.0, 1.0];
const SLACK_OTHER: [f64; COLUMNS.len()] = [0.0, 1.0, 3.0, 15.0, 100.0, 0.0];
/// The columns of the file.
const COLUMNS: [&str; 6] = [
    "instructions",
    "allocations",
    "system calls",
    "looks at the clock",
    "bytes copied",
    "bytes copied by the JVM",
];
/// What the lines begin with that say what counted.
const VERSIONS: &str = "# Counted with ";

pub(crate) type Failure = Box<dyn std::error::Error>;

/// What a run of a case says of it.
pub(crate) struct Case {
    pub(crate) name: String,
    /// What its figures are counted by, and how many of that there were.
    pub(crate) per: String,
    pub(crate) count: f64,
    allocations: f64,
    looks: f64,
}

impl Case {
    pub(crate) fn parse(line: &str) -> Result<Self, Failure> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[name, per, count, allocations, looks] = &fields[..] else {
            return Err(format!("a case said {line:?}").into());
        };
        let (count, allocations, looks) = (count.parse()?, allocations.parse()?, looks.parse()?);
        Ok(Self { name: name.into(), per: per.into(), count, allocations, looks })
    }
}

/// What one case costs.
struct Figures {
    name: String,
    per: String,
    values: [f64; COLUMNS.len()],
}

impl Figures {
    fn line(&self) -> String {
        let [instructions, allocations, calls, looks, copied, by_jvm] = self.values;
        format!(
            "{:24} {:9} {instructions:10.1} {allocations:8.3} {calls:8.3} {looks:8.3} {copied:9.1} {by_jvm:8.1}",
            self.name, self.per
        )
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, per, values @ ..] = &fields[..] else { return None };
        let values: Vec<f64> = values.iter().map(|v| v.parse().ok()).collect::<Option<_>>()?;
        Some(Self { name: (*name).into(), per: (*per).into(), values: values.try_into().ok()? })
    }
}

/// Counts all cases; callgrind's files are left in `folder`, one a case, for `callgrind_annotate`.
fn count(folder: &str) -> Result<Vec<Figures>, Failure> {
    std::fs::create_dir_all(folder)?;
    let folder = Path::new(folder);
    let (out, log) = (folder.join("callgrind.out"), folder.join("trace"));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(CALLGRIND).arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.arg(format!("--log-file={}", log.display()));
    valgrind.arg(std::env::current_exe()?).arg("count").stderr(Stdio::inherit());
    let output = valgrind.output().map_err(|e| format!("valgrind cannot be started: {e}"))?;
    if !output.status.success() {
        return Err(format!("valgrind or a case failed, see {}: {}", log.display(), output.status).into());
    }
    let mut calls = system_calls(&std::fs::read_to_string(&log)?).into_iter();
    std::fs::remove_file(&log)?;
    let mut copied = copies::count(folder)?;
    let mut by_name = String::new();
    let mut all = Vec::new();
    for (i, line) in String::from_utf8(output.stdout)?.lines().enumerate() {
        let Case { name, per, count, allocations, looks } = Case::parse(line)?;
        let file = folder.join(format!("callgrind.out.{name}"));
        std::fs::rename(folder.join(format!("callgrind.out.{}", i + 1)), &file)?;
        let instructions = total(&std::fs::read_to_string(&file)?)
            .ok_or_else(|| format!("callgrind counted nothing in {name}"))?;
        let calls = calls.next().ok_or("valgrind's trace is not understood")?;
        for (call, n) in &calls {
            writeln!(by_name, "{name:24} {call:16} {:8.3} a {per}", f64::from(*n) / count)?;
        }
        let calls: f64 = calls.values().sum::<u32>().into();
        let [instructions, allocations, calls, looks] =
            [instructions, allocations, calls, looks].map(|all| all / count);
        let [copied, by_jvm] = copied.remove(&name).ok_or_else(|| format!("DHAT did not run {name}"))?;
        let values = [instructions, allocations, calls, looks, copied, by_jvm];
        all.push(Figures { name, per, values });
    }
    std::fs::write(folder.join("system-calls"), by_name)?;
    Ok(all)
}

/// The system calls of each case by their names, from valgrind's trace. A call stands there as
/// `SYSCALL[process,thread](number) name ( arguments ) --> result`; one that may block has a second entry for its result.
fn system_calls(trace: &str) -> Vec<BTreeMap<String, u32>> {
    let (mut cases, mut calls) = (Vec::new(), BTreeMap::new());
    let mut counted = None;
    for entry in trace.split("SYSCALL[").skip(1) {
        let Some((thread, (number, name))) =
            entry.split_once("](").and_then(|(thread, rest)| Some((thread, rest.split_once(") ")?)))
        else {
            continue;
        };
        let name = name.split([' ', '(']).next().unwrap_or_default();
        let number: c_long = number.trim().parse().unwrap_or(-1);
        // Looks at the clock are no system calls but under valgrind.
        if name.starts_with("...") || name.ends_with("clock_gettime") {
            continue;
        } else if number == MARK {
            counted = if counted.is_some() { None } else { Some(thread) };
        } else if number == CASE_END {
            cases.push(std::mem::take(&mut calls));
        } else if counted == Some(thread) {
            *calls.entry(name.trim_start_matches("sys_").to_owned()).or_default() += 1;
        }
    }
    cases
}

/// The instructions of one of callgrind's files.
fn total(file: &str) -> Option<f64> {
    let line = file.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.split(' ').next()?.parse().ok().filter(|total| *total > 0.0)
}

/// What the counts depend on beside the code.
fn versions() -> String {
    let of = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
    };
    let all: Vec<String> = ["rustc", "valgrind"].into_iter().filter_map(of).collect();
    format!("{VERSIONS}{}.", all.join(" and "))
}

/// Counts, and rewrites the file; its comment stays.
pub(crate) fn write(file: &str, folder: &str) -> ExitCode {
    let rewrite = || -> Result<(), Failure> {
        let all = count(folder)?;
        let old = std::fs::read_to_string(file)?;
        let comment = old.lines().filter(|line| line.starts_with('#') && !line.starts_with(VERSIONS));
        let mut new = comment.fold(String::new(), |all, line| all + line + "\n");
        writeln!(new, "{}", versions())?;
        for figures in all {
            writeln!(new, "{}", figures.line())?;
        }
        Ok(std::fs::write(file, new)?)
    };
    end(rewrite().map(|()| true))
}

/// Counts, and says what is over its budget; fails if something is.
pub(crate) fn check(file: &str, folder: &str) -> ExitCode {
    let check = || -> Result<bool, Failure> {
        let text = std::fs::read_to_string(file)?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let parsed = lines.map(|line| Figures::parse(line).ok_or_else(|| format!("{file}: {line:?}")));
        let mut budgets: BTreeMap<String, Figures> =
            parsed.map(|f| f.map(|f| (f.name.clone(), f))).collect::<Result<_, _>>()?;
        let (mut passed, mut lower) = (0, 0);
        let mut failed = 0;
        for counted in count(folder)? {
            let verdict = budgets.remove(&counted.name).map(|budget| judge(&budget, &counted));
            match verdict {
                Some(Verdict::Within) => passed += 1,
                Some(Verdict::Less) => (passed, lower) = (passed + 1, lower + 1),
                Some(Verdict::More) => failed += 1,
                None => {
                    failed += 1;
                    println!("{} has no budget", counted.name);
                }
            }
            println!("{}", counted.line());
        }
        failed += budgets.len();
        budgets.keys().for_each(|name| println!("{name} has a budget and no case"));
        if failed > 0 {
            println!(
                "{file} was c{}",
                text.lines().find(|l| l.starts_with(VERSIONS)).map_or("", |l| &l[3..])
            );
            println!("this run was c{}", &versions()[3..]);
            println!("which calls and copies: system-calls and copies in {folder}");
            println!("a figure that has to grow: ./dev budget --write, in the commit that makes it grow");
        } else if lower > 0 {
            println!("less than the budget: ./dev budget --write keeps what was gained");
        }
        // In the form of `cargo test`, which ./dev adds up.
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!("test result: {word}. {passed} passed; {failed} failed");
        Ok(failed == 0)
    };
    end(check())
}

enum Verdict {
    Within,
    Less,
    More,
}

fn judge(budget: &Figures, counted: &Figures) -> Verdict {
    let (mut more, mut less) = (false, false);
    let slack = if budget.per == "record" { SLACK_RECORD } else { SLACK_OTHER };
    for (i, column) in COLUMNS.into_iter().enumerate() {
        let (was, is) = (budget.values[i], counted.values[i]);
        let word = if is > was * ALLOWED + slack[i] {
            more = true;
            "MORE than its budget of"
        } else if is * ALLOWED + slack[i] < was {
            less = true;
            "less than its budget of"
        } else {
            continue;
        };
        println!("{}: {is:.4} {column} a {}, {word} {was:.4}", counted.name, counted.per);
    }
    if more {
        Verdict::More
    } else if less {
        Verdict::Less
    } else {
        Verdict::Within
    }
}

fn end(result: Result<bool, Failure>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("budget: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: &str = "native-send-100 record 500.0 0.000 0.000 0.019 200.6 100.0";

    fn verdict(counted: &str) -> Verdict {
        judge(&Figures::parse(BUDGET).expect("a budget"), &Figures::parse(counted).expect("what was counted"))
    }

    #[test]
    fn growth_of_any_column_is_more() {
        let case = "native-send-100 record";
        assert!(matches!(verdict(BUDGET), Verdict::Within));
        assert!(matches!(verdict(&format!("{case} 514.9 0.000 0.000 0.019 206.0 103.0")), Verdict::Within));
        for more in [
            "515.1 0.000 0.000 0.019 200.6 100.0",
            "500.0 0.002 0.000 0.019 200.6 100.0",
            "500.0 0.000 0.003 0.019 200.6 100.0",
            "500.0 0.000 0.000 0.030 200.6 100.0",
            "500.0 0.000 0.000 0.019 300.6 100.0",
            "500.0 0.000 0.000 0.019 200.6 108.0",
            // Another column is less than its budget: that does not help.
            "400.0 0.000 0.000 0.019 300.6 100.0",
        ] {
            assert!(matches!(verdict(&format!("{case} {more}")), Verdict::More), "{more}");
        }
        assert!(matches!(verdict(&format!("{case} 500.0 0.000 0.000 0.019 100.6 100.0")), Verdict::Less));
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let figures = Figures::parse(BUDGET).expect("a budget");
        let again = Figures::parse(&figures.line()).expect("our own line");
        assert_eq!((again.name, again.per, again.values), (figures.name, figures.per, figures.values));
        assert!(Figures::parse("native-send-100 record 500.0 0.000 0.000 0.019").is_none());
    }
}
