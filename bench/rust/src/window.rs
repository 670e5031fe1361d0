//! One window of a run: from its making to its end, which prints what it cost as a line of JSON.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use crate::options::Options;

/// CPU that this process has used so far.
#[derive(Clone, Copy)]
struct Usage {
    user: Duration,
    sys: Duration,
}

impl Usage {
    fn now() -> Self {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` is writable, and all bytes zero is a valid rusage.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        };
        let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
        Self { user: time(usage.ru_utime), sys: time(usage.ru_stime) }
    }
}

pub(crate) struct Window<'a> {
    options: &'a Options,
    number: u32,
    before: Usage,
    started: Instant,
}

impl<'a> Window<'a> {
    pub(crate) fn start(options: &'a Options, number: u32) -> Self {
        Self { options, number, before: Usage::now(), started: Instant::now() }
    }

    /// With the latencies of all messages, in any order, where there are some.
    pub(crate) fn end(self, mut latencies: Vec<Duration>) {
        let seconds = self.started.elapsed().as_secs_f64();
        let now = Usage::now();
        let n = self.options.count as f64;
        let user = (now.user - self.before.user).as_nanos() as f64 / n;
        let sys = (now.sys - self.before.sys).as_nanos() as f64 / n;
        latencies.sort_unstable();
        let quantile = |q: f64| {
            let at = ((latencies.len() as f64 * q) as usize).min(latencies.len().saturating_sub(1));
            latencies.get(at).map_or("null".to_owned(), |l| format!("{:.1}", l.as_nanos() as f64 / 1e3))
        };
        println!(
            "{{\"client\":\"{}\",\"op\":\"{}\",\"bytes\":{},\"window\":{},\"msgs_per_s\":{:.0},\"cpu_ns_per_msg\":{:.1},\
             \"user_ns_per_msg\":{user:.1},\"sys_ns_per_msg\":{sys:.1},\"cpu_ns_per_msg_no_jit\":{:.1},\"rss_peak_mb\":{:.1},\
             \"p50_us\":{},\"p99_us\":{},\"p999_us\":{}}}",
            self.options.client,
            self.options.op,
            self.options.bytes,
            self.number,
            n / seconds,
            user + sys,
            user + sys,
            peak_megabytes(),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
        );
    }
}

/// The most memory this process had until now.
fn peak_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).map_or(0.0, |kb: f64| kb / 1024.0)
}
