"""`./dev bench boundary` calls this: JMH on what is in bench/java/boundary, with the brokers it needs. See bench/README.md."""
import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import candidates
import kafka
from cases import JAVA, Case
from discard import DiscardingBroker
from running import run_process, say
from versions import versions

SIZES = (100, 1024)
# What a process reads in all its bursts (bench/java/boundary/Reading.java), and some to be fetched ahead of the last one.
RECORDS = 600_000


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench boundary", description="What a call from Java costs, by JMH.")
    parser.add_argument("pattern", nargs="*", help="a regular expression of the names: EmptyCall, Sending, Reading; default all")
    for name in ("java", "classpath", "jmh", "port", "broker-pid"):
        parser.add_argument("--" + name, help=argparse.SUPPRESS)
    return parser.parse_args()


def fill(options):
    """A topic of each size, which everybody reads from its beginning."""
    sender = candidates.java(options.java, options.classpath)[JAVA]
    for size in SIZES:
        topic = f"boundary-{size}"
        say(f"writing {RECORDS} messages of {size} bytes")
        kafka.create_topic(int(options.port), topic, 1)
        run_process(sender.start_line(Case(topic, "produce", size, RECORDS), options.port, topic, 1), int(options.broker_pid))


def table(results):
    """A line per benchmark of JMH's JSON. The median stands beside JMH's mean, which one interrupted burst moves."""
    form = "{:<24} {:>6} {:>10} {:>10} {:>10} {:>6}"
    lines = [form.format("ns a call", "bytes", "median", "mean", "+/- 99.9%", "count")]
    for result in results:
        measured = result["primaryMetric"]
        values = [value for fork in measured["rawData"] for value in fork]
        name = result["benchmark"].split(".", 1)[1]
        numbers = [f"{n:.1f}" for n in (statistics.median(values), measured["score"], float(measured["scoreError"]))]
        lines.append(form.format(name, result.get("params", {}).get("bytes", ""), *numbers, len(values)).rstrip())
    return "\n".join(lines)


def main():
    options = arguments()
    fill(options)
    with DiscardingBroker() as discarding, tempfile.NamedTemporaryFile(suffix=".json") as found:
        # A fork gets the properties of the process that starts it.
        properties = [f"-Dboundary.broker={options.port}", f"-Dboundary.discard={discarding.port}"]
        jmh = ["-cp", options.jmh, "org.openjdk.jmh.Main", "-foe", "true", "-rf", "json", "-rff", found.name, *options.pattern]
        done = subprocess.run([options.java, *properties, *jmh], stdin=subprocess.DEVNULL)
        if done.returncode:
            return done.returncode
        results = json.load(found)
    print(f"{datetime.date.today()}: {versions(options.java, options.classpath, options.broker_pid)}\n\n{table(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
