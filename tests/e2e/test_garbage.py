"""Bytes that mean nothing, sent to every port: the services answer or hang up, and stay."""
import random
import socket
import struct
from urllib.parse import urlsplit

import pytest

HEADER = struct.Struct("<IBBHQIIII")
MAGIC = 0x31434D4D
EXISTS = 16


def frame(magic=MAGIC, version=1, kind=0, method=EXISTS, request=1, deadline=1000, body=b"", body_length=None,
          attachment_length=0, reserved=0):
    length = len(body) if body_length is None else body_length
    return HEADER.pack(magic, version, kind, method, request, deadline, length, attachment_length, reserved) + body


def talk(address, data, shutdown=True, timeout=10.0):
    """What comes back until the other side hangs up, or nothing comes for a moment."""
    answer = b""
    with socket.create_connection(address, timeout=timeout) as sock:
        try:
            sock.sendall(data)
            if shutdown:
                sock.shutdown(socket.SHUT_WR)
            while chunk := sock.recv(65536):
                answer += chunk
        except OSError:
            pass
    return answer


def ports(cluster):
    meta = urlsplit(cluster.meta.url)
    http = urlsplit(cluster.meta.http)
    return {"rpc": (meta.hostname, meta.port), "http": (http.hostname, http.port),
            "data": ("127.0.0.1", cluster.locals[0].port)}


def check_alive(cluster):
    assert cluster.meta.alive() and all(local.alive() for local in cluster.locals)
    assert set(cluster.states().values()) == {"serving"}
    key = f"alive-{random.random()}"
    cluster.put(key, b"x" * 70_000)
    assert cluster.get(key) == b"x" * 70_000


@pytest.mark.parametrize("port", ["rpc", "http", "data"])
def test_random_bytes(shared_cluster, port):
    dice = random.Random(20)
    for size in (1, 7, 31, 32, 33, 64, 1000, 100_000):
        for _ in range(8):
            talk(ports(shared_cluster)[port], dice.randbytes(size))
    check_alive(shared_cluster)


@pytest.mark.parametrize("port", ["rpc", "data"])
def test_a_good_beginning_and_a_random_rest(shared_cluster, port):
    dice = random.Random(21)
    for _ in range(60):
        data = frame(method=dice.randrange(50), body=dice.randbytes(dice.randrange(200)))
        talk(ports(shared_cluster)[port], data + dice.randbytes(dice.randrange(50)))
    check_alive(shared_cluster)


WRONG_FRAMES = {
    "magic": frame(magic=0x12345678),
    "kind": frame(kind=9),
    "huge body": frame(body_length=0xFFFFFFFF),
    "huge attachment": frame(attachment_length=0xFFFFFFFF),
    "reserved": frame(reserved=1),
    "truncated header": frame()[:20],
    "truncated body": frame(body=b"abc", body_length=1000),
}


@pytest.mark.parametrize("name", WRONG_FRAMES)
def test_wrong_frames_end_the_connection(shared_cluster, name):
    talk(ports(shared_cluster)["rpc"], WRONG_FRAMES[name])
    check_alive(shared_cluster)


def test_unknown_version_and_method_get_an_answer(shared_cluster):
    for data, code in ((frame(version=77, request=5), 101), (frame(method=999, request=5), 100),
                       (frame(body=b"\xff" * 40, request=5), 103)):
        answer = talk(ports(shared_cluster)["rpc"], data)
        assert len(answer) >= HEADER.size
        magic, _, kind, _, request, status, _, _, _ = HEADER.unpack(answer[:HEADER.size])
        assert (magic, kind, request, status) == (MAGIC, 1, 5, code)
    check_alive(shared_cluster)


def test_connections_that_say_nothing_do_not_stand_in_the_way(shared_cluster):
    silent = []
    try:
        for address in ports(shared_cluster).values():
            silent += [socket.create_connection(address, timeout=10) for _ in range(50)]
        for sock in silent[::2]:
            sock.sendall(frame()[:16])
        check_alive(shared_cluster)
    finally:
        for sock in silent:
            sock.close()
    check_alive(shared_cluster)


def test_http_oddities(shared_cluster):
    address = ports(shared_cluster)["http"]
    for data in (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n",
                 b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
                 b"GET /query_key?key=%zz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /query_key HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"GET /metrics HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % i for i in range(20_000)) + b"\r\n"):
        talk(address, data)
    check_alive(shared_cluster)
