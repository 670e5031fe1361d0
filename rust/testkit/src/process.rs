//! A program of the test's own as a child process: one that may be killed, stopped and woken.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::server::Server;

/// What it prints.
const LOG: &str = "process.log";

/// A process and the folder it has. It ends when this is dropped or when this process ends, in whatever way, and the folder
/// goes with it. Signals are sent to its id, which is reused by nobody while this is not dropped.
#[derive(Debug)]
pub struct Process {
    server: Server,
}

impl Process {
    /// Starts `program` with `args`. `envs` is told the folder, and says what comes on top of the environment of this process.
    pub fn start<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
        envs: impl FnOnce(PathBuf) -> Vec<(String, String)>,
    ) -> Self {
        let mut server = Server::new("the process");
        let mut command = server.command(program, LOG);
        command.args(args).envs(envs(server.path("")));
        server.launch(command);
        Self { server }
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.server.path(name)
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.server.runs()
    }

    /// SIGKILL; returns when it is gone. Nothing to do when it has ended.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// SIGSTOP; returns when it stands still.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// The end of what it printed.
    pub fn tail(&self) -> String {
        self.server.tail(LOG)
    }
}
