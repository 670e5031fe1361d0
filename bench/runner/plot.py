"""Bars as SVG, written by hand: one file per operation, in it a block of bars per case."""
import os
from html import escape

from cases import CASES

WIDTH, LEFT, RIGHT, BAR, GAP = 760, 210, 150, 18, 4
OURS, PEER, FLOOR = "#1f6feb", "#b9884a", "#8b949e"

# Operation: what the bars show, and the field.
SHOWN = {
    "produce": ("CPU of the client, ns a message", "cpu_ns_per_msg"),
    "consume": ("CPU of the client, ns a message", "cpu_ns_per_msg"),
    "paced": ("CPU of the client at a fixed rate, ns a message", "cpu_ns_per_msg"),
    "enqueue": ("messages a second, batches discarded", "msgs_per_s"),
    "latency": ("latency from when a message was due, median, us", "p50_us"),
}


def write_plots(folder, lines, caption):
    """A file per operation that was run; the names of the files."""
    os.makedirs(folder, exist_ok=True)
    by_op = {}
    for line in lines:
        by_op.setdefault(CASES[line["case"]].op, {}).setdefault(line["case"], []).append(line)
    written = []
    for op, by_case in by_op.items():
        title, field = SHOWN[op]
        path = os.path.join(folder, f"{op}.svg")
        with open(path, "w") as file:
            file.write(plot(f"{op}: {title}", caption, by_case, field))
        written.append(path)
    return written


def plot(title, caption, by_case, field):
    """Each case has a scale of its own: its largest bar is as long as there is room."""
    parts, y = [_text(16, 26, title, size=15, weight="bold"), _text(16, 44, caption, color="#57606a")], 66
    for case, lines in by_case.items():
        bars = sorted(((line[field], line["candidate"]) for line in lines if line.get(field)), reverse=field == "msgs_per_s")
        if not bars:
            continue
        parts.append(_text(16, y + 12, case, size=13, weight="bold"))
        y += 22
        most = max(value for value, _ in bars)
        for value, candidate in bars:
            length = max((WIDTH - LEFT - RIGHT) * value / most, 1)
            parts.append(_text(LEFT - 8, y + 13, candidate, anchor="end"))
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{_color(candidate)}"/>')
            parts.append(_text(LEFT + length + 6, y + 13, f"{value:,.0f}" if value >= 100 else f"{value:.1f}"))
            y += BAR + GAP
        y += 14
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif">\n'
            f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n")


def _text(x, y, value, size=12, weight="normal", anchor="start", color="#24292f"):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{color}">{escape(value)}</text>'


def _color(candidate):
    return FLOOR if candidate == "floor" else OURS if candidate.startswith("kafka-fast") else PEER
