"""Runs candidates, one after the other, and gathers what they print."""
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time

import kafka
from candidates import JVM_WINDOWS, NATIVE_WINDOWS
from discard import DiscardingBroker
from judging import JUDGED_WINDOWS, settled

FIELDS = ("cpu_ns_per_msg", "cpu_ns_per_msg_no_jit", "user_ns_per_msg", "sys_ns_per_msg", "msgs_per_s", "rss_peak_mb")
# A candidate that takes longer than this hangs.
PATIENCE_S = 900
# What every producer is given as a buffer, in MB; memory is judged above it.
BUFFER_MB = 64


class Void(Exception):
    """A run that gives no row."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def cpu_seconds(pid):
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_process(command, broker_pid):
    """The windows that a candidate prints, each with the broker's CPU so far and the time at its end. Raises Void when it fails."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True)
        watchdog = threading.Timer(PATIENCE_S, process.kill)
        watchdog.start()
        try:
            windows = [_window(line, broker_pid) for line in process.stdout]
            code = process.wait()
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
        if code:
            errors.seek(0)
            raise Void(f"ended with {code}: {_shortened(errors.read())}")
    return windows


def _shortened(text):
    """The first lines, which name the error in Java, and the last ones, which do so elsewhere."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return " / ".join(lines if len(lines) < 7 else [*lines[:3], "...", *lines[-3:]])


def _window(line, broker_pid):
    try:
        window = json.loads(line)
        for name in FIELDS:
            window[name] = float(window[name])
    except (ValueError, KeyError, TypeError):
        raise Void(f"printed what is no window: {line.strip()[:200]}") from None
    window["_broker"] = cpu_seconds(broker_pid) if broker_pid else 0.0
    window["_at"] = time.monotonic()
    return window


def row_of(windows, expected):
    """One row of a candidate's windows, the broker's share of a core during the judged ones with it."""
    if len(windows) != expected:
        raise Void(f"printed {len(windows)} windows of {expected}")
    row = settled(windows)
    first = windows[max(len(windows) - JUDGED_WINDOWS - 1, 0)]
    wall = windows[-1]["_at"] - first["_at"]
    row["broker_cores"] = (windows[-1]["_broker"] - first["_broker"]) / wall if wall > 0 else None
    row["memory_mb"] = row["rss_peak_mb"] - windows[-1].get("rss_start_mb", 0) - BUFFER_MB
    return row


class Runner:
    def __init__(self, candidates, port, broker_pid, windows=JVM_WINDOWS, seed=None, only=None):
        self.candidates = candidates
        self.port = port
        self.broker_pid = broker_pid
        self.windows = windows
        self.seed = random.randrange(1 << 32) if seed is None else seed
        self.shuffled = random.Random(self.seed)
        self.only = only
        self.rows = {}
        self.voids = []
        self.filled = {}
        self.topics = 0

    def round(self, number, cases):
        """Every case once, the candidates of a case in an order that is new each time."""
        for case in cases:
            order = [c for c in case.candidates if c in self.candidates and (not self.only or c in self.only)]
            self.shuffled.shuffle(order)
            for name in order:
                self._one(number, case, self.candidates[name])

    def _one(self, number, case, candidate):
        windows = self.windows if candidate.jvm or case.warm else min(self.windows, NATIVE_WINDOWS)
        what = f"round {number}, {case.name}, {candidate.name}"
        try:
            row = row_of(self._run(case, candidate, windows), windows)
        except (Void, kafka.KafkaError, OSError) as reason:
            self.voids.append(f"{what}: {reason}")
            say(f"{what}: VOID, {reason}")
            return
        self.rows[(number, case.name, candidate.name)] = row
        say(f"{what}: {row['cpu_ns_per_msg']:.0f} ns a message ({row['cpu_ns_per_msg_no_jit']:.0f} without JIT), {row['msgs_per_s']:.0f}/s")

    def _run(self, case, candidate, windows):
        if case.op == "enqueue":
            with DiscardingBroker() as broker:
                return run_process(candidate.start_line(case, broker.port, "bench", windows), broker.pid)
        if case.op == "consume":
            topic = self._filled(case)
            return run_process(candidate.start_line(case, self.port, topic, windows), self.broker_pid)
        topic = self._topic(case)
        try:
            return run_process(candidate.start_line(case, self.port, topic, windows), self.broker_pid)
        finally:
            kafka.delete_topic(self.port, topic)

    def _topic(self, case):
        self.topics += 1
        topic = f"bench-{self.topics}"
        kafka.create_topic(self.port, topic, case.partitions)
        return topic

    def _filled(self, case):
        """A topic with the messages of the case. Everybody reads what kafka-clients wrote, once for all rounds."""
        if case.name not in self.filled:
            topic = self._topic(case)
            writing = dataclasses.replace(case, op="produce")
            run_process(self.candidates["kafka-clients"].start_line(writing, self.port, topic, 1), self.broker_pid)
            self.filled[case.name] = topic
        return self.filled[case.name]
