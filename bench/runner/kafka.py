"""As much of Kafka's protocol as it takes to make topics and to delete them."""
import socket
import struct
import time

METADATA, CREATE_TOPICS, DELETE_TOPICS = 3, 19, 20


class KafkaError(Exception):
    pass


def text(value):
    raw = value.encode()
    return struct.pack(">h", len(raw)) + raw


def create_topic(port, topic, partitions, patience=30):
    """Returns when every partition has a leader."""
    # What is deleted goes from the disk at once: runs write gigabytes.
    config = text("file.delete.delay.ms") + text("1000")
    body = struct.pack(">i", 1) + text(topic) + struct.pack(">ihii", partitions, 1, 0, 1) + config + struct.pack(">ib", 30_000, 0)
    answer = _ask(port, CREATE_TOPICS, 2, body)
    _check("create", topic, _error_after_name(answer, 8))
    until = time.monotonic() + patience
    while _leaders(port, topic) < partitions:
        if time.monotonic() > until:
            raise KafkaError(f"the partitions of {topic} have no leaders after {patience} s")
        time.sleep(0.05)


def delete_topic(port, topic):
    answer = _ask(port, DELETE_TOPICS, 1, struct.pack(">i", 1) + text(topic) + struct.pack(">i", 30_000))
    _check("delete", topic, _error_after_name(answer, 8))


def _check(what, topic, code):
    if code:
        raise KafkaError(f"could not {what} the topic {topic}: Kafka's error {code}")


def _error_after_name(answer, at):
    (length,) = struct.unpack_from(">h", answer, at)
    return struct.unpack_from(">h", answer, at + 2 + length)[0]


class _Answer:
    """Reads values one after the other."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, form):
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.skip(struct.calcsize(">" + form))
        return value

    def skip(self, size):
        self.at += size

    def skip_text(self):
        self.skip(max(self.take("h"), 0))


def _leaders(port, topic):
    """How many partitions of the topic have a leader; 0 when it is not known yet."""
    answer = _Answer(_ask(port, METADATA, 1, struct.pack(">i", 1) + text(topic)))
    for _ in range(answer.take("i")):
        # A broker: id, host, port, rack.
        answer.skip(4), answer.skip_text(), answer.skip(4), answer.skip_text()
    # The controller, and how many topics: one.
    answer.skip(8)
    if answer.take("h"):
        return 0
    answer.skip_text(), answer.skip(1)
    led = 0
    for _ in range(answer.take("i")):
        error, _partition, leader = answer.take("h"), answer.take("i"), answer.take("i")
        led += error == 0 and leader >= 0
        # Replicas, and those in sync.
        answer.skip(4 * answer.take("i")), answer.skip(4 * answer.take("i"))
    return led


def _ask(port, api, version, body):
    """One request on a connection of its own; what is answered, behind the correlation id."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        request = struct.pack(">hhi", api, version, 1) + text("bench") + body
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _exactly(connection, 4))
        return _exactly(connection, size)[4:]


def _exactly(connection, size):
    got = b""
    while len(got) < size:
        more = connection.recv(size - len(got))
        if not more:
            raise KafkaError("the broker closed the connection")
        got += more
    return got
