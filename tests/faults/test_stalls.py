"""Slow, cut and silent connections, and processes that are stopped (SIGSTOP) for longer than every timeout and then
go on:
the late writer and the late reader."""
import itertools
import random
import signal
import threading
import time

import pytest
from cluster import eventually
from pool import TCP_ONLY
from proxy import DROP, FORWARD
from worker import value_of

SEED = 20
SHM, TCP = {}, TCP_ONLY
BY_PATH = pytest.mark.parametrize("local_settings", [SHM, TCP], ids=["shm", "tcp"])
KEYS = {f"key-{number}": 3000 + 4000 * number for number in range(12)}
# Dead soon, for tests that wait for it.
SHORT_GRACE = {"ock.mmc.meta.node_grace_milliseconds": "1500"}


class Gate:
    """A hook: at the first frame of a kind, does something and then holds the frame until it is let through."""

    def __init__(self, network, link, label, action=lambda: None, then=FORWARD):
        self.link, self.label, self.action, self.then = link, label, action, then
        self.reached, self.opened = threading.Event(), threading.Event()
        network.begin(self.hook)

    def hook(self, step):
        if step.link != self.link or step.label != self.label or self.reached.is_set():
            return FORWARD
        self.action()
        self.reached.set()
        self.opened.wait(300)
        return self.then

    def wait(self):
        assert self.reached.wait(60), f"{self.link} {self.label} did not come"

    def let_through(self):
        self.opened.set()


def put_all(pool, replicas=1):
    for number, (key, size) in enumerate(KEYS.items()):
        pool.put(key, number, size, replicas=replicas)


def all_there(pool, more=()):
    pool.settle()
    pool.check({**{key: {number} for number, key in enumerate(KEYS)}, **dict(more)})


def fill(pool, prefix="filler"):
    """Puts until everything that can be handed out was, and checks it: whatever writes there now is seen."""
    keys = {}
    size, refused = 250_000, 0
    for number in range(2 * pool.judge.cluster().capacity_bytes // size):
        key = f"{prefix}-{number}"
        status, = pool.judge.put([(key, value_of(key, number, size))], timeout=0.5)
        if status.ok:
            keys[key] = {number, None}  # it may be evicted again
        refused += not status.ok
        if refused > 3:
            break
    assert keys
    return keys


def start_one(pool, local_settings, **meta_settings):
    """One small node, and a client that knows its way there: its link is made, its memory is mapped."""
    pool.start(nodes=1, dram="8MB", local_settings=local_settings, meta_settings=meta_settings)
    client = pool.worker()
    assert client.ask(do="put", key="warm", version=1, size=1000)["code"] == "OK"
    assert client.ask(do="remove", key="warm")["code"] == "OK"
    return client


def test_every_connection_is_slow(pool):
    pool.start(local_settings=TCP)
    for proxy in pool.network.proxies:
        proxy.delay = 0.01
    client = pool.worker()
    for number, (key, size) in enumerate(KEYS.items()):
        assert client.ask(do="put", key=key, version=number, size=size, replicas=2)["code"] == "OK"
        assert client.ask(do="get", key=key)["found"] == number
    for proxy in pool.network.proxies:
        proxy.delay = 0.0
    all_there(pool)


@BY_PATH
def test_connections_that_break_lose_nothing(pool, local_settings):
    """All links are cut again and again; every call succeeds within its deadline."""
    pool.start(local_settings=local_settings)
    client = pool.worker(timeout=20)
    dice = random.Random(SEED)
    over = threading.Event()
    cuts = []

    def cut():
        while not over.wait(dice.uniform(0.02, 0.12)):
            proxy = dice.choice(pool.network.proxies)
            cuts.extend([proxy.link] * proxy.cut())

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        expected = {}
        for number in itertools.count():
            if number >= 60 and len(cuts) >= 30:
                break
            key = f"cut-{number}"
            if number < 2000:  # there is room for these
                put = client.ask(do="put", key=key, version=number, size=2000, replicas=1 + number % 2, timeout=20)
                # EXISTS: the answer to its own commit was lost on the way.
                assert put["code"] in ("OK", "EXISTS"), put
                expected[key] = {number}
            back = dice.choice(list(expected))
            got = client.ask(do="get", key=back, timeout=20)
            assert got["found"] == int(back[4:]), f"get of {back}: {got}"
    finally:
        over.set()
        cutter.join()
    pool.settle()
    pool.check(expected)


@pytest.mark.parametrize("link", ["client-meta", "node-0-meta", "node-0-data"])
def test_a_silent_link_heals(pool, link):
    """Nothing gets through for longer than a session or a suspect lasts, and no connection breaks."""
    pool.start(local_settings=TCP)
    put_all(pool, replicas=2)
    client = pool.worker(timeout=20)
    silent, = pool.network.on(link)
    silent.open.clear()
    client.tell(do="get", key="key-3", timeout=20)
    if link == "node-0-meta":
        eventually(lambda: pool.node_state("node-0") == "suspect", "node-0 to be suspect")
    elif link == "client-meta":
        # The judge and the daemons only.
        eventually(lambda: pool.judge.cluster().sessions == 1, "the client's session to expire")
    elif link == "node-0-data":
        assert client.answer()["found"] == 3, "the other replica is read within the same call"
    silent.open.set()
    if link != "node-0-data":
        assert client.answer()["found"] == 3
    assert client.ask(do="put", key="later", version=1, size=5000, replicas=2, timeout=20)["code"] == "OK"
    eventually(lambda: pool.node_state("node-0") == "serving", "node-0 to serve again")
    all_there(pool, {"later": {1}})


@BY_PATH
def test_a_writer_stopped_between_its_grant_and_its_write(pool, local_settings):
    """Stopped longer than its session lasts. Over tcp its space is given to others meanwhile; over shared memory nobody
    can keep it from writing, and its space must wait for it."""
    client = start_one(pool, local_settings)
    gate = Gate(pool.network, "client-meta", "PutStart reply", lambda: client.signal(signal.SIGSTOP))
    client.tell(do="put", key="late", version=5, size=4_000_000)
    gate.wait()
    gate.let_through()
    eventually(lambda: pool.judge.cluster().sessions == 1, "its session to expire")
    used = pool.judge.cluster().used_bytes
    if local_settings == TCP:
        eventually(lambda: pool.judge.cluster().used_bytes == 0, "its space to be taken back")
    else:
        assert used >= 4_000_000, "space that a stopped process can write to is free"
    keys = fill(pool)
    if local_settings == SHM:
        assert pool.judge.cluster().used_bytes >= 4_000_000
    client.signal(signal.SIGCONT)
    answer = client.answer()
    assert answer["code"] in ("OK", "NO_SPACE", "DEADLINE", "GRANT_LOST", "SESSION_LOST"), answer
    pool.settle()
    pool.check({**keys, "late": {5, None}})
    pool.unstick(["late"])


def test_a_shm_writer_stopped_in_the_middle_of_its_copy(pool):
    """Stopped at any moment of a long copy, and then either killed or let go on."""
    client = start_one(pool, SHM)
    dice = random.Random(SEED)
    print("seed", SEED)
    for turn in range(5):
        gate = Gate(pool.network, "client-meta", "PutStart reply")
        client.tell(do="put", key="late", version=turn, size=5_000_000, timeout=5)
        gate.wait()
        gate.let_through()
        time.sleep(dice.uniform(0, 0.004))
        client.signal(signal.SIGSTOP)
        eventually(lambda: pool.judge.cluster().sessions == 1, "its session to expire")
        keys = fill(pool, f"filler-{turn}")
        if turn % 2 == 0:
            client.signal(signal.SIGCONT)
            assert "code" in client.answer()
        else:
            client.kill()
        pool.settle()
        pool.check({**keys, "late": {turn, None}})
        pool.judge.remove_all()
        if turn % 2 == 1:
            pool.release(client)
            client = pool.worker()


def test_a_tcp_writer_stopped_in_the_middle_of_its_value(pool):
    client = start_one(pool, TCP)
    gate = Gate(pool.network, "node-0-data", "write half", lambda: client.signal(signal.SIGSTOP))
    client.tell(do="put", key="late", version=5, size=4_000_000)
    gate.wait()
    gate.let_through()
    eventually(lambda: pool.judge.cluster().used_bytes == 0, "its space to be taken back")
    keys = fill(pool)
    client.signal(signal.SIGCONT)
    assert client.answer()["code"] in ("OK", "NO_SPACE", "DEADLINE", "GRANT_LOST", "SESSION_LOST", "PEER_UNREACHABLE")
    pool.settle()
    pool.check({**keys, "late": {5, None}})
    pool.unstick(["late"])


def test_bytes_that_arrive_after_their_space_was_given_to_others(pool):
    """Half a value is under way when its writer dies; it arrives when others have their values there."""
    client = start_one(pool, TCP)
    gate = Gate(pool.network, "node-0-data", "write rest")
    client.tell(do="put", key="late", version=5, size=4_000_000)
    gate.wait()
    client.kill()
    eventually(lambda: pool.judge.cluster().used_bytes == 0, "the space to be taken back")
    keys = fill(pool)
    gate.let_through()
    pool.settle()
    pool.check({**keys, "late": {None}})
    pool.unstick(["late"])


@BY_PATH
@pytest.mark.parametrize("cache", [False, True], ids=["asks", "cache"])
def test_a_reader_stopped_between_its_answer_and_its_read(pool, local_settings, cache):
    """When it goes on, its lease is long over, and other values lie there."""
    pool.start(nodes=1, dram="8MB", local_settings=local_settings)
    pool.put("old", 1, 5_000_000)
    client = pool.worker(location_cache=cache)
    gate = Gate(pool.network, "client-meta", "Lookup reply", lambda: client.signal(signal.SIGSTOP))
    client.tell(do="get", key="old")
    gate.wait()
    gate.let_through()
    pool.judge.remove(["old"])
    eventually(lambda: pool.judge.cluster().used_bytes == 0, "its lease to be over")
    keys = fill(pool)
    client.signal(signal.SIGCONT)
    assert client.answer()["code"] == "NOT_FOUND"
    assert client.ask(do="get", key="old")["code"] == "NOT_FOUND"
    pool.settle()
    pool.check(keys)


def test_a_value_that_changes_under_a_slow_reader(pool):
    """Half of it has been read when the link stops; the rest is read when others have written there."""
    pool.start(nodes=1, dram="32MB", local_settings=TCP)
    pool.put("old", 1, 25_000_000)
    client = pool.worker(timeout=30)
    gate = Gate(pool.network, "node-0-data", "read half")
    client.tell(do="get", key="old", timeout=30)
    gate.wait()
    pool.judge.remove(["old"])
    eventually(lambda: pool.judge.cluster().used_bytes == 0, "its lease to be over")
    keys = fill(pool)
    gate.let_through()
    answer = client.answer()
    assert answer["code"] == "NOT_FOUND", answer
    pool.settle()
    pool.check(keys)


@BY_PATH
def test_a_node_stopped_past_its_grace(pool, local_settings):
    """It is taken for dead, its objects live on elsewhere, and a write that reached it before it went on harms
    nobody."""
    pool.start(dram="16MB", local_settings=local_settings, meta_settings=SHORT_GRACE)
    put_all(pool, replicas=2)
    client = pool.worker(timeout=20)
    node = pool.locals[0]
    gate = Gate(pool.network, "client-meta", "PutStart reply", lambda: node.signal(signal.SIGSTOP))
    client.tell(do="put", key="late", version=5, size=2_000_000, nodes=["node-0" + pool.tag], timeout=20)
    gate.wait()
    gate.let_through()
    for number, key in enumerate(KEYS):
        assert pool.get(key) == number
    eventually(lambda: pool.node_state("node-0") == "dead", "node-0 to be dead")
    node.signal(signal.SIGCONT)
    answer = client.answer()
    eventually(lambda: pool.node_state("node-0") == "serving", "node-0 to serve again")
    keys = fill(pool)
    pool.settle()
    late = {5, None} if answer["code"] == "OK" else {None}
    pool.check({**keys, **{key: {number, None} for number, key in enumerate(KEYS)}, "late": late})


def test_a_meta_service_stopped_for_longer_than_everything(pool):
    """When it goes on it finds that nobody was heard of for longer than their times, itself included: nothing is
    lost."""
    pool.start(local_settings=TCP, meta_settings=SHORT_GRACE)
    put_all(pool)
    client = pool.worker(timeout=20)
    pool.meta.signal(signal.SIGSTOP)
    client.tell(do="get", key="key-4", timeout=20)
    time.sleep(3)  # twice the grace period of the nodes: the longest of its times
    pool.meta.signal(signal.SIGCONT)
    assert client.answer()["found"] == 4
    assert client.ask(do="put", key="later", version=1, size=5000, timeout=20)["code"] == "OK"
    all_there(pool, {"later": {1}})


def test_the_answer_to_a_commit_is_lost(pool):
    """The client finds out for itself that its put was stored."""
    pool.start(local_settings=TCP)
    client = pool.worker()
    gate = Gate(pool.network, "client-meta", "PutCommit reply", then=DROP)
    gate.let_through()
    answer = client.ask(do="put", key="mine", version=3, size=9000)
    assert gate.reached.is_set() and answer["code"] == "OK", answer
    pool.settle()
    pool.check({"mine": {3}})
