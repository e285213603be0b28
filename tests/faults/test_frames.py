"""What the proxy takes apart: whole frames and pieces, in any split, come out byte for byte and with the right
labels."""
import random

import pytest
from frames import CONTROL_HEADER, HELLO, HELLO_REPLY, MAGIC, REQUEST, RESPONSE, WIRE_OP, ControlStream, DataStream, \
    Malformed


def control(kind, method, body=b"", attachment=b""):
    return CONTROL_HEADER.pack(b"MMC1", 1, kind, method, 7, 0, len(body), len(attachment), 0) + body + attachment


def feed(stream, data, seed):
    dice, out = random.Random(seed), []
    while data:
        cut = dice.randint(1, 40)
        out.extend(stream.feed(data[:cut]))
        data = data[cut:]
    return out


@pytest.mark.parametrize("seed", range(5))
def test_control_frames(seed):
    up, down = ControlStream(), ControlStream()
    up.peer, down.peer = down, up
    sent = control(0, 10, b"x" * 100) + control(0, 2) + control(0, 43, b"y" * 9)
    got = feed(up, sent, seed)
    assert b"".join(piece for _, piece in got) == sent
    assert [label for label, _ in got] == ["PutStart request", None, None]
    back = control(1, 10, b"", b"z" * 50) + control(2, 0) + control(1, 43, b"w" * 80)
    got = feed(down, back, seed)
    assert b"".join(piece for _, piece in got) == back
    assert [label for label, _ in got] == ["PutStart reply", None, "CatalogSync work"]
    assert [label for label, _ in feed(up, control(0, 43), seed)] == ["CatalogSync acknowledgement"]


def test_join_is_rewritten():
    stream = ControlStream(lambda frame: frame.replace(b"4711", b"4712"))
    (label, piece), = stream.feed(control(0, 40, b"127.0.0.1:4711"))
    assert label == "Join request" and piece.endswith(b":4712")


@pytest.mark.parametrize("seed", range(5))
def test_data_frames(seed):
    up, down = DataStream(True), DataStream(False)
    up.peer, down.peer = down, up
    op = WIRE_OP.pack(1, 1, 0, 101)
    sent = [HELLO.pack(MAGIC["hello"], 1, 1, 0, 5, 1), REQUEST.pack(MAGIC["request"], 1, b"", 1, 0, 101, 1) + op,
            b"a" * 50, b"b" * 51]
    got = feed(up, b"".join(sent), seed)
    assert got == list(zip(["data hello", "write request", "write half", "write rest"], sent))
    back = [HELLO_REPLY.pack(MAGIC["hello"], 1, 0, 0, 0), RESPONSE.pack(MAGIC["response"], 0, 1, 101)]
    assert feed(down, b"".join(back), seed) == list(zip(["data welcome", "write response"], back))
    again = REQUEST.pack(MAGIC["request"], 0, b"", 1, 0, 101, 2) + op
    assert feed(up, again, seed) == [("read request", again)]
    back = [RESPONSE.pack(MAGIC["response"], 0, 2, 101), b"c" * 50, b"d" * 51]
    assert feed(down, b"".join(back), seed) == list(zip(["read response", "read half", "read rest"], back))


def test_garbage_is_no_frame():
    with pytest.raises(Malformed):
        list(ControlStream().feed(b"G" * 32))
    with pytest.raises(Malformed):
        list(DataStream(True).feed(b"G" * 32))
