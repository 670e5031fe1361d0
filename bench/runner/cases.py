"""What is measured, and what is to be reached: data, no code that runs anything."""
import fnmatch
from dataclasses import dataclass, field

# Other libraries. "best-peer" in a goal is whichever of those present did best in that round.
PEERS = ["kafka-clients", "librdkafka", "franz-go"]
JAVA = "kafka-fast-java"
RUST = "kafka-fast-rust"
VIEW = "kafka-fast-java-view"
BATCHES = "kafka-fast-java-readBatch"
ALL = [JAVA, RUST, *PEERS, "floor"]

SIZES = {"100": 100, "1k": 1024, "10k": 10240}
# Messages in a window: about a second of the slowest, and long beside the 10 ms in which Linux counts CPU.
PRODUCED = {"100": 1_500_000, "1k": 250_000, "10k": 30_000}
# Readers connect anew for each window; with so many messages that is little beside reading them.
CONSUMED = {"100": 4_000_000, "1k": 1_000_000, "10k": 100_000}
CODECS = ["none", "snappy", "gzip", "lz4", "zstd"]
# Codecs cost: so many times fewer messages take as long.
PRODUCE_COST = {"none": 1, "snappy": 2, "lz4": 2, "zstd": 5, "gzip": 10}
CONSUME_COST = {"none": 1, "snappy": 2, "lz4": 2, "zstd": 4, "gzip": 4}


@dataclass(frozen=True)
class Case:
    name: str
    op: str
    bytes: int
    count: int
    candidates: tuple = tuple(ALL)
    partitions: int = 4
    codec: str = "none"
    acks: str = "1"
    batch: str = "default"
    rate: int = 0
    threads: int = 1
    # Everybody gets as many windows as a JVM: it is the broker that must come to rest.
    warm: bool = False
    # The JVM's heap in MB; the same for all JVM candidates.
    heap: int = 512

    @property
    def payload(self):
        """Values that compress, where there is compression."""
        return "plain" if self.codec == "none" else "json"

    def arguments(self):
        """What a candidate is told of the case; topic, port and windows come from who runs it."""
        given = ["--op", self.op, "--bytes", self.bytes, "--count", self.count, "--payload", self.payload,
                 "--codec", self.codec, "--acks", self.acks, "--batch", self.batch]
        if self.rate:
            given += ["--rate", self.rate]
        if self.threads > 1:
            given += ["--threads", self.threads]
        return [str(a) for a in given]


def _produce():
    for size, count in PRODUCED.items():
        for batch in ["default", "tuned"]:
            for codec in CODECS:
                for acks in ["1", "all"]:
                    name = _name("produce", size, batch, codec, acks)
                    # The floor knows no idempotence.
                    who = [c for c in ALL if acks == "1" or c != "floor"]
                    n = count // PRODUCE_COST[codec]
                    yield Case(name, "produce", SIZES[size], n, tuple(who), codec=codec, acks=acks, batch=batch)


def _consume():
    who = (JAVA, VIEW, BATCHES, *ALL[1:])
    for size, count in CONSUMED.items():
        for batch in ["default", "tuned"]:
            for codec in CODECS:
                n = count // CONSUME_COST[codec]
                yield Case(_name("consume", size, batch, codec, "1"), "consume", SIZES[size], n, who, codec=codec, batch=batch)


def _name(op, size, batch, codec, acks):
    """Defaults are not named."""
    parts = [op, size, *[p for p in (batch, codec, acks) if p not in ("default", "none", "1")]]
    return "-".join(parts)


def _others():
    for rate in [100_000, 10_000]:
        yield Case(f"produce-100-paced-{rate}", "paced", 100, rate * 2, rate=rate)
    for partitions in [1, 100, 2000]:
        # A broker makes a partition's files when its first batch comes, in 10 to 50 ms.
        yield Case(f"produce-1k-partitions-{partitions}", "produce", 1024, PRODUCED["1k"], partitions=partitions, warm=partitions > 100)
        yield Case(f"consume-1k-partitions-{partitions}", "consume", 1024, CONSUMED["1k"], partitions=partitions)
    for threads in [1, 2]:
        name = "enqueue-1k" if threads == 1 else f"enqueue-1k-{threads}-threads"
        yield Case(name, "enqueue", 1024, 1_000_000, (JAVA, RUST), threads=threads)
    for rate in [1_000, 10_000]:
        yield Case(f"latency-{rate}", "latency", 100, rate * 2, rate=rate)
    # A heap that does not hide what the client takes; kafka-clients has its buffer in there and could not live in it.
    yield Case("memory-1k", "produce", 1024, PRODUCED["1k"], tuple(c for c in ALL if c != "kafka-clients"), heap=64)


CASES = {case.name: case for case in [*_produce(), *_consume(), *_others()]}

# `./dev bench --quick`: small enough for CI, and judged without the JIT's threads, which do not come to rest in so short a time.
QUICK = {
    "produce-1k": Case("produce-1k", "produce", 1024, 100_000, (JAVA, "kafka-clients")),
    "consume-1k": Case("consume-1k", "consume", 1024, 800_000, (JAVA, "kafka-clients")),
}


@dataclass(frozen=True)
class Goal:
    """`candidate`'s `metric` over that of `versus` is to be `limit` at most ("<=") or at least (">="). Without `versus`: the metric itself."""
    case: str
    candidate: str
    metric: str
    sense: str
    limit: float
    versus: str = ""
    note: str = field(default="", compare=False)

    def text(self):
        beside = f"x {self.versus}" if self.versus else ""
        return f"{METRICS[self.metric]} {self.sense} {self.limit:g}{beside}" + (f" ({self.note})" if self.note else "")


METRICS = {
    "cpu_ns_per_msg": "CPU",
    "cpu_ns_per_msg_no_jit": "CPU without JIT",
    "msgs_per_s": "messages/s",
    "p50_us": "p50",
    "memory_mb": "memory above buffers in MB",
}


def _cpu(case, candidate, **limits):
    """Goals of CPU, each `peer=limit`, `_` for `-`."""
    return [Goal(case, candidate, "cpu_ns_per_msg", "<=", limit, versus.replace("_", "-")) for versus, limit in limits.items()]


GOALS = [
    *_cpu("produce-100", JAVA, kafka_clients=0.20, librdkafka=0.15, floor=2.0),
    *_cpu("produce-100", RUST, floor=1.5, librdkafka=0.12),
    *_cpu("produce-1k", JAVA, kafka_clients=0.35, librdkafka=0.40, floor=1.5),
    *_cpu("produce-1k", RUST, floor=1.25),
    *_cpu("produce-1k-snappy", JAVA, kafka_clients=0.5),
    Goal("produce-1k-snappy", RUST, "cpu_ns_per_msg", "<=", 1.15, "floor", "the floor with the codec"),
    *_cpu("produce-100-paced-100000", JAVA, best_peer=0.5),
    *_cpu("produce-100-paced-100000", RUST, best_peer=0.4),
    *_cpu("produce-100-paced-10000", JAVA, best_peer=0.5),
    *_cpu("produce-100-paced-10000", RUST, best_peer=0.4),
    *[Goal(case, candidate, "msgs_per_s", ">=", 1.0, "best-peer") for case in ("produce-100", "produce-1k") for candidate in (JAVA, RUST)],
    Goal("enqueue-1k", JAVA, "msgs_per_s", ">=", 4e6),
    Goal("enqueue-1k", RUST, "msgs_per_s", ">=", 6e6),
    *_cpu("consume-100", JAVA, kafka_clients=0.40),
    *_cpu("consume-100", VIEW, kafka_clients=0.33),
    *_cpu("consume-100", BATCHES, kafka_clients=0.33),
    *_cpu("consume-100", RUST, floor=1.25),
    *_cpu("consume-1k", JAVA, kafka_clients=0.45),
    *_cpu("consume-1k", VIEW, kafka_clients=0.30),
    *_cpu("consume-1k", RUST, floor=1.2),
    *[Goal("latency-10000", candidate, "p50_us", "<=", 1.0, "best-peer") for candidate in (JAVA, RUST)],
    Goal("memory-1k", JAVA, "memory_mb", "<=", 50),
    Goal("memory-1k", RUST, "memory_mb", "<=", 10),
]

# Reading has not come as far as its goal of 0.6 yet (0.63 to 0.77 were seen, docs/DESIGN.md says what was tried): this keeps it from
# getting worse.
QUICK_GOALS = [Goal("produce-1k", JAVA, "cpu_ns_per_msg_no_jit", "<=", 0.6, "kafka-clients"),
               Goal("consume-1k", JAVA, "cpu_ns_per_msg_no_jit", "<=", 0.6, "kafka-clients")]


def chosen(patterns):
    """The cases that the patterns name, in our order; without patterns those that have goals. Raises ValueError for one that names none."""
    if not patterns:
        wanted = {goal.case for goal in GOALS}
        return [case for name, case in CASES.items() if name in wanted]
    for pattern in patterns:
        if not fnmatch.filter(CASES, pattern):
            raise ValueError(f"no case is called {pattern}; --list names them all")
    return [case for name, case in CASES.items() if any(fnmatch.fnmatch(name, p) for p in patterns)]
