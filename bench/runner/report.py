"""What a run has found, as text and as JSON."""
import json

from cases import CASES, PEERS

COLUMNS = "{:<26} {:<26} {:>9} {:>9} {:>9} {:>11} {:>9} {:>8} {:>8}  {}"


def table(lines):
    """A line per case and candidate; ratios are CPU beside each peer and the floor, of the medians."""
    by_case = {}
    for line in lines:
        by_case.setdefault(line["case"], []).append(line)
    text = [COLUMNS.format("case", "candidate", "CPU ns", "no JIT", "spread", "messages/s", "broker", "peak MB", "rounds", "CPU ratios")]
    for case in sorted(by_case, key=_place):
        text.append("")
        group = by_case[case]
        for line in sorted(group, key=lambda l: l["cpu_ns_per_msg"]):
            spread = (line["cpu_ns_per_msg_max"] - line["cpu_ns_per_msg_min"]) / line["cpu_ns_per_msg"] if line["cpu_ns_per_msg"] else 0
            broker = "" if line["broker_cores"] is None else f"{line['broker_cores']:.2f}"
            text.append(COLUMNS.format(case, line["candidate"], _number(line["cpu_ns_per_msg"]), _number(line["cpu_ns_per_msg_no_jit"]),
                f"{spread:.0%}", f"{line['msgs_per_s']:.0f}", broker, f"{line['rss_peak_mb']:.0f}", line["rounds"], _ratios(line, group)).rstrip())
            if line.get("p50_us") is not None:
                text.append(f"{'':<53} p50 {line['p50_us']:.0f} us, p99 {line['p99_us']:.0f} us, p99.9 {line['p999_us']:.0f} us from when it was due")
    text.append("")
    text.append("CPU is of the client's process, user and system, of the last windows; broker: its cores meanwhile; spread: of the rounds, largest less")
    text.append("smallest beside the median. Where CPU and no JIT differ by much, the JIT had not come to rest.")
    return "\n".join(text)


def _place(case):
    names = list(CASES)
    return names.index(case) if case in names else len(names)


def _number(value):
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _ratios(line, group):
    """The CPU of one of ours beside that of others."""
    if not line["candidate"].startswith("kafka-fast"):
        return ""
    beside = [other for other in group if other["candidate"] in [*PEERS, "floor"] and other["cpu_ns_per_msg"]]
    beside.sort(key=lambda other: other["candidate"])
    return ", ".join(f"{line['cpu_ns_per_msg'] / other['cpu_ns_per_msg']:.2f}x {other['candidate']}" for other in beside)


def goals(verdicts):
    """A line per goal: what it asks, what was found, the word."""
    text = []
    form = "{:<26} {:<26} {:<48} {:<32} {}"
    text.append(form.format("case", "candidate", "goal", "median [95 % interval]", "verdict"))
    for v in verdicts:
        found = f"{v.middle:.4g} [{v.low:.4g}, {v.high:.4g}], {v.rounds} rounds" if v.rounds else "-"
        text.append(form.format(v.goal.case, v.goal.candidate, v.goal.text(), found, v.word))
    text.append("")
    text.append("The median of the rounds' ratios, with its interval by order statistics. Missed: the whole interval is on the wrong side; reached: on the")
    text.append("right one; ?: less than 6 rounds, so that the interval, their whole range, is less than 95 % sure.")
    return "\n".join(text)


def write_json(path, lines):
    """An array with a row per case and candidate, each on a line of its own."""
    rows = ",\n".join(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in line.items()}) for line in lines)
    with open(path, "w") as file:
        file.write(f"[\n{rows}\n]\n")
