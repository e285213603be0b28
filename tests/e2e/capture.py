"""What the loopback interface carries."""
import ctypes
import secrets
import socket
import struct
import threading

ETH_P_ALL = 3
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
SOL_PACKET, PACKET_STATISTICS = 263, 6
LOAD_HALF, LOAD_BYTE, JUMP_EQUAL, RETURN = 0x28, 0x30, 0x15, 0x06  # of BPF
TCP, UDP = 6, 17


def bpf(ports):
    """The kernel's part: UDP, and TCP from or to one of `ports`, over IPv4 without options. A program of BPF."""
    rows = [(LOAD_HALF, 12), (JUMP_EQUAL, 0x0800, None, "drop"), (LOAD_BYTE, 23), (JUMP_EQUAL, UDP, "keep", None),
            (JUMP_EQUAL, TCP, None if ports else "keep", "drop")]
    for at in (34, 36):
        rows += [(LOAD_HALF, at), *((JUMP_EQUAL, port, "keep", None) for port in ports)]
    rows += [(RETURN, 0), (RETURN, 1 << 18)]
    places = {"drop": len(rows) - 2, "keep": len(rows) - 1}
    code = b""
    for number, (what, value, *jumps) in enumerate(rows):
        yes, no = (0 if to is None else places[to] - number - 1 for to in jumps or (None, None))
        code += struct.pack("HBBI", what, yes, no, value)
    return len(rows), code


class Capture:
    """All TCP frames of the loopback of this network namespace, with `ports` those from or to one of them, as the wire
    has them. Needs CAP_NET_RAW. Use with `with`: afterwards bytes() has all that was sent in between."""

    def __init__(self, ports=()):
        self.frames = []
        self.last = b"last " + secrets.token_bytes(16)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # nothing before the filter
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        count, code = bpf(ports)
        program = ctypes.create_string_buffer(code)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                               struct.pack("HP", count, ctypes.addressof(program)))
        self.socket.bind(("lo", ETH_P_ALL))
        self.socket.settimeout(60)
        self.thread = threading.Thread(target=self._read, daemon=True)

    def _read(self):
        while True:
            frame = self.socket.recv(1 << 17)
            if self.last in frame:
                return
            if frame[23] == TCP:
                self.frames.append(frame[54:])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        # Others may use this loopback too: it is never silent, so the end is a frame of its own.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(self.last, ("127.0.0.1", 9))
        self.thread.join()
        _, dropped = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.socket.close()
        assert dropped == 0, f"{dropped} frames were not recorded"

    def bytes(self):
        return b"".join(self.frames)
