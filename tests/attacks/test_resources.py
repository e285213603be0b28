"""Peers that take what they can get: the memory of the services stays bounded, and others still get their answers.

Asserted: memory, and that answers come. Printed: how long they took, which depends on the machine."""
import collections
import http.client
import resource
import socket
import time

import pytest
from cluster import eventually
from wire import (CATALOG_SYNC, DEADLINE, EXISTS, HEADER, HEARTBEAT, LIST, LOOKUP, MIB, NO_SPACE, OK, OPEN_SESSION,
                  PUT_START, QUEUE_FULL, SESSION_LOST, TOO_LARGE, UNIT, Node, Peer, address_of, blob, first, frame,
                  key_list, number, packed, unpacked)

CONNECTIONS = 10_000
BATCH = 16_384
LONG_LIVED = {"ock.mmc.meta.node_suspect_milliseconds": "300000", "ock.mmc.meta.node_grace_milliseconds": "600000",
              "ock.mmc.meta.session_expiry_milliseconds": "600000"}


def rss(daemon):
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def note(text):
    print("attack: " + text)


def latencies(url, what, calls=500):
    """A caller that has nothing to do with it; each call must be answered."""
    took = []
    with Peer(url) as peer:
        body = blob(1, key_list([b"absent"]))
        for _ in range(calls):
            start = time.perf_counter()
            peer.good(EXISTS, body)
            took.append(time.perf_counter() - start)
    took.sort()
    note(f"{what}: another caller's p50 {took[calls // 2] * 1e6:.0f} us, p99 {took[calls * 99 // 100] * 1e6:.0f} us")


def keys_named(prefix, count, length=0):
    return [f"{prefix}-{i:08d}".encode().ljust(length, b".") for i in range(count)]


def test_ten_thousand_connections(cluster):
    count = min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    assert count >= 1000, "the limit of open files is too low for this test: ulimit -n"
    meta = cluster.start_meta()
    before = rss(meta)
    peers = [Peer(meta.url) for _ in range(count)]
    try:
        for peer in peers:
            peer.send(EXISTS, blob(1, key_list([b"absent"])))
        assert all(peer.receive()[0] == OK for peer in peers)
        grown = rss(meta) - before
        note(f"{count} connections, each used once: {grown / count / 1024:.1f} KiB each")
        assert grown < count * 48 * 1024
        latencies(meta.url, f"{count} connections")
        for peer in peers:
            peer.socket.sendall(frame(EXISTS)[:20])  # and now half a header: each is thrown out after a while
        latencies(meta.url, f"{count} half frames")
        for peer in peers:
            try:
                while peer.socket.recv(4096):
                    pass
            except ConnectionError:
                pass
    finally:
        for peer in peers:
            peer.socket.close()
    latencies(meta.url, "afterwards")
    assert rss(meta) - before < count * 48 * 1024


def test_connections_over_the_limit_are_turned_away(cluster):
    meta = cluster.start_meta({"ock.mmc.meta.max_connections": "100"})
    peers = [Peer(meta.url) for _ in range(100)]
    try:
        for peer in peers:
            peer.good(EXISTS)
        with Peer(meta.url) as late:
            assert late.socket.recv(1) == b""
        eventually(lambda: "100 connections are open" in meta.stderr(), "a line about it")
        assert all(peer.call(EXISTS)[0] == OK for peer in peers)
    finally:
        for peer in peers:
            peer.socket.close()


def test_a_node_under_connections_that_say_nothing(cluster):
    cluster.start(nodes=1)
    local = cluster.locals[0]
    before = rss(local)
    silent = [socket.create_connection(("127.0.0.1", local.port), timeout=60) for _ in range(2000)]
    try:
        cluster.put("in-between", b"x" * 100_000)
        assert cluster.get("in-between") == b"x" * 100_000
        grown = rss(local) - before
        note(f"{len(silent)} silent connections at a data port: {grown / len(silent) / 1024:.1f} KiB each")
        assert grown < 64 * MIB and local.alive()
    finally:
        for sock in silent:
            sock.close()
    cluster.put("afterwards", b"y" * 100_000)


def test_sessions_that_never_beat(cluster):
    most = 20_000
    meta = cluster.start_meta({"ock.mmc.meta.max_sessions": most, "ock.mmc.meta.heartbeat_milliseconds": "100",
                               "ock.mmc.meta.session_expiry_milliseconds": "12000"})
    before = rss(meta)
    with Peer(meta.url) as peer:
        body = blob(1, b"n" * 255) + blob(2, b"h" * 255)
        answers = collections.Counter()
        for _ in range(0, most + 1000, 500):
            for _ in range(500):
                peer.send(OPEN_SESSION, body)
            for _ in range(500):
                status, text = peer.receive()
                answers[status] += 1
        assert answers == {OK: most, QUEUE_FULL: 1000}, answers
        assert b"no more are taken" in text
        grown = rss(meta) - before
        note(f"{most} sessions: {grown / most:.0f} bytes each")
        assert grown < most * 4096
        latencies(meta.url, f"{most} sessions")
        # They end by their silence, and then there is room again.
        eventually(lambda: peer.call(OPEN_SESSION)[0] == OK, "silent sessions to end", 60)


def test_names_that_are_too_long_open_no_session(cluster):
    meta = cluster.start_meta()
    with Peer(meta.url) as peer:
        assert peer.call(OPEN_SESSION, blob(1, b"n" * 256))[0] not in (OK, QUEUE_FULL)
        assert peer.call(OPEN_SESSION, blob(2, b"h" * 100_000))[0] not in (OK, QUEUE_FULL)


def test_grants_that_are_never_committed(cluster):
    meta = cluster.start_meta(LONG_LIVED)
    sessions, each = 4, 65_536
    before = rss(meta)
    with Node(meta.url, 8 << 30), Peer(meta.url) as peer:
        for number_of in range(sessions):
            session = peer.open_session()
            for part in range(each // BATCH):
                status, statuses, _ = peer.put_start(session, keys_named(f"{number_of}-{part}", BATCH))
                assert status == OK and set(statuses) == {OK}
            status, statuses, _ = peer.put_start(session, [b"one more"])
            assert QUEUE_FULL in (status, *statuses), (status, statuses)
        grown = rss(meta) - before
        note(f"{sessions * each} grants: {grown / (sessions * each):.0f} bytes each")
        assert grown < sessions * each * 512
        latencies(meta.url, f"{sessions * each} grants")


def test_grants_that_are_too_old_are_taken_back(cluster):
    """Keys are free at once, space when the node has fenced the session."""
    meta = cluster.start_meta({**LONG_LIVED, "ock.mmc.meta.grant_milliseconds": "1000"})
    with Node(meta.url, 8 << 30) as node, Peer(meta.url) as peer:
        session = peer.open_session()
        keys = keys_named("old", BATCH)
        status, statuses, _ = peer.put_start(session, keys)
        assert status == OK and set(statuses) == {OK}

        def collected():
            fences, _ = node.sync()
            node.sync(fences)
            figures = peer.figures()
            return figures["grants"] == 0 and figures["used"] == 0

        eventually(collected, "all grants to be taken back", 60)
        assert peer.call(HEARTBEAT, number(1, session))[0] == SESSION_LOST
        peer.put(peer.open_session(), keys)


def test_leases_that_are_renewed_for_ever(cluster):
    meta = cluster.start_meta({**LONG_LIVED, "ock.mmc.meta.lease_milliseconds": "500",
                               "ock.mmc.meta.max_lease_milliseconds": "1000"})
    count = 64 * MIB // UNIT
    with Node(meta.url, 64 * MIB) as node, Peer(meta.url) as peer, Peer(meta.url) as greedy:
        session = peer.open_session()
        keys = keys_named("leased", count * 85 // 100)
        peer.put(session, keys)
        node.catch_up()
        request = blob(2, key_list(keys)) + number(3, 10 ** 12)  # a lease of thirty years
        before = rss(meta)
        for _ in range(100):
            answer = greedy.good(LOOKUP, request)
            assert first(answer, 6) <= 1000, "a lease is capped"
        # What all of them are leased for, nobody gets; the answer comes, and says why.
        status, _ = peer.call(PUT_START, number(1, session) + blob(2, key_list([b"large"])) +
                              packed(3, [32 * MIB]), deadline=700)
        assert status in (NO_SPACE, DEADLINE), status
        assert rss(meta) - before < 32 * MIB
        latencies(meta.url, "renewed leases")

        def fits():
            node.catch_up()
            status, statuses, _ = peer.put_start(session, [b"large"], 32 * MIB, deadline=2000)
            return status == OK and statuses == [OK]

        eventually(fits, "the last leases to end", 60)


def test_keys_of_the_greatest_length(cluster):
    meta = cluster.start_meta(LONG_LIVED)
    with Node(meta.url, 8 << 30) as node, Peer(meta.url) as peer:
        session = peer.open_session()
        before = rss(meta)
        rounds = 4
        for part in range(rounds):
            peer.put(session, keys_named(f"long-{part}", BATCH, 2048))
            node.catch_up()
        grown = rss(meta) - before
        note(f"{rounds * BATCH} keys of 2048 bytes: {grown / rounds / BATCH:.0f} bytes each")
        # Keys, their records, and the buffers of one call of 32 MiB and its answers.
        assert grown < rounds * BATCH * 2600 + 400 * MIB
        status, statuses, _ = peer.put_start(session, [b"k" * 2049, b"fine", b""])
        assert status == OK and statuses[1] == OK and statuses[0] != OK and statuses[2] != OK
        latencies(meta.url, "long keys")
    for body_length in (64 * MIB + 1, 0xFFFFFFFF):
        with Peer(meta.url) as peer:
            peer.socket.sendall(HEADER.pack(0x31434D4D, 1, 0, EXISTS, 7, 1000, body_length, 0, 0))
            status, _ = peer.receive()
            assert status == TOO_LARGE
            assert peer.socket.recv(1) in (b"", b"M")
    with Peer(meta.url) as peer:
        peer.good(EXISTS)


def all_names(peer, prefix=b"", limit=10_000):
    """(names, pages) of a walk over all pages."""
    names, pages, token = set(), 0, b""
    while True:
        answer = peer.good(LIST, blob(1, prefix) + blob(2, token) + number(3, limit))
        pages += 1
        columns = first(answer, 1, b"")
        data, at = first(columns, 2, b""), 0
        for length in unpacked(columns, 1):
            names.add(data[at:at + length])
            at += length
        token = first(answer, 3, b"")
        if not token:
            return names, pages


def test_pages_of_a_million_names(cluster):
    meta = cluster.start_meta(LONG_LIVED)
    total = 1_000_000
    with Node(meta.url, 8 << 30) as node, Peer(meta.url) as peer:
        session = peer.open_session()
        before = rss(meta)
        for start in range(0, total, BATCH):
            count = min(BATCH, total - start)
            peer.put(session, [b"%08d" % (start + i) for i in range(count)])
            node.catch_up()
        grown = rss(meta) - before
        note(f"{total} objects: {grown / total:.0f} bytes each")
        assert grown < total * 400
        stored = rss(meta)
        start = time.perf_counter()
        names, pages = all_names(peer)
        note(f"{len(names)} names in {pages} pages: {time.perf_counter() - start:.1f} s")
        assert len(names) == total
        assert all_names(peer, b"00000012", 1)[0] == {b"00000012"}
        names, pages = all_names(peer, b"nothing begins like this")
        assert names == set() and pages < 100
        # The pages of the HTTP side come in pieces, to several readers of whom one does not read.
        host, port = address_of(meta.http)
        deaf = [socket.create_connection((host, port), timeout=60) for _ in range(20)]
        for sock in deaf:
            sock.sendall(b"GET /get_all_keys HTTP/1.1\r\nHost: x\r\n\r\n")
        connection = http.client.HTTPConnection(host, port, timeout=120)
        connection.request("GET", "/get_all_keys")
        answer, lines = connection.getresponse(), 0
        while piece := answer.read(1 << 20):
            lines += piece.count(b"\n")
        assert lines == total
        latencies(meta.url, "lists of a million names")
        for sock in deaf:
            sock.close()
        note(f"the lists took {(rss(meta) - stored) / MIB:.0f} MiB of memory")
        assert rss(meta) - stored < 200 * MIB


def test_large_requests_that_do_not_end_and_answers_that_nobody_takes(cluster):
    """The buffers of all connections together have a bound; what would pass it is refused, and small calls go on."""
    bound = 128 * MIB
    meta = cluster.start_meta({**LONG_LIVED, "ock.mmc.meta.max_buffer_bytes": bound})
    with Node(meta.url, 1 << 30) as node, Peer(meta.url) as peer:
        session = peer.open_session()
        peer.put(session, keys_named("long", 8000, 2048))
        node.catch_up()
        before = rss(meta)
        refused, peers = 0, []
        try:
            for _ in range(40):
                greedy = Peer(meta.url)
                peers.append(greedy)
                try:
                    greedy.socket.sendall(frame(EXISTS, bytes(40 * MIB))[:-1])  # all but the last byte
                except ConnectionError:
                    refused += 1
            grown = rss(meta) - before
            note(f"40 requests of 40 MiB without an end: {grown / MIB:.0f} MiB, {refused} were refused while they came")
            assert grown < 3 * bound
            latencies(meta.url, "large requests without an end", 100)
            eventually(lambda: "hold more than" in meta.stderr(), "a line about it")
        finally:
            for greedy in peers:
                greedy.socket.close()
        deaf = []
        try:
            for _ in range(40):
                one = socket.socket()
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                one.connect(address_of(meta.url))
                one.sendall(frame(LIST, number(3, 10_000)) * 4)  # 16 MiB each
                deaf.append(one)
            latencies(meta.url, "answers that nobody takes", 100)
            grown = rss(meta) - before
            note(f"40 x 4 answers of 16 MiB that nobody takes: {grown / MIB:.0f} MiB")
            assert grown < 4 * bound
        finally:
            for one in deaf:
                one.close()
        peer.good(EXISTS)  # who holds little is never thrown out

        def all_are_listed():
            # An answer of 16 MiB finds room when the buffers of those who are gone are free; until then it is refused.
            try:
                with Peer(meta.url) as reader:
                    return len(all_names(reader)[0]) == 8000
            except ConnectionError:
                return False

        eventually(all_are_listed, "buffers to be free again", 60)


@pytest.mark.parametrize("method", ["PutStart", "CatalogSync"])
def test_calls_that_wait_for_ever(cluster, method):
    """Calls that cannot be answered yet: a service holds so many, and answers the others at once."""
    meta = cluster.start_meta({**LONG_LIVED, "ock.mmc.meta.io_threads": "2"})
    connections, each = 50, 1000
    with Node(meta.url, 2 * MIB) as node, Peer(meta.url) as peer:
        session = peer.open_session()
        status, _, _ = peer.put_start(session, [b"everything"], 2 * MIB)
        assert status == OK
        body = (number(1, session) + blob(2, key_list([b"no room"])) + packed(3, [MIB]) if method == "PutStart" else
                number(1, node.node) + number(2, 1) + number(3, node.seq) + number(5, 60_000))
        before = rss(meta)
        peers = [Peer(meta.url) for _ in range(connections)]
        try:
            for waiting in peers:
                one = frame(PUT_START if method == "PutStart" else CATALOG_SYNC, body, deadline=120_000)
                waiting.socket.sendall(one * each)
            latencies(meta.url, f"{connections * each} waiting calls of {method}", 100)
            grown = rss(meta) - before
            note(f"{connections * each} waiting calls of {method}: {grown / MIB:.0f} MiB")
            assert grown < 512 * MIB
        finally:
            for waiting in peers:
                waiting.socket.close()
        latencies(meta.url, "afterwards", 100)
