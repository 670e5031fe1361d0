"""Tests of what decides: run by `./dev test`, or `python3 bench/runner/test_runner.py`."""
import importlib.util
import os
import random
import re
import struct
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import boundary
import cases
import judging
import kafka
import plot
import report
import running
from candidates import Candidate
from cases import Goal
from discard import DiscardingBroker


def window(cpu, rate=1e6, **more):
    return {"cpu_ns_per_msg": cpu, "cpu_ns_per_msg_no_jit": cpu / 2, "user_ns_per_msg": cpu, "sys_ns_per_msg": 0.0, "msgs_per_s": rate,
            "rss_peak_mb": 10.0, **more}


def rounds(case, metric, **columns):
    """Rows as the runner keeps them: columns are candidates, `_` for `-`."""
    return {(i + 1, case, name.replace("_", "-")): {metric: value} for name, values in columns.items() for i, value in enumerate(values)}


class Settled(unittest.TestCase):
    def test_only_the_last_windows_count(self):
        row = judging.settled([window(9000), window(9000), window(100), window(110), window(120)])
        self.assertAlmostEqual(row["cpu_ns_per_msg"], 110)
        self.assertAlmostEqual(row["cpu_ns_per_msg_no_jit"], 55)

    def test_a_rate_is_messages_over_time(self):
        # Three windows of as many messages, of 1 s, 1 s and 4 s.
        self.assertAlmostEqual(judging.settled([window(1, 4e6), window(1, 4e6), window(1, 1e6)])["msgs_per_s"], 2e6)

    def test_memory_is_the_most_ever_and_latency_the_median(self):
        windows = [window(1, p50_us=p, rss_peak_mb=m) for p, m in [(1, 50.0), (9, 50.0), (5, 50.0), (7, 60.0)]]
        row = judging.settled(windows)
        self.assertEqual((row["rss_peak_mb"], row["p50_us"], row["p99_us"]), (60.0, 7, None))


class Interval(unittest.TestCase):
    def test_nine_rounds_leave_out_one_on_each_side(self):
        low, high, sure = judging.interval([5, 1, 9, 3, 7, 2, 8, 4, 6])
        self.assertEqual((low, high), (2, 8))
        self.assertAlmostEqual(sure, 1 - 2 * 10 / 512)

    def test_six_are_the_fewest(self):
        self.assertGreaterEqual(judging.interval(range(6))[2], 0.95)
        self.assertLess(judging.interval(range(5))[2], 0.95)
        self.assertEqual(judging.interval([3])[:2], (3, 3))

    def test_it_holds_the_true_median_as_often_as_it_says(self):
        made = random.Random(1)
        for n in (6, 9, 15, 40):
            trials = 4000
            held = 0
            for _ in range(trials):
                low, high, sure = judging.interval([made.expovariate(1) for _ in range(n)])
                held += low <= 0.6931 <= high
            self.assertGreaterEqual(sure, 0.95)
            self.assertAlmostEqual(held / trials, sure, delta=0.02)


class Judging(unittest.TestCase):
    goal = Goal("c", "ours", "cpu", "<=", 0.5, "theirs")

    def word(self, ours, theirs, goal=None):
        return judging.judge(goal or self.goal, rounds("c", "cpu", ours=ours, theirs=theirs)).word

    def test_missed_only_if_the_whole_interval_is_above(self):
        theirs = [100] * 9
        self.assertEqual(self.word([60] * 9, theirs), "missed")
        self.assertEqual(self.word([40] * 9, theirs), "reached")
        self.assertEqual(self.word([60] * 7 + [40] * 2, theirs), "undecided")
        self.assertEqual(self.word([60] * 8 + [40], theirs), "missed")
        self.assertEqual(self.word([50] * 9, theirs), "reached")

    def test_ratios_are_of_one_round(self):
        # Each round is ten times as dear as the one before, for both.
        verdict = judging.judge(self.goal, rounds("c", "cpu", ours=[4 * 10 ** i for i in range(9)], theirs=[10 * 10 ** i for i in range(9)]))
        self.assertEqual((verdict.word, round(verdict.low, 9), round(verdict.high, 9)), ("reached", 0.4, 0.4))

    def test_few_rounds_are_marked(self):
        self.assertEqual(self.word([60] * 3, [100] * 3), "missed?")
        self.assertEqual(self.word([60, 40, 60], [100] * 3), "undecided?")

    def test_a_void_row_takes_its_round_away(self):
        rows = rounds("c", "cpu", ours=[40] * 9, theirs=[100] * 9)
        del rows[(2, "c", "theirs")]
        self.assertEqual(judging.judge(self.goal, rows).rounds, 8)
        self.assertEqual(judging.judge(self.goal, rounds("c", "cpu", theirs=[1] * 9)).word, "not measured")

    def test_the_best_peer_is_the_best_of_the_round(self):
        rows = rounds("c", "cpu", ours=[10, 10], kafka_clients=[20, 40], franz_go=[40, 20], floor=[1, 1])
        self.assertEqual(judging.values_of(Goal("c", "ours", "cpu", "<=", 0.5, "best-peer"), rows), [0.5, 0.5])
        rates = Goal("c", "ours", "cpu", ">=", 1.0, "best-peer")
        self.assertEqual(judging.values_of(rates, rows), [0.25, 0.25])
        self.assertEqual(judging.judge(rates, rows).word, "missed?")

    def test_at_least(self):
        goal = Goal("c", "ours", "cpu", ">=", 4e6)
        self.assertEqual(self.word([5e6] * 9, [], goal), "reached")
        self.assertEqual(self.word([3e6] * 9, [], goal), "missed")

    def test_the_quick_run_fails_where_all_rounds_are_on_the_wrong_side_and_without_figures(self):
        def exceeded(ours):
            return judging.exceeded(judging.judge(self.goal, rounds("c", "cpu", ours=ours, theirs=[100] * len(ours))))

        self.assertTrue(exceeded([60, 60, 51]))
        self.assertFalse(exceeded([90, 90, 40]))
        self.assertTrue(exceeded([]))


class Cases(unittest.TestCase):
    def test_goals_are_about_cases_and_candidates_that_exist(self):
        for goal in cases.GOALS:
            self.assertIn(goal.candidate, cases.CASES[goal.case].candidates)
            self.assertIn(goal.metric, cases.METRICS)
            self.assertIn(goal.versus, ["", "best-peer", *cases.CASES[goal.case].candidates])

    def test_patterns(self):
        self.assertEqual([c.name for c in cases.chosen(["produce-1k-snappy"])], ["produce-1k-snappy"])
        self.assertEqual(len(cases.chosen(["*"])), len(cases.CASES))
        self.assertEqual({c.name for c in cases.chosen([])}, {g.case for g in cases.GOALS})
        with self.assertRaises(ValueError):
            cases.chosen(["produce-1K"])


class Running(unittest.TestCase):
    """A candidate of a few lines in place of a real one."""

    def run_candidate(self, program, windows=1):
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(program)
            file.flush()
            case = cases.CASES["produce-100"]
            line = Candidate("fake", (sys.executable, file.name), "fake").start_line(case, 1, "t", windows)
            return running.row_of(running.run_process(line, None), windows)

    PRINTS = "import json\nprint(json.dumps(%r))\n" % window(7.0)

    def test_windows_become_a_row(self):
        self.assertEqual(self.run_candidate(self.PRINTS)["cpu_ns_per_msg"], 7.0)

    def test_a_failure_is_void_and_says_why(self):
        for program, why in [(self.PRINTS + "import sys; sys.exit('3 messages were lost')", "3 messages were lost"),
                             ("", "0 windows of 1"), ("print('hello')", "no window"), ("print('{}')", "no window")]:
            with self.assertRaisesRegex(running.Void, why):
                self.run_candidate(program)

    def test_arguments(self):
        line = Candidate("fake", ("x",), "fake", ("--way", "view")).start_line(cases.CASES["produce-100-paced-10000"], 9, "t", 4)
        given = dict(zip(line[1::2], line[2::2]))
        self.assertEqual((given["--op"], given["--rate"], given["--port"], given["--windows"], given["--payload"]), ("paced", "10000", "9", "4", "plain"))
        self.assertNotIn("--way", given)


class Discarding(unittest.TestCase):
    def test_batches_are_answered_and_not_kept(self):
        records = b"x" * 3_000_000
        body = struct.pack(">hhii", -1, 1, 1000, 1) + kafka.text("t") + struct.pack(">iii", 1, 2, len(records)) + records
        with DiscardingBroker() as broker:
            # The throttle time comes last.
            answer = kafka._ask(broker.port, 0, 7, body)
            self.assertEqual(answer, struct.pack(">i", 1) + kafka.text("t") + struct.pack(">iihqqqi", 1, 2, 0, 0, -1, 0, 0))
            # A version it does not speak, and one it does.
            self.assertEqual(struct.unpack_from(">h", kafka._ask(broker.port, 18, 4, b""))[0], 35)
            self.assertEqual(struct.unpack_from(">h", kafka._ask(broker.port, 18, 0, b""))[0], 0)
            with open(f"/proc/{broker.pid}/status") as status:
                peak = int(re.search(r"VmHWM:\s*(\d+)", status.read()).group(1))
        self.assertLess(peak, 40_000)


def load_main():
    spec = importlib.util.spec_from_file_location("bench_main", os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class WholeRuns(unittest.TestCase):
    """The quick run from its candidates to its exit code, with candidates that print what they are told and no Kafka."""

    FAKE = "import json, sys\nfor _ in range(int(sys.argv[-1])): print(json.dumps(%r))\n"

    def exit_code(self, ours, theirs=FAKE % window(1000.0), rounds=2):
        with tempfile.TemporaryDirectory() as folder, mock.patch.multiple("running.kafka", create_topic=mock.DEFAULT, delete_topic=mock.DEFAULT) as topics:
            made = {}
            for name, program in [(cases.JAVA, ours), ("kafka-clients", theirs)]:
                path = os.path.join(folder, name)
                with open(path, "w") as file:
                    file.write(program)
                made[name] = Candidate(name, (sys.executable, path), name)
            runner = running.Runner(made, 1, os.getpid(), windows=3)
            with mock.patch("running.say"):
                for number in range(1, rounds + 1):
                    runner.round(number, list(cases.QUICK.values()))
        main = load_main()
        # A topic per run of a producer, and one for all who read.
        self.assertEqual((topics["create_topic"].call_count, topics["delete_topic"].call_count), (2 * rounds + 1, 2 * rounds))
        with mock.patch.object(main, "say"):
            return main.quick_result([judging.judge(goal, runner.rows) for goal in cases.QUICK_GOALS], runner.voids)

    def test_a_slow_candidate_fails(self):
        self.assertEqual(self.exit_code(self.FAKE % window(700.0)), 1)

    def test_a_fast_one_does_not(self):
        self.assertEqual(self.exit_code(self.FAKE % window(500.0)), 0)

    def test_one_that_crashes_fails(self):
        self.assertEqual(self.exit_code("import sys; sys.exit(3)"), 1)


class Report(unittest.TestCase):
    def test_json_has_a_row_per_case_and_candidate(self):
        rows = {(r, "produce-100", c): judging.settled([window(v + r)]) | {"broker_cores": 0.5} for r in (1, 2, 3) for c, v in [("floor", 0), ("kafka-fast-rust", 9)]}
        lines = judging.summary(rows)
        self.assertEqual([(l["case"], l["candidate"], l["cpu_ns_per_msg"], l["rounds"]) for l in lines],
                         [("produce-100", "floor", 2, 3), ("produce-100", "kafka-fast-rust", 11, 3)])
        self.assertIn("5.50x floor", report.table(lines))

    def test_a_plot_is_xml_with_a_bar_per_candidate(self):
        lines = [{"case": "latency-1000", "candidate": c, "p50_us": v} for c, v in [("floor", 100.0), ("kafka-clients", 900.0), ("franz-go", None)]]
        with tempfile.TemporaryDirectory() as folder:
            (path,) = plot.write_plots(folder, lines, "a < b")
            found = xml.etree.ElementTree.parse(path).getroot().findall("{http://www.w3.org/2000/svg}rect")
        # The first one is the ground.
        self.assertEqual(len(found), 3)
        self.assertAlmostEqual(float(found[2].get("width")) / float(found[1].get("width")), 9, places=1)

    def test_the_boundary_has_a_line_per_benchmark(self):
        metric = {"score": 140.0, "scoreError": 60.0, "rawData": [[100.0, 110.0], [90.0, 260.0]]}
        results = [{"benchmark": "kafkafast.Sending.sendMsg", "params": {"bytes": "100"}, "primaryMetric": metric},
                   {"benchmark": "kafkafast.EmptyCall.call", "primaryMetric": metric}]
        lines = [line.split() for line in boundary.table(results).splitlines()[1:]]
        self.assertEqual(lines, [["Sending.sendMsg", "100", "105.0", "140.0", "60.0", "4"], ["EmptyCall.call", "105.0", "140.0", "60.0", "4"]])


if __name__ == "__main__":
    result = unittest.TextTestRunner(verbosity=1).run(unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__]))
    failed = len(result.failures) + len(result.errors)
    # As JUnit says it, for `./dev test`.
    print(f"Tests run: {result.testsRun},  Failures: {failed}" if failed else f"OK ({result.testsRun} tests)")
    sys.exit(1 if failed else 0)
