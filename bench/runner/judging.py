"""From windows to verdicts. Pure: numbers in, numbers and words out."""
import math
from dataclasses import dataclass
from statistics import median

from cases import PEERS

# The last windows of a process are judged; the ones before warm it up.
JUDGED_WINDOWS = 3
LEVEL = 0.95


def settled(windows):
    """One row of what the last windows of a process printed."""
    last = windows[-JUDGED_WINDOWS:]
    row = {name: sum(w[name] for w in last) / len(last)
           for name in ("cpu_ns_per_msg", "cpu_ns_per_msg_no_jit", "user_ns_per_msg", "sys_ns_per_msg")}
    # All windows have as many messages: the rate over all of them is the harmonic mean.
    row["msgs_per_s"] = len(last) / sum(1 / w["msgs_per_s"] for w in last)
    row["rss_peak_mb"] = max(w["rss_peak_mb"] for w in windows)
    for name in ("p50_us", "p99_us", "p999_us"):
        values = [w[name] for w in last if w.get(name) is not None]
        row[name] = median(values) if values else None
    return row


def interval(values):
    """The confidence interval of the median by order statistics, at least LEVEL sure where there are enough values (6), and how sure it is.

    The k-th smallest and k-th largest enclose the median unless fewer than k values fall on one side of it, which is a matter of
    throwing a coin n times; nothing is assumed of how the values are spread, except that they are independent.
    """
    ordered = sorted(values)
    n = len(ordered)
    # 1 - 2 P(fewer than k of n on one side): k = 1, the whole range, is the best there is for a few values.
    sure = 1 - 2 * 0.5 ** n
    k, tail = 1, 0.5 ** n
    while k < (n + 1) // 2:
        tail += math.comb(n, k) * 0.5 ** n
        if 1 - 2 * tail < LEVEL:
            break
        k, sure = k + 1, 1 - 2 * tail
    return ordered[k - 1], ordered[n - k], max(sure, 0.0)


@dataclass(frozen=True)
class Verdict:
    """What became of a goal. `word` is reached, missed, undecided or not measured; a `?` behind it: too few rounds to be 95 % sure."""
    goal: object
    word: str
    middle: float = 0.0
    low: float = 0.0
    high: float = 0.0
    rounds: int = 0


def values_of(goal, rows):
    """Per round the goal's figure: rows is {(round, case, candidate): row}."""
    found = []
    for number in sorted({r for r, _, _ in rows}):
        mine = _value(rows, number, goal, goal.candidate)
        if mine is None:
            continue
        if not goal.versus:
            found.append(mine)
            continue
        beside = PEERS if goal.versus == "best-peer" else [goal.versus]
        theirs = [v for v in (_value(rows, number, goal, c) for c in beside) if v is not None]
        if theirs:
            found.append(mine / (max(theirs) if goal.sense == ">=" else min(theirs)))
    return found


def _value(rows, number, goal, candidate):
    row = rows.get((number, goal.case, candidate))
    return None if row is None else row.get(goal.metric)


def judge(goal, rows):
    """Missed only if the whole interval is on the wrong side of the limit, reached only if it is on the right one."""
    values = values_of(goal, rows)
    if not values:
        return Verdict(goal, "not measured")
    low, high, sure = interval(values)
    wrong, right = (low > goal.limit, high <= goal.limit) if goal.sense == "<=" else (high < goal.limit, low >= goal.limit)
    word = "missed" if wrong else "reached" if right else "undecided"
    return Verdict(goal, word + ("" if sure >= LEVEL else "?"), median(values), low, high, len(values))


def exceeded(verdict):
    """Whether the quick run fails on it: as everywhere, where all of the interval, here the range of its rounds, is on the wrong side. Nothing
    measured is a failure."""
    if not verdict.rounds:
        return True
    return verdict.low > verdict.goal.limit if verdict.goal.sense == "<=" else verdict.high < verdict.goal.limit


def summary(rows):
    """A row per case and candidate: medians of the rounds."""
    groups = {}
    for (_, case, candidate), row in sorted(rows.items()):
        groups.setdefault((case, candidate), []).append(row)
    made = []
    for (case, candidate), group in groups.items():
        line = {"case": case, "candidate": candidate}
        for name in group[0]:
            values = [row[name] for row in group if row.get(name) is not None]
            line[name] = median(values) if values else None
        line["rounds"] = len(group)
        line["cpu_ns_per_msg_min"] = min(row["cpu_ns_per_msg"] for row in group)
        line["cpu_ns_per_msg_max"] = max(row["cpu_ns_per_msg"] for row in group)
        made.append(line)
    return made
