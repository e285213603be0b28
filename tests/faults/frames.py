"""What a stream of the control protocol or of the tcp data plane is made of (docs/wire_format.md), cut into the steps
at which a fault can strike: each piece has a label, the same in every run of a scenario."""
import struct

METHODS = {
    1: "OpenSession", 2: "SessionHeartbeat", 3: "CloseSession", 10: "PutStart", 11: "PutCommit", 12: "PutAbort",
    13: "Lookup", 14: "Unpin", 15: "LookupPrefix", 16: "Exists", 17: "Stat", 18: "Remove", 19: "RemoveAll",
    20: "RemoveByPrefix", 21: "List", 40: "Join", 41: "NodeHeartbeat", 42: "NodeLeave", 43: "CatalogSync",
    44: "ReportReplica", 45: "Directory", 46: "ClusterStatus", 47: "CatalogReport", 60: "Drain", 61: "Scrub",
    62: "ScrubStatus",
}
# They come by the clock and not by what is done.
BY_THE_CLOCK = {"SessionHeartbeat", "NodeHeartbeat", "goaway"}
CONTROL_HEADER = struct.Struct("<4sBBHQIIII")
assert CONTROL_HEADER.size == 32

JOIN = 40
CATALOG_SYNC = 43
# A reply to CatalogSync that asks for nothing has the term and no more.
IDLE_SYNC_BYTES = 16


class Malformed(Exception):
    pass


class ControlStream:
    """One direction of a control connection. `peer` is the other direction's stream, once it is made."""

    def __init__(self, rewrite_join=None):
        self.buffer = bytearray()
        self.rewrite_join = rewrite_join
        self.peer = None
        self.work_given = False  # the last reply to CatalogSync had something to do

    def feed(self, data):
        """(label, bytes) of every frame that is complete; label None: by the clock."""
        self.buffer += data
        while len(self.buffer) >= CONTROL_HEADER.size:
            magic, _, kind, method, _, _, body, attachment, _ = CONTROL_HEADER.unpack_from(self.buffer)
            if magic != b"MMC1":
                raise Malformed(f"control frame begins with {bytes(magic)!r}")
            size = CONTROL_HEADER.size + body + attachment
            if len(self.buffer) < size:
                return
            frame = bytes(self.buffer[:size])
            del self.buffer[:size]
            if kind == 0 and method == JOIN and self.rewrite_join is not None:
                frame = self.rewrite_join(frame)
            yield self._label(kind, method, body), frame

    def _label(self, kind, method, body):
        name = METHODS.get(method, f"method {method}") if kind in (0, 1) else "goaway"
        if name in BY_THE_CLOCK:
            return None
        if method != CATALOG_SYNC:
            return f"{name} {'request' if kind == 0 else 'reply'}"
        if kind == 1:
            self.work_given = body > IDLE_SYNC_BYTES
            return "CatalogSync work" if self.work_given else None
        acknowledges = self.peer is not None and self.peer.work_given
        return "CatalogSync acknowledgement" if acknowledges else None


HELLO, HELLO_REPLY = struct.Struct("<IHBBQQ"), struct.Struct("<IHHII")
REQUEST, WIRE_OP, RESPONSE = struct.Struct("<IB3sIIQQ"), struct.Struct("<IIQQ"), struct.Struct("<IIQQ")
MAGIC = {"hello": 0x44434D4D, "request": 0x51434D4D, "response": 0x41434D4D}
WRITE = 1


class DataStream:
    """One direction of a data connection. A value travels in two pieces, so that a fault can strike in its middle."""

    def __init__(self, from_client):
        self.buffer = bytearray()
        self.from_client = from_client
        self.peer = None
        self.greeted = False
        self.writes = False  # the request under way, set on the client's side
        self.payload = []    # pieces of a value that are still to come: (label, bytes)

    def feed(self, data):
        self.buffer += data
        while True:
            size, label = self._next()
            if size is None or len(self.buffer) < size:
                return
            piece = bytes(self.buffer[:size])
            self._took(piece)
            del self.buffer[:size]
            yield label, piece

    def _next(self):
        """(bytes, label) of the piece that comes next; None when not even that can be told."""
        if self.payload:
            return self.payload[0][1], self.payload[0][0]
        head = (REQUEST if self.from_client else RESPONSE) if self.greeted else (
            HELLO if self.from_client else HELLO_REPLY)
        if len(self.buffer) < head.size:
            return None, None
        magic = struct.unpack_from("<I", self.buffer)[0]
        if not self.greeted:
            self._expect(magic, "hello")
            return head.size, "data hello" if self.from_client else "data welcome"
        if not self.from_client:
            self._expect(magic, "response")
            return head.size, "write response" if self.peer.writes else "read response"
        self._expect(magic, "request")
        ops = REQUEST.unpack_from(self.buffer)[3]
        direction = REQUEST.unpack_from(self.buffer)[1]
        return REQUEST.size + ops * WIRE_OP.size, "write request" if direction == WRITE else "read request"

    def _expect(self, magic, what):
        if magic != MAGIC[what]:
            raise Malformed(f"data frame begins with {magic:#x}, not {what}")

    def _took(self, piece):
        if self.payload:
            self.payload.pop(0)
        elif not self.greeted:
            self.greeted = True
        elif self.from_client:
            _, direction, _, _, _, total, _ = REQUEST.unpack_from(piece)
            self.writes = direction == WRITE
            if self.writes:
                self._expect_payload("write", total)
        else:
            _, code, _, total = RESPONSE.unpack_from(piece)
            if not self.peer.writes and code == 0:
                self._expect_payload("read", total)

    def _expect_payload(self, what, total):
        half = total // 2
        self.payload = [(f"{what} half", half), (f"{what} rest", total - half)]
        self.payload = [(label, size) for label, size in self.payload if size > 0]
