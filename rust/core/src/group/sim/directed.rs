//! Schedules that chance hardly plays, beside the scripts on a real Redis; and the mistakes in the scripts that they find.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::twin::{Mutant, Redis};
use super::*;

/// A seed whose group is not ordered and takes so many attempts.
fn sim(redis: &Redis, max_attempts: u32) -> Sim {
    // The leader is there from the beginning.
    let fits = |sim: &Sim| {
        sim.view((0, 0)).is_some() && !sim.ordered() && sim.state.settings().max_attempts == max_attempts
    };
    let mut sim = (1..).map(|seed| Sim::new(seed, true, Some(redis))).find(fits).expect("seeds do not end");
    let now = sim.now;
    (0..100).for_each(|_| sim.log((0, 0)).append(now, false));
    let fact = sim.fact((0, 0), None);
    sim.state.publish(&[fact], 7);
    sim
}

impl Sim {
    fn takes(&mut self, number: u64, want: u32) -> Vec<Unit> {
        let mut claim = ExchangeRequest::new("a".into(), number, vec![model::topic(0)]);
        (claim.want, claim.max_records) = (want, 1);
        let units = self.state.exchange(self.now, &claim).units;
        self.check();
        units
    }

    /// A member refuses these.
    fn refuses(&mut self, units: &[Unit], delay: Option<u64>, counts: bool) {
        let back = |unit: &Unit| {
            let Unit { id, request, end, start, .. } = unit.clone();
            let (delay, reason) = (delay.map(Duration::from_millis), "it throws".into());
            Nack { id, request, end, progress: start, delay, counts, through: None, reason }
        };
        let mut says = ExchangeRequest::new("a".into(), 0, vec![model::topic(0)]);
        says.nacks = units.iter().map(back).collect();
        self.state.exchange(self.now, &says);
        self.check();
    }

    fn acknowledges(&mut self, unit: &Unit) {
        let Unit { id, request, end, start, .. } = unit.clone();
        self.log((0, 0)).is_done(start, end);
        let mut says = ExchangeRequest::new("a".into(), 0, vec![model::topic(0)]);
        says.acks.push(Ack { id, request, end, high_watermark: -1, leader_epoch: -1, records: 0, bytes: 0 });
        self.state.exchange(self.now, &says);
        self.check();
    }

    fn a_minute_later(&mut self) -> u32 {
        self.now += 60_000;
        self.tick();
        self.check();
        self.parked()
    }
}

/// The last unit of a partition waits for a back-off that does not count, and one before it is released.
fn a_release_before_one_that_waits_uncounted(redis: &Redis) {
    let mut sim = sim(redis, 2);
    let units = sim.takes(1, 2);
    sim.refuses(&units[1..], Some(60_000), false);
    sim.refuses(&units[..1], None, false);
    let view = sim.view((0, 0)).unwrap();
    assert_eq!((view.cursor, view.in_flight), (units[1].end, 2));
}

/// Eight units are parked and tried again, in all the ways that it can go.
fn probes(redis: &Redis) {
    let mut sim = sim(redis, 2);
    for number in 0..8 {
        for attempt in 1..=2 {
            let units = sim.takes(2 * number + attempt, 1);
            sim.refuses(&units, Some(0), true);
        }
        sim.now += 1_000;
    }
    assert_eq!(sim.parked(), 8);
    sim.state.pause(&model::topic(0), None, true);
    assert_eq!(sim.a_minute_later(), 8, "nothing of a paused partition");
    sim.state.pause(&model::topic(0), None, false);
    assert_eq!(sim.a_minute_later(), 7);
    assert_eq!(sim.a_minute_later(), 7, "no more while one is not over");
    let first = sim.takes(20, 1);
    assert_eq!((first[0].start, first[0].attempt), (0, 2), "the longest parked, with one attempt left");
    sim.refuses(&first, Some(5_000), false);
    assert_eq!(sim.parked(), 8);
    assert_eq!(sim.a_minute_later(), 7);
    let second = sim.takes(21, 1);
    sim.acknowledges(&second[0]);
    assert_eq!(sim.a_minute_later(), 5, "twice as many after a success");
    let third = sim.takes(22, 2);
    sim.refuses(&third[..1], Some(5_000), true);
    sim.acknowledges(&third[1]);
    assert_eq!(sim.a_minute_later(), 4, "set back, and doubled: two of six");
    let fourth = sim.takes(23, 2);
    // Their holder dies, others live.
    for _ in 0..4 {
        sim.now += 1_000;
        let topics = vec![model::topic(1)];
        sim.state.exchange(sim.now, &ExchangeRequest::new("b".into(), 0, topics));
    }
    sim.tick();
    sim.check();
    assert_eq!((fourth.len(), sim.parked()), (2, 6));
    assert_eq!(sim.a_minute_later(), 5, "one again");
    // An operator has one of the others delivered.
    let parked = sim.state.quarantined(sim.now, &[model::topic(0)]);
    let (one, retry) = (Some(parked[1].from), Unpark::Retry);
    assert_eq!((parked.len(), sim.state.unpark(sim.now, &model::topic(0), 0, one, retry)), (5, 1));
    sim.check();
    assert_eq!(sim.state.quarantined(sim.now, &[model::topic(0)]).len(), 4);
}

/// What is wrong, the text of a script, what stands for it, and who finds it.
type Mistake = (&'static str, &'static str, &'static str, fn(&Redis));

const MISTAKES: &[Mistake] = &[
    (
        "a unit that waits uncounted goes back to the cursor",
        "        if last.time > now and last.time ~= HELD then return end\n",
        "",
        a_release_before_one_that_waits_uncounted,
    ),
    ("what was parked is not tried again", "if p then probe(p) end", "", probes),
    (
        "a success does not double what is tried next",
        "part(u.pid).probes = min(2 * part(u.pid).probes,",
        "_ = max(1,",
        probes,
    ),
    (
        "a refused probe does not set back what is tried next",
        "        part(u.pid).probes = 1\n    elseif through < 0 and not counts",
        "    elseif through < 0 and not counts",
        probes,
    ),
    (
        "a probe that dies with its holder does not either",
        "if u.probe == 1 then part(u.pid).probes = 1 end",
        "",
        probes,
    ),
    (
        "a refused probe is no probe",
        "    if u.probe == 1 then\n        -- Back",
        "    if false then\n        -- Back",
        probes,
    ),
    (
        "the last parked is tried first",
        "if a.time ~= b.time then return a.time < b.time end",
        "if a.time ~= b.time then return a.time > b.time end",
        probes,
    ),
    (
        "a paused partition is tried, too",
        "if p.paused == 1 then return end\n    local parked",
        "local parked",
        probes,
    ),
    ("more are tried while some are not over", "        if u.probe == 1 then return end\n", "", probes),
    ("a probe has all attempts", "unparked(u, max_attempts - 1)", "unparked(u, 0)", probes),
    (
        "a unit that is parked again stays a probe",
        "u.phase, u.time, u.probe = PARKED, now, 0",
        "u.phase, u.time = PARKED, now",
        probes,
    ),
    (
        "of one parked unit all are delivered",
        "(offset < 0 or (u.progress <= offset and offset < u.stop))",
        "true",
        probes,
    ),
    (
        "the first parked unit does not set the time",
        "if p.parked == 0 then p.probe_at, p.probes = now + PROBE_EVERY, 1 end",
        "",
        probes,
    ),
];

#[test]
fn what_chance_hardly_plays_is_the_same_in_the_scripts() {
    let redis = Redis::start(None);
    a_release_before_one_that_waits_uncounted(&redis);
    probes(&redis);
}

#[test]
fn mistakes_that_chance_hardly_meets_are_found() {
    for (what, find, put, play) in MISTAKES {
        let redis = Redis::start(Some(Mutant { find, put }));
        let found = catch_unwind(AssertUnwindSafe(|| play(&redis))).is_err();
        println!("MUTANT {what}: {}", if found { "killed" } else { "SURVIVED" });
        assert!(found, "{what}: nobody noticed");
    }
}
