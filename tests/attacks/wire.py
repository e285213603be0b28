"""The control protocol by hand: what a peer sends that wants to do harm. Frames as in docs/wire_format.md, and just
enough of protobuf to write requests and to read numbers out of answers."""
import collections
import socket
import struct
from urllib.parse import urlsplit

HEADER = struct.Struct("<IBBHQIIII")
MAGIC = 0x31434D4D
OK, QUEUE_FULL, DEADLINE, TOO_LARGE, NO_SPACE, SESSION_LOST = 0, 10, 11, 102, 1002, 1007
OPEN_SESSION, HEARTBEAT, CLOSE_SESSION, PUT_START, PUT_COMMIT, LOOKUP, EXISTS, LIST = 1, 2, 3, 10, 11, 13, 16, 21
JOIN, CATALOG_SYNC, CLUSTER_STATUS = 40, 43, 46
UNIT = 4096
MIB = 1 << 20


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def blob(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def packed(field, values):
    return blob(field, b"".join(map(varint, values)))


def repeated(field, value, times):
    return blob(field, varint(value) * times)


def key_list(keys):
    return packed(1, map(len, keys)) + blob(2, b"".join(keys))


def equal_keys(keys):
    """The same, quicker, for keys of one length."""
    return repeated(1, len(keys[0]), len(keys)) + blob(2, b"".join(keys))


def read_varint(data, at):
    shift = value = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data):
    """(field, value) of a message: numbers, and bytes of whatever has a length."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
        else:
            size, at = read_varint(data, at)
            value = data[at:at + size]
            at += size
        yield tag >> 3, value


def first(data, field, default=0):
    return next((value for name, value in fields(data) if name == field), default)


def unpacked(data, field):
    out, column, at = [], first(data, field, b""), 0
    while at < len(column):
        value, at = read_varint(column, at)
        out.append(value)
    return out


def frame(method, body=b"", request=1, deadline=30_000):
    return HEADER.pack(MAGIC, 1, 0, method, request, deadline, len(body), 0, 0) + body


def address_of(url):
    parts = urlsplit(url)
    return parts.hostname, parts.port


class Peer:
    """One connection."""

    def __init__(self, url, timeout=60.0):
        self.socket = socket.create_connection(address_of(url), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()

    def send(self, method, body=b"", deadline=30_000):
        self.sent += 1
        self.socket.sendall(frame(method, body, self.sent, deadline))

    def _exactly(self, size):
        out = bytearray(size)
        view, got = memoryview(out), 0
        while got < size:
            n = self.socket.recv_into(view[got:])
            if n == 0:
                raise ConnectionError("the service hung up")
            got += n
        return bytes(out)

    def receive(self):
        """(status, body) of the next answer."""
        header = HEADER.unpack(self._exactly(HEADER.size))
        assert header[0] == MAGIC, header
        return header[5], self._exactly(header[6])

    def call(self, method, body=b"", deadline=30_000):
        self.send(method, body, deadline)
        return self.receive()

    def good(self, method, body=b"", deadline=30_000):
        status, answer = self.call(method, body, deadline)
        assert status == OK, (method, status, answer[:200])
        return answer

    def open_session(self):
        return first(self.good(OPEN_SESSION), 1)

    def put_start(self, session, keys, size=1, deadline=30_000):
        """(status of the call, one status for each key, one grant for each key or 0)."""
        status, answer = self.call(PUT_START, number(1, session) + blob(2, key_list(keys)) +
                                   packed(3, [size] * len(keys)), deadline)
        return (status, unpacked(answer, 1), unpacked(answer, 2)) if status == OK else (status, [], [])

    def put(self, session, keys, size=1):
        """Objects of one size under keys of one length. Columns go back as they came: a million keys take a while."""
        all_ok = bytes(len(keys))  # the code 0 takes a byte
        answer = self.good(PUT_START, number(1, session) + blob(2, equal_keys(keys)) + repeated(3, size, len(keys)))
        assert first(answer, 1) == all_ok, collections.Counter(unpacked(answer, 1))
        answer = self.good(PUT_COMMIT, number(1, session) + blob(2, first(answer, 2)))
        assert first(answer, 1) == all_ok, collections.Counter(unpacked(answer, 1))

    def figures(self):
        answer = self.good(CLUSTER_STATUS)
        return {"objects": first(answer, 3), "used": first(answer, 6), "sessions": first(answer, 7),
                "grants": first(answer, 8)}


class Node(Peer):
    """A local service that has no memory: the meta service never looks."""

    def __init__(self, url, size, name=b"no-memory"):
        super().__init__(url)
        self.seq = 0
        segment = number(1, 1) + number(2, 1) + number(4, size)
        joined = self.good(JOIN, blob(1, name) + number(2, 1) + blob(5, segment))
        self.node, self.term = first(joined, 1), first(joined, 2)
        self.sync(extra=number(6, 1) + number(9, self.term))

    def sync(self, fenced=(), extra=b""):
        """Acknowledges, and takes what comes next. The sessions to fence."""
        answer = self.good(CATALOG_SYNC, number(1, self.node) + number(2, 1) + number(3, self.seq) +
                           packed(4, fenced) + extra)
        fences, last = [], None
        for field, value in fields(answer):
            if field == 2:
                last = value
            elif field == 3:
                at = 0
                while isinstance(value, bytes) and at < len(value):
                    session, at = read_varint(value, at)
                    fences.append(session)
        if last is not None:
            self.seq = first(last, 1)
        return fences, last is not None

    def catch_up(self):
        while self.sync()[1]:
            pass
