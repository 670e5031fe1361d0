"""A broker that takes every batch and keeps none: what is left is the price of the client.

The kernel throws the batches away (MSG_TRUNC) before they are copied to this process, which has a core of the client's machine: so it
costs as little of it as can be. It speaks the old, plain versions of four APIs.
"""
import os
import select
import socket
import struct
import subprocess
import sys
import threading

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, INIT_PRODUCER_ID = 0, 1, 2, 3, 18, 22
VERSIONS = {PRODUCE: (3, 7), FETCH: (4, 4), LIST_OFFSETS: (1, 1), METADATA: (4, 4), API_VERSIONS: (0, 0), INIT_PRODUCER_ID: (0, 1)}
UNSUPPORTED_VERSION = 35
PARTITIONS = 4
CHUNK = 1 << 20


class DiscardingBroker:
    """The broker in a process of its own: `with DiscardingBroker() as broker`, then `broker.port` and `broker.pid`."""

    def __enter__(self):
        self._process = subprocess.Popen([sys.executable, "-B", os.path.abspath(__file__)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process.stdin.close()


class Connection:
    def __init__(self, connection, port):
        self.socket = connection
        self.port = port
        self.left = 0
        self.waste = bytearray(CHUNK)

    def serve(self):
        while True:
            self.left = 4
            try:
                size = self.take("i")
            except EOFError:
                return
            self.left = size
            api, version, correlation = self.take("h"), self.take("h"), self.take("i")
            self.text()
            answer = self.answer(api, version)
            self.discard(self.left)
            if answer is not None:
                body = struct.pack(">i", correlation) + answer
                self.socket.sendall(struct.pack(">i", len(body)) + body)

    def answer(self, api, version):
        if api == API_VERSIONS:
            return api_versions(version)
        low, high = VERSIONS.get(api, (0, -1))
        if api in (FETCH, LIST_OFFSETS) or not low <= version <= high:
            raise ValueError(f"api {api} version {version} is not spoken here")
        if api == METADATA:
            return metadata(self.port, [self.text() for _ in range(max(self.take("i"), 0))])
        if api == INIT_PRODUCER_ID:
            return struct.pack(">ihqh", 0, 0, 1000, 0)
        return self.produce()

    def produce(self):
        self.text()
        acks, _timeout = self.take("h"), self.take("i")
        topics = self.take("i")
        answer = struct.pack(">i", topics)
        for _ in range(topics):
            name, partitions = self.text(), self.take("i")
            answer += text(name) + struct.pack(">i", partitions)
            for _ in range(partitions):
                answer += struct.pack(">ihqqq", self.take("i"), 0, 0, -1, 0)
                self.discard(max(self.take("i"), 0))
        return answer + struct.pack(">i", 0) if acks else None

    def take(self, form):
        return struct.unpack(">" + form, self.exactly(struct.calcsize(">" + form)))[0]

    def text(self):
        length = self.take("h")
        return self.exactly(length).decode() if length > 0 else ""

    def exactly(self, size):
        """The next bytes of this request."""
        if size > self.left:
            raise ValueError("a request that ends too early")
        self.left -= size
        got = self.socket.recv(size, socket.MSG_WAITALL) if size else b""
        if len(got) < size:
            raise EOFError
        return got

    def discard(self, size):
        self.left -= size
        while size:
            gone = self.socket.recv_into(self.waste, min(size, CHUNK), socket.MSG_TRUNC)
            if not gone:
                raise EOFError
            size -= gone


def text(value):
    raw = value.encode()
    return struct.pack(">h", len(raw)) + raw


def api_versions(version):
    """Whoever asks in a newer version hears what is spoken and asks again (KIP-511)."""
    rows = b"".join(struct.pack(">hhh", api, *spoken) for api, spoken in VERSIONS.items())
    return struct.pack(">hi", UNSUPPORTED_VERSION if version else 0, len(VERSIONS)) + rows


def metadata(port, names):
    """One broker, this one; every topic exists and is led by it."""
    answer = struct.pack(">iii", 0, 1, 1) + text("127.0.0.1") + struct.pack(">ih", port, -1) + text("discarding") + struct.pack(">ii", 1, len(names))
    for name in names:
        answer += struct.pack(">h", 0) + text(name) + struct.pack(">bi", 0, PARTITIONS)
        for partition in range(PARTITIONS):
            answer += struct.pack(">hiiiiii", 0, partition, 1, 1, 1, 1, 1)
    return answer


def serve(connection, port):
    try:
        Connection(connection, port).serve()
    except (EOFError, ConnectionError):
        pass
    finally:
        connection.close()


def main():
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    print(port, flush=True)
    while True:
        # Ends with who started it: then stdin is closed.
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection, port), daemon=True).start()


if __name__ == "__main__":
    main()
