//! Kafka's own clients, in a JVM beside the test.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

/// A process that does with Kafka's own clients what it is told; see `Stranger.java`. It ends with its input, so with this process.
#[derive(Debug)]
pub(crate) struct Stranger {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Stranger {
    /// Blocks until it runs: some seconds.
    pub(crate) fn start(bootstrap: &str) -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/commits_real/Stranger.java");
        let mut command = kafka_fast_testkit::java_with_kafka();
        command.args([source, bootstrap]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("java can be started");
        let says = BufReader::new(child.stdout.take().expect("it has an output"));
        let mut stranger = Self { child, says };
        assert_eq!(stranger.line(), "ready");
        stranger
    }

    /// Tells it something and blocks until it has answered.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        let input = self.child.stdin.as_mut().expect("it has an input");
        writeln!(input, "{command}").expect("it listens");
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("it speaks text");
        assert!(line.ends_with('\n'), "it has ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
