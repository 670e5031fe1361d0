"""How each candidate is started, and which of them cannot be."""
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cases import BATCHES, JAVA, RUST, VIEW

BENCH = Path(__file__).resolve().parent.parent
JVM_WINDOWS, NATIVE_WINDOWS = 12, 4


@dataclass(frozen=True)
class Candidate:
    name: str
    command: tuple
    # What it calls itself, and how it is told to read.
    client: str
    extra: tuple = ()
    jvm: bool = False

    def start_line(self, case, port, topic, windows, count=None):
        command = [*self.command]
        if self.jvm:
            heap = [f"-Xms{case.heap}m", f"-Xmx{case.heap}m"]
            command = [command[0], "-XX:+UseG1GC", *heap, *command[1:]]
        given = case.arguments()
        if count is not None:
            given[given.index("--count") + 1] = str(count)
        extra = self.extra if case.op == "consume" else ()
        return [*command, "--client", self.client, *given, *extra, "--port", str(port), "--topic", topic, "--windows", str(windows)]


def java(executable, classpath):
    # The compilers' threads stay, so that what they used can be told apart at the end of a window.
    command = (executable, "-XX:-UseDynamicNumberOfCompilerThreads", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classpath, "Bench")
    made = [Candidate(JAVA, command, JAVA, jvm=True),
            Candidate(VIEW, command, JAVA, ("--way", "view"), jvm=True),
            Candidate(BATCHES, command, JAVA, ("--way", "readBatch"), jvm=True),
            Candidate("kafka-clients", command, "kafka-clients", jvm=True)]
    return {c.name: c for c in made}


def native(wanted):
    """Builds the other programs, those of which the wanted candidates need. Gives those that are there, and for the rest why not."""
    there, absent = {}, {}
    for names, program in [((RUST, "floor", "librdkafka"), _rust), (("franz-go",), _go)]:
        names = [n for n in names if n in wanted]
        if not names:
            continue
        made = program()
        for name in names:
            if isinstance(made, Path):
                there[name] = Candidate(name, (str(made),), name)
            else:
                absent[name] = made
    return there, absent


def _rust():
    folder = BENCH / "rust"
    if not (folder / "Cargo.toml").exists():
        return "bench/rust is not in this tree"
    # Not the library's own folder: a build for it would be thrown away by one for this, which has other options.
    target = folder / "target"
    return _built(["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", str(folder / "Cargo.toml"), "--target-dir", str(target)],
                  target / "release" / "candidate")


def _go():
    folder = BENCH / "go"
    if not (folder / "go.mod").exists():
        return "bench/go is not in this tree"
    go = shutil.which("go") or "/usr/local/go/bin/go"
    program = folder / "build" / "candidate"
    return _built([go, "build", "-o", str(program), "./"], program, folder)


def _built(command, program, folder=None):
    """The program, or why there is none."""
    if not shutil.which(command[0]):
        return f"no {os.path.basename(command[0])}"
    print(f"building {program.relative_to(BENCH.parent)}", file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode or not program.exists():
        return f"{' '.join(command[:2])} failed: " + " / ".join(done.stderr.strip().splitlines()[-3:])
    return program
