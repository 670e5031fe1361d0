//! Bytes that are copied from memory to memory, counted by valgrind's DHAT in a run of its own.
//!
//! DHAT sees the calls of the C library's copying functions, each with its stack, and writes one sum per stack at the end of
//! the process. So the stack has to say everything: what is beneath `budget_measured` counts, frames of [`numbered`] say for
//! which case, and a frame of the fake JVM that the JVM would have copied it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::judge::{Case, Failure};

/// Its options. Stacks end at `main`, however deep they are.
const DHAT: [&str; 4] = ["--tool=dhat", "--mode=copy", "--quiet", "--num-callers=200"];
/// The functions of `jvm.rs` that copy from and to arrays.
const JVM: [&str; 3] = ["get_byte_array_region", "set_byte_array_region", "set_long_array_region"];

/// Bytes of a case, in all of its rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Copied {
    pub(crate) all: u64,
    /// Those of `all` that the JVM's functions copied.
    pub(crate) jvm: u64,
}

/// Runs `work` beneath frames that say `number` in binary, its lowest bit outermost.
pub(crate) fn numbered(number: usize, work: &mut dyn FnMut()) {
    match number {
        0 => work(),
        odd if odd % 2 == 1 => budget_bit_1(odd / 2, work),
        even => budget_bit_0(even / 2, work),
    }
}

// Both end with something of their own: no tail call, and not one function for the two.
#[unsafe(no_mangle)]
#[inline(never)]
fn budget_bit_0(rest: usize, work: &mut dyn FnMut()) {
    numbered(rest, work);
    black_box(0);
}

#[unsafe(no_mangle)]
#[inline(never)]
fn budget_bit_1(rest: usize, work: &mut dyn FnMut()) {
    numbered(rest, work);
    black_box(1);
}

/// Bytes copied in each case by its name, by what the case is counted by. Where they were copied is left in `folder`.
pub(crate) fn count(folder: &Path) -> Result<BTreeMap<String, [f64; 2]>, Failure> {
    let out = folder.join("dhat.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(DHAT).arg(format!("--dhat-out-file={}", out.display()));
    valgrind.arg(std::env::current_exe()?).arg("count").stderr(Stdio::inherit());
    let output = valgrind.output()?;
    if !output.status.success() {
        return Err(format!("valgrind's DHAT or a case failed: {}", output.status).into());
    }
    let stacks = stacks(&std::fs::read_to_string(&out)?).ok_or("what DHAT wrote is not understood")?;
    std::fs::remove_file(&out)?;
    let (mut sums, mut places) = (BTreeMap::new(), String::new());
    for (i, line) in String::from_utf8(output.stdout)?.lines().enumerate() {
        let case = Case::parse(line)?;
        // As `numbered` is called: from 1 on.
        let mine = stacks.iter().filter(|stack| stack.case == i + 1);
        let copied = mine.clone().fold(Copied::default(), |sum, stack| Copied {
            all: sum.all + stack.bytes,
            jvm: sum.jvm + if stack.jvm { stack.bytes } else { 0 },
        });
        let mut by_place = BTreeMap::<&str, u64>::new();
        mine.for_each(|stack| *by_place.entry(&stack.place).or_default() += stack.bytes);
        for (place, bytes) in by_place {
            writeln!(places, "{:24} {:10.3} a {:9} {place}", case.name, bytes as f64 / case.count, case.per)?;
        }
        sums.insert(case.name, [copied.all, copied.jvm].map(|bytes| bytes as f64 / case.count));
    }
    std::fs::write(folder.join("copies"), places)?;
    Ok(sums)
}

/// What was copied by one stack beneath `budget_measured`.
#[derive(Debug, PartialEq)]
struct Stack {
    case: usize,
    bytes: u64,
    jvm: bool,
    /// Who called the copying function, and who called that.
    place: String,
}

/// The stacks that count, of DHAT's file: a list of sums (`"tb"` is bytes, `"fs"` the frames by their numbers, the innermost
/// first), then the frames' names.
fn stacks(file: &str) -> Option<Vec<Stack>> {
    let (sums, names) = file.split_once("\"ftbl\":")?;
    let names: Vec<&str> = names.lines().filter_map(function).collect();
    let mut all = Vec::new();
    for sum in sums.split("{\"tb\":").skip(1) {
        let bytes = sum.split(',').next()?.parse().ok()?;
        let frames = sum.split_once("\"fs\":[")?.1.split(']').next()?;
        let frames = frames.split(',').map(|n| names.get(n.trim().parse::<usize>().ok()?).copied());
        let frames: Vec<&str> = frames.collect::<Option<_>>()?;
        let Some(measured) = frames.iter().position(|name| *name == "budget_measured") else { continue };
        let (inner, outer) = frames.split_at(measured);
        let case = outer.iter().fold(0, |number, name| match *name {
            "budget_bit_0" => number * 2,
            "budget_bit_1" => number * 2 + 1,
            _ => number,
        });
        let jvm = inner.iter().any(|name| JVM.iter().any(|f| name.ends_with(f)));
        // The innermost frame is the copying function.
        let place = inner.iter().skip(1).take(3).copied().collect::<Vec<_>>().join(" < ");
        all.push(Stack { case, bytes, jvm, place });
    }
    Some(all)
}

/// The function in a line `,"0x1234: function (in file)"`; the root has no address.
fn function(line: &str) -> Option<&str> {
    let frame = line.split('"').nth(1)?;
    Some(frame.split_once(": ").map_or(frame, |(_, name)| name.rsplit_once(" (").map_or(name, |n| n.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As DHAT 3.19 writes it: a copy outside of what is measured, one of the JVM in case 6, one of ours in case 1.
    const FILE: &str = r#"{"dhatFileVersion":2
,"mode":"copy","verb":"Copied"
,"pps":
 [{"tb":15,"tbk":1
  ,"fs":[1,2,7]
  }
 ,{"tb":2000,"tbk":20
  ,"fs":[1,3,2,4,5,5,6,7]
  }
 ,{"tb":100,"tbk":1
  ,"fs":[1,2,4,5,7]
  }
 ]
,"ftbl":
 ["[root]"
 ,"0x4846DBD: memmove (in /usr/libexec/valgrind/vgpreload_dhat-amd64-linux.so)"
 ,"0x3D8CE4: wire::Batch<T>::append (in /target/release/examples/budget)"
 ,"0x3D8CE5: budget::jvm::get_byte_array_region (in /target/release/examples/budget)"
 ,"0x403343: budget_measured (in /target/release/examples/budget)"
 ,"0x403344: budget_bit_1 (in /target/release/examples/budget)"
 ,"0x403345: budget_bit_0 (in /target/release/examples/budget)"
 ,"0x403346: main (in /target/release/examples/budget)"
 ]
}
"#;

    #[test]
    fn stacks_say_what_was_copied_for_whom() {
        let jvm = "budget::jvm::get_byte_array_region < wire::Batch<T>::append";
        let expected = [
            Stack { case: 6, bytes: 2000, jvm: true, place: jvm.into() },
            Stack { case: 1, bytes: 100, jvm: false, place: "wire::Batch<T>::append".into() },
        ];
        assert_eq!(stacks(FILE).expect("it is understood"), expected);
        assert_eq!(stacks("{}"), None);
    }
}
