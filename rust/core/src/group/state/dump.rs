//! The state as text, for the simulation to hold another implementation's against it.

use super::GroupState;
use crate::group::units::Phase;
use crate::wire::Uuid;

fn hex(id: &Uuid) -> String {
    id.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl GroupState {
    /// Everything, a line a thing, sorted. Without events.
    pub(in crate::group) fn dump(&self) -> Vec<String> {
        let mut out = Vec::new();
        let organiser =
            self.organiser.as_ref().map_or_else(|| "-".into(), |(who, until)| format!("{who} {until}"));
        let (last, grace) = (self.last_activity, self.grace_until);
        let cluster = if self.cluster.is_empty() { "-" } else { &self.cluster };
        out.push(format!("meta {cluster} {last} {grace} {} {} {organiser}", self.turns, self.lost));
        for (name, t) in &self.topics {
            let retired: Vec<String> = t.retired.iter().map(hex).collect();
            let unused = t.unused_since.map_or(-1, |at| at as i64);
            let (settled, backlog, readers, lacking) = (u8::from(t.settled), t.backlog, t.readers, t.lacking);
            out.push(format!(
                "topic {name} {} {settled} {backlog} {readers} {unused} {} {lacking}",
                hex(&t.id),
                retired.join(",")
            ));
        }
        for ((topic, partition), p) in &self.partitions {
            let (low, start, generation) = (p.low_watermark, p.log_start, p.generation);
            let (epoch, in_flight, parked, paused) =
                (p.leader_epoch, p.in_flight, p.parked, u8::from(p.paused));
            let (weight, served, listed) = (p.weight, p.served, p.listed.unwrap_or(-1));
            let (probe_at, probes) = (p.probe_at, p.probes);
            out.push(format!(
                "part {topic}/{partition} {} {} {low} {start} {generation} {epoch} {in_flight} {parked} {paused} {weight} \
                 {served} {listed} {probe_at} {probes}",
                p.cursor, p.high_watermark
            ));
            if parked > 0 {
                out.push(format!("probes {topic}/{partition} {probe_at}"));
            }
            if listed >= 0 {
                out.push(format!("ring {topic} {partition} {served}"));
            }
            for id in self.units.of(&(topic.clone(), *partition)) {
                let row = self.units.get(&id).expect("invariant: the index names units that are there");
                let name = format!("{topic}/{partition}@{:016}", id.carved_at);
                let (phase, time, list) = match row.phase {
                    Phase::Delayed(due) => (0, due.to_string(), format!("waiting {name} {due}")),
                    Phase::Leased(until) => (1, until.to_string(), format!("leased {name} {until}")),
                    Phase::Parked(since) => (2, since.to_string(), format!("parked {name} {since}")),
                };
                let (attempt, holder, request, probe) =
                    (row.attempt, &row.holder, row.request, u8::from(row.probe));
                out.push(format!(
                    "unit {name} {} {} {attempt} {holder} {request} {phase} {time} {probe}",
                    row.progress, row.end
                ));
                out.push(list);
                out.push(format!("open {name}"));
            }
        }
        for (id, m) in &self.members {
            let units = m.units.iter().map(|u| format!("{}/{}@{:016}", u.topic, u.partition, u.carved_at));
            let units: Vec<String> = units.collect();
            let (topics, units) = (m.topics.join(","), units.join(","));
            let (request, readers, seen, lacking) = (m.request, m.readers, m.seen, m.lacking);
            out.push(format!("member {id} {request} {readers} {seen} {topics} {units} {lacking}"));
        }
        out.sort_unstable();
        out
    }
}
