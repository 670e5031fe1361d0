"""`./dev bench` calls this: reads what is asked for, runs it round by round, judges it. See bench/README.md."""
import argparse
import datetime
import os
import sys
import time

sys.dont_write_bytecode = True

import candidates
import cases
import judging
import plot
import report
from running import Runner, say
from versions import versions

RESULTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "results")
# No further round is begun that would end later than this, however slow the machine.
QUICK_SECONDS = 160


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description="Cases beside the peers and the floor; without CASE those that have goals.")
    parser.add_argument("case", nargs="*", metavar="CASE", help="a name or a pattern as 'consume-*'; see --list")
    parser.add_argument("--rounds", type=positive, help="default 9, with --quick 3")
    parser.add_argument("--json", metavar="FILE", help="a row per case and candidate")
    parser.add_argument("--windows", type=positive, help=f"windows of a JVM's process, the last {judging.JUDGED_WINDOWS} are judged; default 12, with --quick 6")
    parser.add_argument("--candidate", action="append", help="only this one; may be given several times")
    parser.add_argument("--seed", type=int, help="of the order of the candidates; default: a new one, printed")
    parser.add_argument("--quick", action="store_true", help="1 KB beside kafka-clients, under 3 minutes; ends with 1 where a goal is missed")
    parser.add_argument("--list", action="store_true", help="the names of all cases")
    parser.add_argument("--plots", metavar="FOLDER", default=RESULTS, help="where the plots go, default bench/results")
    for name in ("java", "classpath", "port", "broker-pid"):
        parser.add_argument("--" + name, help=argparse.SUPPRESS)
    return parser.parse_args()


def positive(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(text)


def pick_cases(options):
    if not options.quick:
        return cases.chosen(options.case), cases.GOALS
    unknown = [name for name in options.case if name not in cases.QUICK]
    if unknown:
        raise ValueError(f"--quick has no case {unknown[0]}, only {', '.join(cases.QUICK)}")
    return [c for n, c in cases.QUICK.items() if not options.case or n in options.case], cases.QUICK_GOALS


def pick_candidates(options, chosen):
    """Those that are wanted and there; says of the others why not."""
    wanted = {name for case in chosen for name in case.candidates}
    available = candidates.java(options.java, options.classpath)
    found, absent = candidates.native(wanted if not options.candidate else wanted & set(options.candidate))
    available.update(found)
    for name, reason in absent.items():
        say(f"left out: {name}, {reason}")
    unknown = set(options.candidate or []) - wanted
    if unknown:
        raise ValueError(f"no candidate {', '.join(sorted(unknown))} in these cases, only {', '.join(sorted(wanted))}")
    return available


def main():
    options = arguments()
    if options.list:
        print("\n".join(cases.CASES))
        return 0
    try:
        chosen, goals = pick_cases(options)
        available = pick_candidates(options, chosen)
    except ValueError as wrong:
        say(f"bench: {wrong}")
        return 2
    runner = Runner(available, int(options.port), int(options.broker_pid), options.windows or (6 if options.quick else 12), options.seed, options.candidate)
    rounds = options.rounds or (3 if options.quick else 9)
    say(f"{len(chosen)} cases, {rounds} rounds, --seed {runner.seed}")
    started = time.monotonic()
    try:
        for number in range(1, rounds + 1):
            runner.round(number, chosen)
            if options.json:
                report.write_json(options.json, judging.summary(runner.rows))
            used = time.monotonic() - started
            if options.quick and used + used / number > QUICK_SECONDS:
                break
    except KeyboardInterrupt:
        say("interrupted: what follows is of the rounds so far")
    return conclude(options, runner, chosen, goals, time.monotonic() - started)


def conclude(options, runner, chosen, goals, seconds):
    names = {case.name for case in chosen}
    wanted = [goal for goal in goals if goal.case in names and (not options.candidate or goal.candidate in options.candidate)]
    verdicts = [judging.judge(goal, runner.rows) for goal in wanted]
    lines = judging.summary(runner.rows)
    head = f"{datetime.date.today()}: {versions(options.java, options.classpath, options.broker_pid)}"
    text = f"{head}\n--seed {runner.seed}, {seconds:.0f} s\n\n{report.table(lines)}\n"
    if verdicts:
        text += f"\n{report.goals(verdicts)}\n"
    for void in runner.voids:
        text += f"\nVOID: {void}"
    print(text)
    if options.json:
        report.write_json(options.json, lines)
    if options.quick:
        return quick_result(verdicts, runner.voids)
    for path in plot.write_plots(options.plots, lines, f"medians of {max((l['rounds'] for l in lines), default=0)} rounds, {datetime.date.today()}"):
        say(f"wrote {os.path.relpath(path)}")
    return 0


def quick_result(verdicts, voids):
    bad = [v for v in verdicts if judging.exceeded(v)]
    for v in bad:
        found = f"it is {v.middle:.2f}" if v.rounds else "nothing was measured"
        say(f"FAILED: {v.goal.case}, {v.goal.candidate}: {v.goal.text()}, and {found}")
    return 1 if bad or voids else 0


if __name__ == "__main__":
    sys.exit(main())
