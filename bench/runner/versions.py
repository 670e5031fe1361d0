"""What ran: a figure without its versions is none."""
import os
import platform
import re
import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent


def versions(java, classpath, broker_pid):
    """Names and versions; what cannot be found out is left out."""
    cpu = _in_file(Path("/proc/cpuinfo"), r"model name\s*: (.*)")
    found = {"kafka-fast": _commit(), "Kafka": _jar(classpath, "kafka_2.13"), "kafka-clients": _jar(classpath, "kafka-clients"), "JDK": _jdk(java),
             "librdkafka": _in_file(BENCH / "rust" / "Cargo.lock", r'name = "rdkafka-sys"\nversion = "[^"+]*\+([^"]+)"'),
             "franz-go": _in_file(BENCH / "go" / "go.mod", r"twmb/franz-go v(\S+)"),
             "CPU": f"{os.cpu_count()} x {cpu}", "Linux": platform.release(),
             "broker": _heap(broker_pid)}
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def _in_file(path, pattern):
    try:
        found = re.search(pattern, path.read_text())
    except OSError:
        return None
    return found and found.group(1).strip()


def _jar(classpath, name):
    for folder in classpath.split(":"):
        if folder.endswith("/*"):
            for file in Path(folder[:-2]).glob(f"{name}-*.jar"):
                return file.stem[len(name) + 1:]
    return None


def _jdk(java):
    return _in_file(Path(java).resolve().parent.parent / "release", r'JAVA_VERSION="([^"]+)"')


def _heap(pid):
    """The broker's heap, which is its only setting that is not a default."""
    try:
        return next((a for a in Path(f"/proc/{pid}/cmdline").read_text().split("\0") if a.startswith("-Xmx")), None)
    except OSError:
        return None


def _commit():
    """The commit, and whether there is more in the tree than that."""
    try:
        done = subprocess.run(["git", "-C", str(BENCH), "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
