//! One client and one case in a process of its own, on a topic that exists: the candidates of `./dev bench` that are not
//! Java. What the options and the fields of a line mean is written in bench/README.md. Ends with another code than 0 when a
//! message was lost.

mod fast;
mod floor;
mod librdkafka;
mod options;
mod payloads;
mod protocol;
mod window;

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use options::Options;
use window::Window;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A producer. All are without keys, on all partitions.
trait Sender: Sized + Send {
    fn connect(options: &Options) -> Result<Self, Failure>;
    /// Another one for a further thread; `None` where that is not measured.
    fn another(&self) -> Option<Self>;
    fn send(&mut self, value: &[u8]) -> Result<(), Failure>;
    /// Waits for everything sent; an error when something was not acknowledged.
    fn flush(&mut self, sent: u64) -> Result<(), Failure>;
    /// Between messages that come rarely: does what is due.
    fn turn(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A consumer of all partitions.
trait Reader: Sized + Send {
    /// At the end of the topic, or at its beginning for each window.
    fn connect(options: &Options) -> Result<Self, Failure>;
    fn from_beginning(&mut self, window: u32) -> Result<(), Failure>;
    fn from_end(&mut self) -> Result<(), Failure>;
    /// Reads exactly so many messages.
    fn read(&mut self, count: u64, each: impl FnMut(&[u8])) -> Result<(), Failure>;
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    match &*options.client {
        "kafka-fast-rust" => work::<fast::Sender, fast::Reader>(&options),
        "librdkafka" => work::<librdkafka::Sender, librdkafka::Reader>(&options),
        _ => work::<floor::Sender, floor::Reader>(&options),
    }
}

fn work<S: Sender, R: Reader>(options: &Options) -> Result<(), Failure> {
    match &*options.op {
        "consume" => consume::<R>(options),
        "latency" => latency::<S, R>(options),
        _ => produce::<S>(options),
    }
}

fn produce<S: Sender>(options: &Options) -> Result<(), Failure> {
    let payloads = payloads::make(options);
    let mut sender = S::connect(options)?;
    for w in 0..options.windows {
        let window = Window::start(options, w);
        match (&*options.op, options.threads) {
            ("paced", _) => paced(&mut sender, &payloads, options)?,
            (_, 1) => all(&mut sender, &payloads, options.count)?,
            (_, threads) => by_threads(&sender, &payloads, options.count, threads)?,
        }
        sender.flush(u64::from(w + 1) * options.count)?;
        window.end(Vec::new());
    }
    Ok(())
}

fn all<S: Sender>(sender: &mut S, payloads: &[Vec<u8>], count: u64) -> Result<(), Failure> {
    (0..count).try_for_each(|i| sender.send(&payloads[i as usize % payloads::SIZE]))
}

fn by_threads<S: Sender>(sender: &S, payloads: &[Vec<u8>], count: u64, threads: u64) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for t in 0..threads {
            let mut mine = sender.another().ok_or("this client is measured with one thread only")?;
            // The first ones take what does not divide.
            let share = count / threads + u64::from(t < count % threads);
            running.push(scope.spawn(move || all(&mut mine, payloads, share)));
        }
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })
}

/// So many messages a second, each millisecond those that are due.
fn paced<S: Sender>(sender: &mut S, payloads: &[Vec<u8>], options: &Options) -> Result<(), Failure> {
    let start = Instant::now();
    let mut sent = 0;
    for tick in 1.. {
        sleep_until(start + Duration::from_millis(tick));
        while sent < options.count.min(tick * options.rate / 1000) {
            sender.send(&payloads[sent as usize % payloads::SIZE])?;
            sent += 1;
        }
        if sent == options.count {
            break;
        }
        sender.turn()?;
    }
    Ok(())
}

fn sleep_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}

fn consume<R: Reader>(options: &Options) -> Result<(), Failure> {
    let mut reader = R::connect(options)?;
    for w in 0..options.windows {
        let window = Window::start(options, w);
        reader.from_beginning(w)?;
        let mut bytes = 0;
        reader.read(options.count, |value| bytes += value.len())?;
        window.end(Vec::new());
        if bytes as u64 != options.count * options.bytes as u64 {
            return Err(format!(
                "read {bytes} bytes: the topic must hold exactly {} messages of {}",
                options.count, options.bytes
            )
            .into());
        }
    }
    Ok(())
}

/// From when a message was *due* until a consumer in the same process has it: one that is sent late, because the one before
/// was held up, is late from when it should have gone, so that a client cannot hide its stalls by sending less.
fn latency<S: Sender, R: Reader>(options: &Options) -> Result<(), Failure> {
    let mut value = payloads::make(options).swap_remove(0);
    if value.len() < 8 {
        return Err("latency needs --bytes of at least 8".into());
    }
    let mut sender = S::connect(options)?;
    let mut reader = R::connect(options)?;
    reader.from_end()?;
    let zero = Instant::now();
    let (done, windows) = mpsc::channel();
    std::thread::scope(|scope| {
        // One thread reads all windows.
        scope.spawn(move || {
            for _ in 0..options.windows {
                let mut latencies = Vec::with_capacity(options.count as usize);
                let read = reader.read(options.count, |value| {
                    let due = value.first_chunk().map_or(0, |due| u64::from_be_bytes(*due));
                    latencies.push(zero.elapsed().saturating_sub(Duration::from_nanos(due)));
                });
                if done.send(read.map(|()| latencies)).is_err() {
                    return;
                }
            }
        });
        for w in 0..options.windows {
            let window = Window::start(options, w);
            let start = Instant::now();
            for i in 0..options.count {
                let due = start + Duration::from_nanos(i * 1_000_000_000 / options.rate);
                sleep_until(due);
                value[..8].copy_from_slice(&((due - zero).as_nanos() as u64).to_be_bytes());
                sender.send(&value)?;
                sender.turn()?;
            }
            let latencies = windows.recv_timeout(Duration::from_secs(60))??;
            window.end(latencies);
            sender.flush(u64::from(w + 1) * options.count)?;
        }
        Ok(())
    })
}
