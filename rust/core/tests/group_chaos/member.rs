//! A member of a group: this program once more, as a process of its own.
//!
//! A member appends a line to the file `records` of its folder for each record, when it is handed out or when it is handled, as
//! its part says, and in any case before it asks for the next: by one write of the system, so that it stands there whatever becomes
//! of the process. What else it has to say stands in `said`.

use std::fmt::{self, Display};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_fast::config::{Config, RedisConf};
use kafka_fast::consumer::{Consumer, GroupConf, Reader};
use kafka_fast_testkit::Process;

/// The member's part, as [`Part::text`]; its folder.
const PART: &str = "KAFKA_FAST_CHAOS_PART";
const FOLDER: &str = "KAFKA_FAST_CHAOS_FOLDER";

/// Microseconds since 1970: the clock that all processes share.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    u64::try_from(since.as_micros()).expect("some thousand centuries")
}

/// Milliseconds between two times of [`now`].
pub(crate) fn millis(from: u64, to: u64) -> f64 {
    (to as f64 - from as f64) / 1e3
}

/// How a member reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Record,
    Batch,
}

/// What a member is to do.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) broker: String,
    pub(crate) redis: u16,
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
    pub(crate) readers: usize,
    /// What it takes to handle a record.
    pub(crate) work: Duration,
    pub(crate) by: By,
    /// Whether a record is noted when it is handled, instead of when it is handed out.
    pub(crate) notes_handled: bool,
    pub(crate) settings: Vec<(String, String)>,
}

impl Part {
    pub(crate) fn conf(&self) -> Config {
        let mut conf = Config::with_bootstrap(&self.broker).unwrap();
        for (name, value) in &self.settings {
            conf.set(name, value).unwrap();
        }
        conf
    }

    pub(crate) fn redis(&self) -> RedisConf {
        RedisConf::new("127.0.0.1", self.redis, &*self.group)
    }

    fn text(&self) -> String {
        let settings: Vec<String> =
            self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let by = if self.by == By::Record { "record" } else { "batch" };
        let Self { broker, redis, group, readers, work, .. } = self;
        let (topics, settings) = (self.topics.join(","), settings.join(","));
        let (work, notes_handled) = (work.as_micros(), self.notes_handled);
        format!("{broker} {redis} {group} {topics} {readers} {work} {by} {notes_handled} {settings}")
    }

    fn of(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            broker: words[0].to_owned(),
            redis: words[1].parse().unwrap(),
            group: words[2].to_owned(),
            topics: words[3].split(',').map(str::to_owned).collect(),
            readers: words[4].parse().unwrap(),
            work: Duration::from_micros(words[5].parse().unwrap()),
            by: if words[6] == "record" { By::Record } else { By::Batch },
            notes_handled: words[7] == "true",
            settings: words[8].split(',').filter_map(pair).collect(),
        }
    }
}

/// A record that a member was handed, or handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// When, by [`now`].
    pub(crate) at: u64,
    /// To which of its readers.
    pub(crate) reader: usize,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: u64,
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, reader, topic, partition, offset, value } = self;
        writeln!(f, "{at} {reader} {topic} {partition} {offset} {value}")
    }
}

impl Line {
    fn of(text: &str) -> Self {
        fn next<T: FromStr>(words: &mut std::str::Split<'_, char>) -> T {
            words.next().and_then(|word| word.parse().ok()).expect("a line as members write it")
        }
        let mut words = text.split(' ');
        let words = &mut words;
        Self {
            at: next(words),
            reader: next(words),
            topic: next(words),
            partition: next(words),
            offset: next(words),
            value: next(words),
        }
    }
}

// --- in the test's process ---------------------------------------------------------------------------------------------

/// A member, seen from outside.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) process: Process,
}

impl Member {
    /// Starts one; it connects on its own.
    pub(crate) fn start(part: &Part) -> Self {
        let this = std::env::current_exe().expect("a test has a file");
        let text = part.text();
        let envs = |folder: std::path::PathBuf| {
            vec![(PART.to_owned(), text), (FOLDER.to_owned(), folder.display().to_string())]
        };
        let args = ["member::member", "--exact", "--ignored", "--nocapture", "--test-threads=1"];
        Self { process: Process::start(this, args, envs) }
    }

    /// What it was handed so far, oldest first of each reader.
    pub(crate) fn lines(&self) -> Vec<Line> {
        lines(&self.process, "records").iter().map(|line| Line::of(line)).collect()
    }

    /// The last thing it said of `what`: when, and the rest.
    pub(crate) fn said(&self, what: &str) -> Option<(u64, String)> {
        let said = lines(&self.process, "said");
        let of = |line: &String| {
            let mut words = line.splitn(3, ' ');
            let at = words.next()?.parse().ok()?;
            (words.next()? == what).then(|| (at, words.next().unwrap_or_default().to_owned()))
        };
        said.iter().rev().find_map(of)
    }

    /// Waits until it has said `what`.
    ///
    /// # Panics
    /// With what it printed, when it ends or is silent for half a minute.
    pub(crate) async fn until_said(&mut self, what: &str) -> (u64, String) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(said) = self.said(what) {
                return said;
            }
            assert!(self.process.runs() && Instant::now() < until, "no {what}: {}", self.process.tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The whole lines of a file.
fn lines(process: &Process, name: &str) -> Vec<String> {
    let text = fs::read_to_string(process.path(name)).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |at| &text[..at]);
    whole.lines().map(str::to_owned).collect()
}

// --- in the member's process -------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "no test: the others start it as a member of their groups"]
async fn member() {
    // Somebody asked for all ignored tests.
    let Ok(part) = std::env::var(PART) else { return };
    let (part, folder) = (Part::of(&part), std::env::var(FOLDER).unwrap());
    let folder = Path::new(&folder);
    let mut said = append(&folder.join("said"));
    let mut say = move |what: &str, rest: &str| {
        said.write_all(format!("{} {what} {rest}\n", now()).as_bytes()).unwrap();
    };
    say("connecting", "");
    let topics: Vec<&str> = part.topics.iter().map(|topic| &**topic).collect();
    let consumer = match Consumer::connect(part.conf(), GroupConf::redis(part.redis()), &topics).await {
        Ok(consumer) => consumer,
        Err(error) => return say("refused", &error.to_string()),
    };
    say("connected", "");
    for number in 0..part.readers {
        let records = append(&folder.join("records"));
        let reader = consumer.reader();
        match part.by {
            By::Record => tokio::spawn(by_record(reader, number, records, part.clone())),
            By::Batch => tokio::spawn(by_batch(reader, number, records, part.clone())),
        };
    }
    // Until it is killed: by the test, or by the test's end.
    let mut was = None;
    loop {
        let organiser = consumer.stats().organiser;
        if was.replace(organiser) != Some(organiser) {
            say("organiser", if organiser { "yes" } else { "no" });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("the folder is there")
}

fn line(reader: usize, topic: &str, partition: i32, offset: i64, value: Option<&[u8]>) -> String {
    let number = value.and_then(|value| std::str::from_utf8(value).ok()).and_then(|text| text.parse().ok());
    let value = number.expect("a number was sent");
    Line { at: now(), reader, topic: topic.to_owned(), partition, offset, value }.to_string()
}

async fn by_record(mut reader: Reader, number: usize, mut records: File, part: Part) {
    while let Some(message) = reader.next().await.expect("the group serves us") {
        let mut note = || {
            let (topic, value) = (&message.topic, message.value.as_deref());
            records
                .write_all(line(number, topic, message.partition, message.offset, value).as_bytes())
                .unwrap();
        };
        if !part.notes_handled {
            note();
        }
        if part.work < Duration::from_millis(1) {
            spin(part.work);
        } else {
            tokio::time::sleep(part.work).await;
        }
        if part.notes_handled {
            note();
        }
    }
}

/// Work that leaves the runtime no moment between two records.
fn spin(work: Duration) {
    let until = Instant::now() + work;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

async fn by_batch(mut reader: Reader, number: usize, mut records: File, part: Part) {
    while let Some(mut batch) = reader.next_batch().await.expect("the group serves us") {
        let (topic, partition) = (batch.unit().topic.to_string(), batch.unit().partition);
        while let Some(record) = batch.next() {
            let line = line(number, &topic, partition, record.offset, record.value);
            records.write_all(line.as_bytes()).unwrap();
            spin(part.work);
        }
    }
}
