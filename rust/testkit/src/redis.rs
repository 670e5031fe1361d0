//! Redis as a child process: one node, plaintext.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use crate::server::{Server, on_a_free_port};
use crate::{free_port, loopback};

/// What Redis says when it takes commands, its data loaded.
const STARTED: &str = "Ready to accept connections";
/// The longest wait for the answer to a command of the test itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What a Redis is started with.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    append_only: bool,
    password: Option<String>,
    users: Vec<String>,
    config: Vec<String>,
}

impl RedisOptions {
    /// The defaults: no password, and nothing is written to disk, so that a Redis that ends has forgotten all.
    pub fn new() -> Self {
        Self::default()
    }

    /// `appendonly yes`: what was answered is there again after [`RealRedis::stop`] and after [`RealRedis::kill`].
    #[must_use]
    pub fn append_only(mut self) -> Self {
        self.append_only = true;
        self
    }

    /// The password of the default user, without blanks.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A line of the ACL file: `alice on >secret ~* &* +@all`.
    #[must_use]
    pub fn user(mut self, rules: &str) -> Self {
        self.users.push(format!("user {rules}"));
        self
    }

    /// A line of `redis.conf`: `maxmemory-policy allkeys-lru`. It counts more than what the other options say.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }
}

/// A running (or stopped) Redis. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct RealRedis {
    server: Server,
    program: OsString,
    port: u16,
    password: Option<String>,
}

impl RealRedis {
    /// A Redis of the caller's own; returns when it answers, and panics with the end of its log when it does not within
    /// 60 s. The program is `KAFKA_FAST_REDIS_SERVER`, or else the `redis-server` of the PATH.
    pub fn start(options: &RedisOptions) -> Self {
        let program = program();
        on_a_free_port(|| Self::try_start(&program, options))
    }

    fn try_start(program: &OsStr, options: &RedisOptions) -> Result<Self, String> {
        let mut redis = Self {
            server: Server::new("Redis"),
            program: program.to_owned(),
            port: free_port(),
            password: options.password.clone(),
        };
        let append_only = if options.append_only { "yes" } else { "no" };
        let mut text = format!(
            "bind 127.0.0.1\nport {}\ndir \"{}\"\nsave \"\"\nappendonly {append_only}\n",
            redis.port,
            redis.server.path("").display()
        );
        let mut users = options.users.clone();
        if let Some(password) = &options.password {
            // A file of users leaves nothing of `requirepass`.
            if users.is_empty() {
                text += &format!("requirepass \"{password}\"\n");
            } else {
                users.push(format!("user default on >{password} ~* &* +@all"));
            }
        }
        if !users.is_empty() {
            let file = redis.server.path("users.acl");
            fs::write(&file, users.join("\n") + "\n").expect("the temporary folder can be written");
            text += &format!("aclfile \"{}\"\n", file.display());
        }
        for line in &options.config {
            text += &format!("{line}\n");
        }
        fs::write(redis.conf(), text).expect("the temporary folder can be written");
        redis.try_start_again()?;
        Ok(redis)
    }

    /// The Redis that `./dev test` started for everybody (`KAFKA_FAST_REDIS`), else one for this test process, which ends
    /// with it: `host:port`. It has no password and is flushed by nobody: groups need names of their own.
    pub fn shared() -> &'static str {
        static SHARED: OnceLock<(Option<RealRedis>, String)> = OnceLock::new();
        let (_, address) = SHARED.get_or_init(|| match std::env::var("KAFKA_FAST_REDIS") {
            Ok(address) if !address.is_empty() => (None, address),
            _ => {
                let redis = Self::start(&RedisOptions::new());
                let address = redis.address();
                (Some(redis), address)
            }
        });
        address
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        loopback(self.port).to_string()
    }

    /// The port it listens on, also after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it as an operator would (SIGTERM), paused or not.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Stops it as a power cut would (SIGKILL), though what it gave the kernel to write is written.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again with the folder and the port it had; returns when it answers.
    pub fn start_again(&mut self) {
        self.try_start_again().unwrap_or_else(|log| panic!("{log}"));
    }

    /// Lets it hang (SIGSTOP): connections are accepted, by the kernel, and nothing is answered.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Lets it go on (SIGCONT), with what it was sent meanwhile.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Forgets all data of all databases, and the scripts: as a Redis that lost its disk.
    pub fn flush_all(&self) {
        self.command(&["FLUSHALL"]);
        self.command(&["SCRIPT", "FLUSH"]);
    }

    /// Runs one command, as the default user on a connection of its own, and returns the answer as text: a number in
    /// digits, the elements of an array one a line, nothing for nil. Blocks for up to 10 s.
    ///
    /// # Panics
    /// With Redis's words when it answers with an error.
    pub fn command(&self, words: &[&str]) -> String {
        let answer = self.try_command(words);
        answer.unwrap_or_else(|error| panic!("{}: {error}", words.join(" ")))
    }

    /// As [`command`](Self::command), for a test that wants the error.
    ///
    /// # Errors
    /// Redis's words, or what went wrong on the way.
    pub fn try_command(&self, words: &[&str]) -> Result<String, String> {
        let failed = |e: std::io::Error| e.to_string();
        let mut stream = TcpStream::connect_timeout(&loopback(self.port), ANSWER_WITHIN).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
        let mut answers = BufReader::new(stream.try_clone().map_err(failed)?);
        let mut ask = |words: &[&str]| {
            let mut request = format!("*{}\r\n", words.len());
            for word in words {
                request += &format!("${}\r\n{word}\r\n", word.len());
            }
            stream.write_all(request.as_bytes()).map_err(failed)?;
            read_answer(&mut answers)
        };
        if let Some(password) = &self.password {
            ask(&["AUTH", password])?;
        }
        ask(words)
    }

    fn try_start_again(&mut self) -> Result<(), String> {
        let mut command = self.server.command(&self.program, "redis.log");
        command.arg(self.conf());
        self.server.start(command, "redis.log", STARTED, self.port)
    }

    fn conf(&self) -> PathBuf {
        self.server.path("redis.conf")
    }
}

/// One answer in Redis's protocol (RESP2).
fn read_answer(from: &mut impl BufRead) -> Result<String, String> {
    let mut line = String::new();
    from.read_line(&mut line).map_err(|e| e.to_string())?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).ok_or("Redis hung up")?;
    let count = || rest.parse::<i64>().map_err(|_| format!("no answer of Redis: {line}"));
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "-" => Err(rest.to_owned()),
        "$" => {
            let Ok(length) = usize::try_from(count()?) else { return Ok(String::new()) };
            let mut bytes = vec![0; length + 2];
            from.read_exact(&mut bytes).map_err(|e| e.to_string())?;
            bytes.truncate(length);
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        "*" => {
            (0..count()?).map(|_| read_answer(from)).collect::<Result<Vec<_>, _>>().map(|all| all.join("\n"))
        }
        _ => Err(format!("no answer of Redis: {line}")),
    }
}

/// Where `redis-server` is. Looked for here, since the program that starts it would only say so in its log.
fn program() -> OsString {
    if let Some(program) = std::env::var_os("KAFKA_FAST_REDIS_SERVER").filter(|p| !p.is_empty()) {
        return program;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("redis-server")).find(|file| file.is_file());
    found
        .expect("redis-server is not installed: run ./dev test once, it installs it (or apt-get install redis-server)")
        .into()
}
