//! Mistakes in the producer's sender, each of which its simulation must find.
//!
//! Not among the tests of every day, since each mistake is compiled by itself (a quarter of a minute on a small machine):
//! `cargo test -p kafka-fast --test producer_mutants -- --ignored --nocapture`.
//! `PRODUCER_MUTANTS=word` tries those with the word in their names.
//!
//! Two mistakes it does not find in 60,000 seeds: to believe for ever that a broker remembers, which takes a rare coincidence
//! (`partition_queue/tests.rs` finds it), and to leave no hole for a batch that was given up or whose time was over, which costs one refusal
//! more.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What is wrong; the file below `rust/core/src/producer`; what stands there, once; and what stands there instead.
const MUTANTS: &[(&str, &str, &str, &str)] = &[
    (
        "a retry goes behind what came after it",
        "partition_queue.rs",
        "let at = self.waiting.iter().position(|w| w.order > order).unwrap_or(self.waiting.len());",
        "let at = self.waiting.len();",
    ),
    (
        "the second half of a split has the numbers of the first",
        "partition_queue.rs",
        "sequence: advance(s.sequence, before)",
        "sequence: advance(s.sequence, 0)",
    ),
    (
        "a retry gets new numbers",
        "partition_queue.rs",
        "self.put_back(ticket.order, ticket.count, ticket.stamp, batch);",
        "self.put_back(ticket.order, ticket.count, None, batch);",
    ),
    (
        "many fly after a failure",
        "partition_queue.rs",
        "let one_by_one = self.failures > 0 || ",
        "let one_by_one = ",
    ),
    (
        "what lands early widens the window",
        "partition_queue.rs",
        "self.takes - oldest < room as u64",
        "oldest < u64::MAX && self.flying.len() < room",
    ),
    (
        "the first of an epoch does not fly alone",
        "partition_queue.rs",
        " || !self.holes.is_empty() || !self.proven;",
        " || !self.holes.is_empty() || (self.numbering.is_none() && !self.proven);",
    ),
    (
        "the epoch is not raised",
        "partition_queue.rs",
        "Some(numbering) => numbering.epoch.checked_add(1),",
        "Some(numbering) => Some(numbering.epoch),",
    ),
    (
        "the epoch is raised for a gap of our own",
        "partition_queue.rs",
        "self.raise_epoch |= oldest;",
        "self.raise_epoch |= oldest || true;",
    ),
    (
        "the epoch is raised while an older batch is in doubt",
        "partition_queue.rs",
        "filter(|hole| hole.order < next.order)",
        "filter(|hole| hole.order < u64::MAX)",
    ),
    (
        "the epoch is raised behind a batch in doubt",
        "partition_queue.rs",
        "before.any(|hole| !hole.in_doubt || next.stamp.is_none())",
        "before.next().is_some()",
    ),
    (
        "new numbers are not written into the batch",
        "request.rs",
        "Body::Finished(bytes, old) if old != stamp =>",
        "Body::Finished(bytes, old) if old.is_none() && stamp.is_some() =>",
    ),
    (
        "an earlier flight in doubt is forgotten",
        "settle.rs",
        "set_possibly_written(flight.doubted || in_doubt)",
        "set_possibly_written(in_doubt)",
    ),
    (
        "what a deposed leader says is certain",
        "settle.rs",
        "| ErrorCode::KAFKA_STORAGE_ERROR => acks == Acks::All,",
        "| ErrorCode::KAFKA_STORAGE_ERROR => acks == Acks::None,",
    ),
    (
        "a batch that is left out of the answer counts as written",
        "settle.rs",
        "            return self.retry(flight, Duration::ZERO);\n        };",
        "            return self.written(flight, -1, None);\n        };",
    ),
    (
        "what was in the log already counts as refused",
        "settle.rs",
        "Treatment::Done => Verdict::Written,",
        "Treatment::Done if code.is_ok() => Verdict::Written,",
    ),
    (
        "a broken connection counts as written",
        "settle.rs",
        "                end.retry(flight, error.retry_after().unwrap_or_default());",
        "                end.written(flight, -1, None);",
    ),
    (
        "the half of a split pays for the other",
        "settle.rs",
        "batch.lease.split_off(first.len())",
        "batch.lease.split_off(batch.lease.bytes() / 2)",
    ),
    ("both halves of a split tell the same records", "batch.rs", "self.first += count;", "self.first += 0;"),
    (
        "what is open when the producer closes is not sent",
        "shared.rs",
        "let sealed = partitions.filter(|p| self.seal_now(p, true)).cloned().collect::<Vec<_>>();",
        "let sealed = partitions.filter(|p| self.seal_now(p, true)).cloned().take(0).collect::<Vec<_>>();",
    ),
    (
        "what waits when the producer ends is never told",
        "shared.rs",
        "            drop(abandoned);",
        "            std::mem::forget(abandoned);",
    ),
    (
        "a batch whose time is over is not in doubt",
        "partition_queue.rs",
        "in_doubt: in_doubt(&next.batch)",
        "in_doubt: false",
    ),
    (
        "nobody wakes the sender",
        "shared.rs",
        "wake.iter().for_each(|broker| broker.wake.notify_one());",
        "wake.iter().skip(1).for_each(|broker| broker.wake.notify_one());",
    ),
    (
        "a partition that has more is not listed again",
        "sender.rs",
        "                if more {\n",
        "                if more && partition.index > 0 {\n",
    ),
];

/// Copies what cargo needs to build the crate.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let skipped = ["target", "build"].iter().any(|name| entry.file_name() == *name);
        if entry.file_type().unwrap().is_dir() {
            if !skipped {
                copy(&source, &target);
            }
        } else if std::fs::read(&target).ok() != std::fs::read(&source).ok() {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}

fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(["test", "--offline", "-q", "-p", "kafka-fast", "--lib", "producer::sim"])
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("RUST_BACKTRACE", "0")
        .env("CARGO_PROFILE_TEST_OPT_LEVEL", "1")
        .env("PRODUCER_SIM_SEEDS", "1..60000")
        .output()
        .unwrap()
}

/// The first line of what a failed test said.
fn verdict(output: &Output) -> String {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().skip_while(|line| !line.contains("panicked at")).skip(1);
    lines.next().unwrap_or("it does not end well").to_owned()
}

#[test]
#[ignore = "compiles the crate once for each mistake"]
fn mistakes_in_the_sender_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("producer_mutants");
    std::fs::create_dir_all(&folder).unwrap();
    // Two runs at once would find each other's mistakes.
    let alone = std::fs::File::create(folder.join("lock")).unwrap();
    alone.lock().unwrap();
    copy(&root.join("rust"), &folder.join("rust"));
    for file in ["Cargo.toml", "Cargo.lock"] {
        std::fs::copy(root.join(file), folder.join(file)).unwrap();
    }
    let sound = cargo(&folder, &[]);
    assert!(sound.status.success(), "without a mistake: {}", verdict(&sound));
    let word = std::env::var("PRODUCER_MUTANTS").unwrap_or_default();
    let mut survivors = Vec::new();
    for (what, file, find, put) in MUTANTS.iter().filter(|mutant| mutant.0.contains(&word)) {
        let path = folder.join("rust/core/src/producer").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(find).count(), 1, "{what}: {find:?} must stand in {file} once");
        std::fs::write(&path, text.replace(find, put)).unwrap();
        let compiled = cargo(&folder, &["--no-run"]);
        let found = cargo(&folder, &[]);
        std::fs::write(&path, &text).unwrap();
        let errors = String::from_utf8_lossy(&compiled.stderr).into_owned();
        assert!(compiled.status.success(), "{what} does not compile: {errors}");
        if found.status.success() {
            println!("MUTANT {what}: SURVIVED");
            survivors.push(what);
        } else {
            println!("MUTANT {what}: killed, {}", verdict(&found));
        }
    }
    assert!(survivors.is_empty(), "nobody noticed: {survivors:?}");
}
