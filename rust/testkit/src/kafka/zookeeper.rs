//! ZooKeeper, which brokers before KRaft keep what they know of each other in, and what such a broker is started with.
//!
//! It is a child process of its own, so that a broker can be stopped, killed and started again as one of KRaft can. Its port is
//! the broker's secret: nobody else finds it.

use std::fmt::Write;

use super::java;
use super::version::Version;
use crate::free_port;
use crate::server::Server;

const LOG: &str = "zookeeper.log";
/// What it says when its port is bound and its data loaded. What it says of the port comes before it has it.
const STARTED: &str = "Snapshotting: ";
/// What a broker says that comes back while ZooKeeper still believes that the one that was killed is alive.
pub(super) const STILL_REGISTERED: &str = "NodeExists";

/// A ZooKeeper for one broker. Dropping it kills it and removes its data.
#[derive(Debug)]
pub(super) struct ZooKeeper {
    /// Held, not used.
    _server: Server,
    port: u16,
}

impl ZooKeeper {
    /// Returns when it answers connections.
    ///
    /// # Errors
    /// The end of its log when it does not within 60 s.
    pub(super) fn try_start() -> Result<Self, String> {
        let mut server = Server::new("ZooKeeper");
        let port = free_port();
        let text = format!(
            "clientPort={port}\nclientPortAddress=127.0.0.1\ndataDir={}\ntickTime=1000\nadmin.enableServer=false\n",
            server.path("data").display()
        );
        std::fs::write(server.path("zoo.cfg"), text).expect("the temporary folder can be written");
        let mut command = server.command(java(), LOG);
        command
            .args(["-Xmx128m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
            .arg("-Dorg.slf4j.simpleLogger.log.org.apache.zookeeper.server.persistence=info")
            .args(["-cp", &Version::V2_4.class_path(), "org.apache.zookeeper.server.ZooKeeperServerMain"])
            .arg(server.path("zoo.cfg"));
        server.start(command, LOG, STARTED, port)?;
        Ok(Self { _server: server, port })
    }

    /// What the broker is told of it, in the words of `server.properties`.
    pub(super) fn properties(&self, text: &mut String) {
        let port = self.port;
        // A machine may be slow; who comes back after SIGKILL waits for the session's end.
        write!(
            text,
            "broker.id=1\nzookeeper.connect=127.0.0.1:{port}\nzookeeper.connection.timeout.ms=60000\n\
             zookeeper.session.timeout.ms=8000\n"
        )
        .expect("a String takes all");
    }
}
