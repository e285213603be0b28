"""Reads and writes of another process's registered memory over TCP: the frames, the serving side and the links.

A request is a head (magic, operation, count), then `count` ranges (address, bytes), then the bytes of a write or of a
note. The answer is a code, then the bytes of a read. After an error the serving side closes the connection.
"""
import socket
import struct
import threading

from . import _hosts, _memory

READ, WRITE, NOTE, FIRST = 1, 2, 3, 4
OK, REFUSED = 0, -1
SECONDS = 60.0

_MAGIC = 0x4D4D4345
_HEAD = struct.Struct("<IBI")
_RANGE = struct.Struct("<QQ")
_CODE = struct.Struct("<i")
_MAX_RANGES = 65536
_MAX_NOTE = 1 << 20
_MAX_NOTES = 65536
_MAX_LINKS = 1024


def _receive_into(link, view):
    while view.nbytes:
        got = link.recv_into(view)
        if got == 0:
            raise ConnectionError("the other side closed the connection")
        view = view[got:]


def _receive(link, size):
    data = bytearray(size)
    _receive_into(link, memoryview(data))
    return data


class Server:
    """Serves the registered memory of this process. Threads are daemons; close() ends them."""

    def __init__(self, host, port, registered):
        self._registered = registered
        self._lock = threading.Lock()
        self._notes = []
        self._links = set()
        self._slots = threading.BoundedSemaphore(_MAX_LINKS)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, name="engine-accept", daemon=True).start()

    def notes(self):
        """The (name, message) that came since the last call."""
        with self._lock:
            notes, self._notes = self._notes, []
            return notes

    def close(self):
        with self._lock:
            links, self._links = self._links, set()
        for link in [self._socket, *links]:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            link.close()

    def _accept(self):
        while True:
            try:
                link, _ = self._socket.accept()
            except OSError:
                return
            if not self._slots.acquire(blocking=False):
                link.close()
                continue
            with self._lock:
                self._links.add(link)
            threading.Thread(target=self._serve, args=(link,), name="engine-serve", daemon=True).start()

    def _serve(self, link):
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._answer(link):
                pass
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._links.discard(link)
            link.close()
            self._slots.release()

    def _answer(self, link):
        """One request. False: no further ones."""
        magic, operation, count = _HEAD.unpack(_receive(link, _HEAD.size))
        if magic != _MAGIC or count > _MAX_RANGES:
            return False
        if operation == FIRST:
            first = self._registered.first()
            link.sendall(_CODE.pack(OK if first else REFUSED) + _RANGE.pack(first, 0))
            return True
        ranges = list(_RANGE.iter_unpack(_receive(link, count * _RANGE.size)))
        if operation == NOTE:
            return self._take_note(link, ranges)
        if operation not in (READ, WRITE) or not all(self._registered.holds(*one) for one in ranges):
            link.sendall(_CODE.pack(REFUSED))
            return False
        if operation == READ:
            link.sendall(_CODE.pack(OK))
            for address, size in ranges:
                link.sendall(_memory.bytes_at(address, size))
            return True
        for address, size in ranges:
            _receive_into(link, _memory.bytes_at(address, size))
        link.sendall(_CODE.pack(OK))
        return True

    def _take_note(self, link, ranges):
        if len(ranges) != 1 or sum(ranges[0]) > _MAX_NOTE:
            return False
        name_bytes, text_bytes = ranges[0]
        note = _receive(link, name_bytes).decode("utf-8", "replace"), _receive(link, text_bytes).decode("utf-8",
                                                                                                         "replace")
        with self._lock:
            if len(self._notes) >= _MAX_NOTES:
                return False
            self._notes.append(note)
        link.sendall(_CODE.pack(OK))
        return True


class Links:
    """Connections to other engines, kept for reuse. Thread-safe; a connection serves one request at a time."""

    def __init__(self):
        self._lock = threading.Lock()
        self._idle = {}

    def transfer(self, target, operation, pieces):
        """pieces: (local address, remote address, bytes). OSError when it fails; a write may then be done in part."""
        head = _HEAD.pack(_MAGIC, operation, len(pieces)) + b"".join(_RANGE.pack(to, size) for _, to, size in pieces)

        def run(link):
            link.sendall(head)
            if operation == WRITE:
                for address, _, size in pieces:
                    link.sendall(_memory.bytes_at(address, size))
            self._check(link)
            if operation == READ:
                for address, _, size in pieces:
                    _receive_into(link, _memory.bytes_at(address, size))

        self._with_link(target, run)

    def note(self, target, name, text):
        name, text = name.encode(), text.encode()
        if len(name) + len(text) > _MAX_NOTE:
            raise OSError(f"a note has at most {_MAX_NOTE} bytes")

        def run(link):
            link.sendall(_HEAD.pack(_MAGIC, NOTE, 1) + _RANGE.pack(len(name), len(text)) + name + text)
            self._check(link)

        self._with_link(target, run)

    def first(self, target):
        """The first registered address there."""

        def run(link):
            link.sendall(_HEAD.pack(_MAGIC, FIRST, 0))
            code = _CODE.unpack(_receive(link, _CODE.size))[0]
            return _RANGE.unpack(_receive(link, _RANGE.size))[0] if code == OK else 0

        return self._with_link(target, run)

    def close(self):
        with self._lock:
            idle, self._idle = self._idle, {}
        for links in idle.values():
            for link in links:
                link.close()

    def _check(self, link):
        if _CODE.unpack(_receive(link, _CODE.size))[0] != OK:
            raise OSError("refused: no registered memory of the other side")

    def _with_link(self, target, run):
        with self._lock:
            link = self._idle.get(target, []).pop() if self._idle.get(target) else None
        if link is not None and not _alive(link):
            link.close()
            link = None
        if link is None:
            host, port = _hosts.split_host(target)
            if port is None:
                raise OSError(f"{target!r} names no port")
            link = socket.create_connection((host, port), timeout=SECONDS)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            result = run(link)
        except BaseException:
            link.close()
            raise
        with self._lock:
            self._idle.setdefault(target, []).append(link)
        return result


def _alive(link):
    """Whether an idle connection is still open: an idle one has nothing to say but its end."""
    link.setblocking(False)
    try:
        link.recv(1, socket.MSG_PEEK)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        link.settimeout(SECONDS)
