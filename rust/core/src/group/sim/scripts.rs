//! The scripts in a real Redis beside the state machine, and scripts with mistakes in them, which must be found.

use std::collections::BTreeMap;

use super::twin::{Mutant, Redis};
use super::{
    EpochEnd, ExchangeRequest, Outcome, Publish, Published, Renew, Shorten, Sim, model, number_from, run,
    seeds,
};

#[test]
fn scripts_and_state_machine_are_the_same() {
    let redis = Redis::start(None);
    let steps = number_from("GROUP_SIM_STEPS").unwrap_or(150);
    let (mut seen, mut handled) = (BTreeMap::new(), 0);
    for seed in seeds(300) {
        let sim = run(seed, steps, true, Some(&redis));
        handled += sim.handled;
        sim.seen.into_iter().for_each(|(what, n)| *seen.entry(what).or_insert(0) += n);
        if seed % 1_000 == 0 {
            println!("seed {seed}: {handled} handled; {seen:?}");
        }
    }
    println!("{handled} handled; {seen:?}");
}

/// Mistakes in the scripts, most of which the prototype's simulation was tried with; each must be found.
const MUTANTS: &[(&str, &str, &str)] = &[
    (
        "an acknowledgement is not checked",
        "elseif not belongs(u, consumer, rq, stop) then say(FENCED)",
        "elseif false then say(FENCED)",
    ),
    (
        "no claim is checked",
        "return u.request == request and u.stop == stop and u.holder == consumer",
        "return true",
    ),
    (
        "a claim is its end only",
        "return u.request == request and u.stop == stop and u.holder == consumer",
        "return u.stop == stop",
    ),
    ("a new leader is believed", "if epoch > p.epoch and p.epoch >= 0 then", "if false then"),
    ("units above a cut stay", "    drop_units_from(p, stop)\n    event", "    event"),
    ("facts of any generation are taken", "p.generation == generation and offset > p.low", "offset > p.low"),
    (
        "the low watermark overlooks open units",
        "if p.in_flight + p.parked == 0 then return p.cursor end",
        "do return p.cursor end",
    ),
    (
        "an exhausted unit is dropped",
        "    else\n        park(u)\n    end",
        "    else\n        forget(u)\n    end",
    ),
    (
        "an expired unit does not come back",
        "        expired(u)\n",
        "        call('ZREM', keys[u.topic].leased, u.id)\n",
    ),
    ("an ordered partition has two units", "p.in_flight < units_per_partition and ", ""),
    (
        "a short unit does not move the cursor",
        "turns, stop, p.in_flight + 1",
        "turns, stop - start < size and start or stop, p.in_flight + 1",
    ),
    (
        "a repeated request claims again",
        "if c.request >= request then give_again()",
        "if c.request > request then give_again()",
    ),
    ("nobody is spared after an outage", "if now - tonumber(m[5]) > floor(lease / 2) then", "if false then"),
    ("a gap of a commit is not handed out", "if cursor < from then", "if false then"),
    ("another cluster is let in", "elseif cluster ~= '' and known ~= cluster then", "elseif false then"),
    ("whoever names the cluster first is forgotten", "call('HSET', META, 'cluster', cluster)", ""),
    (
        "whoever names no cluster is refused",
        "elseif cluster ~= '' and known ~= cluster then",
        "elseif known ~= cluster then",
    ),
    ("a group made anew is of no cluster", "'cluster', cluster, 'last'", "'cluster', '', 'last'"),
    ("a unit does not say of which topic it is", "u.id, topic(p.topic).id", "u.id, NO_ID"),
    (
        "an attempt that does not count is used up",
        "        u.attempt = max(u.attempt - 1, 0)\n        return wait_until(u, now + min",
        "        return wait_until(u, now + min",
    ),
    ("what does not count is parked", "elseif through < 0 and not counts then", "elseif false then"),
    (
        "of a batch that cannot be read one record is parked",
        "local to = max(through, u.progress + 1)",
        "local to = u.progress + 1",
    ),
    (
        "with a batch that cannot be read all behind it is parked",
        "if to < u.stop and part",
        "if through < 0 and to < u.stop and part",
    ),
    (
        "a batch that cannot be read is tried again first",
        "elseif through < 0 and u.attempt < max_attempts then",
        "elseif u.attempt < max_attempts then",
    ),
    ("a retired topic comes back", "if is_retired(t, id) then return false end", ""),
    ("a seek of another generation is taken", "if not p or p.generation ~= generation then", "if not p then"),
    (
        "a seek leaves the generation",
        "max(p.high, offset), nonce, true",
        "max(p.high, offset), generation, true",
    ),
    ("units stay where a partition is sought", "drop_units_from(p, -1)\np.cursor", "p.cursor"),
    (
        "a seek does not say where the group stood",
        "'from', int(from), 'to', int(offset)",
        "'from', int(offset), 'to', int(offset)",
    ),
    ("a silent member counts as live", "seen, max(now - seen, 0), reads", "seen, 0, reads"),
    ("a member reads nothing", "max(now - seen, 0), reads}", "max(now - seen, 0), {}}"),
    (
        "a shortening is not checked",
        "elseif not belongs(u, consumer, rq, old) or u.phase == PARKED",
        "elseif u.phase == PARKED",
    ),
    ("a repeated shortening is refused", "    elseif belongs(u, consumer, rq, stop) then say(DONE)\n", ""),
    ("a shortened unit keeps its end", "        cut_off(u, stop, 0, now)\n        settle", "        settle"),
    (
        "the rest of a shortened unit is lost",
        "        new_unit(p, stop, old, attempt, '', 0, WAITS, due)\n",
        "        p.in_flight = p.in_flight - 1\n",
    ),
    (
        "a shortened unit's holder is fenced",
        "        cut_off(u, stop, 0, now)",
        "        cut(u, stop, 0, now)",
    ),
    (
        "the rest of a shortened unit has an attempt",
        "        cut_off(u, stop, 0, now)",
        "        cut_off(u, stop, 1, now)",
    ),
    (
        "who waits is counted among the others",
        "topic(reads[i]).lacking - lacking,",
        "topic(reads[i]).lacking,",
    ),
    (
        "what can be claimed is offered to those who wait twice",
        "others - call('ZCARD', k.ring) -",
        "others -",
    ),
    ("those who wait and got something still wait", "lacking = max(lacking - taken, 0)\n", ""),
    (
        "a member that goes waits for ever",
        "t.lacking - c.lacking\n            if",
        "t.lacking\n            if",
    ),
];

#[test]
fn mistakes_in_the_scripts_are_found() {
    let only = std::env::var("GROUP_SIM_MUTANT").unwrap_or_default();
    for (what, find, put) in MUTANTS.iter().filter(|(what, ..)| what.contains(&only)) {
        let redis = Redis::start(Some(Mutant { find, put }));
        let found = |seed: &u64| {
            let run = std::panic::AssertUnwindSafe(|| _ = run(*seed, 300, true, Some(&redis)));
            std::panic::catch_unwind(run).is_err()
        };
        let seed = (1..=100).find(found);
        println!(
            "MUTANT {what}: {}",
            seed.map_or_else(|| "SURVIVED".to_owned(), |seed| format!("killed by seed {seed}"))
        );
        assert!(seed.is_some(), "{what}: nobody noticed");
    }
}

/// So rare in a random schedule (one in 100,000) that it is asked for: the end of another epoch than the stored one.
#[test]
fn the_end_of_another_epoch_says_nothing_to_the_scripts_either() {
    let redis = Redis::start(None);
    let mut sim = Sim::new(1, true, Some(&redis));
    let (tp, end) = ((0, 0), 0);
    let fact =
        |epoch| Publish { leader_epoch: 2, epoch_end: Some(EpochEnd { epoch, end }), ..sim.fact(tp, None) };
    let facts = [fact(1), fact(0)];
    assert_eq!(sim.state.publish(&facts[..1], 7), [Published::AskEpoch(0)]);
    assert_eq!(sim.state.publish(&facts[1..], 7), [Published::Done]);
    sim.check();
}

/// Holds that may not be shortened, or not there.
fn shorten_in_vain(redis: &Redis) {
    let able = |sim: &Sim| sim.state.settings().max_attempts > 1 && sim.state.settings().consume_step > 4;
    let mut sim = (1..).map(|seed| Sim::new(seed, true, Some(redis))).find(able).expect("one of them");
    let (tp, topic) = ((0, 0), model::topic(0));
    (0..20).for_each(|_| sim.log(tp).append(false));
    let fact = sim.fact(tp, None);
    sim.tell(tp, fact);
    let mut request = ExchangeRequest::new("a".into(), 1, vec![topic.clone()]);
    request.want = 1;
    let unit = sim.state.exchange(sim.now, &request).units.remove(0);
    assert!(unit.end - unit.start > 3, "{unit:?}");
    let shorten = |at| Shorten { id: unit.id.clone(), request: unit.request, end: unit.end, at };
    let renew = Renew { id: unit.id.clone(), request: unit.request, end: unit.end, progress: unit.start + 2 };
    let mut say = |sim: &mut Sim, renews, at| {
        (request.want, request.request, request.renews, request.shortens) = (0, 0, renews, vec![shorten(at)]);
        sim.state.exchange(sim.now, &request).shortens[0]
    };
    assert_eq!(say(&mut sim, vec![renew], unit.end + 1), Outcome::Fenced, "beyond its end");
    for at in [unit.start, unit.start + 2] {
        assert_eq!(say(&mut sim, Vec::new(), at), Outcome::Fenced, "what is handled");
    }
    // Its lease ends while the partition is paused: whoever is given it next is not to find it cut.
    sim.state.pause(&topic, Some(0), true);
    sim.now += 3_001;
    sim.state.tick(sim.now);
    assert_eq!(say(&mut sim, Vec::new(), unit.start + 3), Outcome::Fenced, "it is held back");
    sim.state.check().unwrap();
}

/// Rare in a random schedule, or nothing that our consumers say.
#[test]
fn what_may_not_be_shortened_is_refused_by_the_scripts_too() {
    shorten_in_vain(&Redis::start(None));
    let mutants = [
        (
            "(u.phase == WAITS and u.time == HELD)\n        or stop <= u.progress",
            "false or stop <= u.progress",
        ),
        ("        or stop <= u.progress or stop >= u.stop then", "        or stop >= u.stop then"),
        ("        or stop <= u.progress or stop >= u.stop then", "        or stop <= u.progress then"),
    ];
    for (find, put) in mutants {
        let redis = Redis::start(Some(Mutant { find, put }));
        let play = std::panic::AssertUnwindSafe(|| shorten_in_vain(&redis));
        assert!(std::panic::catch_unwind(play).is_err(), "nobody noticed {put}");
    }
}
