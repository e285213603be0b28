"""mooncake.engine: registered memory, read and written by another process."""
import random
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from mooncake_support import Memory, environment, pattern
from mooncake import http_metadata_server
from mooncake.engine import TransferEngine, TransferNotify, TransferOpcode

PEER = """
import sys
from mooncake.engine import TransferEngine
engine = TransferEngine()
assert engine.initialize(sys.argv[1], sys.argv[2], "tcp", "") == 0
memory = engine.allocate_managed_buffer(1 << 20)
assert engine.write_bytes_to_buffer(memory, b"of the peer", 11) == 0
print(engine.get_rpc_port(), memory, flush=True)
for line in sys.stdin:
    if line.startswith("notes"):
        print([(note.name, note.msg) for note in engine.get_notifies()], flush=True)
    else:
        print(engine.read_bytes_from_buffer(memory, int(line))[-5:], flush=True)
"""


class Peer:
    def __init__(self, name="127.0.0.1", metadata="P2PHANDSHAKE"):
        self.folder = tempfile.TemporaryDirectory(prefix="mmc-test-")  # a killed engine leaves its socket there
        self.process = subprocess.Popen([sys.executable, "-c", PEER, name, metadata], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True,
                                        env=environment(XDG_RUNTIME_DIR=self.folder.name))
        port, memory = self.process.stdout.readline().split()
        self.target, self.memory = f"127.0.0.1:{port}", int(memory)

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def stop(self):
        self.process.communicate(timeout=30)
        self.folder.cleanup()


@pytest.fixture
def peer():
    made = Peer()
    yield made
    made.stop()


@pytest.fixture
def engine():
    made = TransferEngine()
    assert made.initialize("127.0.0.1", "P2PHANDSHAKE", "rdma", "mlx5_0") == 0
    yield made
    made.close()


def test_read_and_write(peer, engine):
    mine = Memory(1 << 20)
    assert engine.register_memory(mine.ptr, mine.size) == 0
    assert engine.transfer_sync_read(peer.target, mine.ptr, peer.memory, 11) == 0
    assert bytes(mine)[:11] == b"of the peer"
    source = Memory(pattern(1 << 20))
    assert engine.transfer_sync_write(peer.target, source.ptr, peer.memory, 1 << 20) == 0
    assert engine.transfer_sync(peer.target, mine.ptr, peer.memory, 1 << 20, TransferOpcode.Read) == 0
    assert bytes(mine) == bytes(source)


def test_batches(peer, engine):
    source, into = Memory(pattern(64_000)), Memory(64_000)
    mine = [source.at(n * 1000) for n in range(64)]
    theirs = [peer.memory + n * 1000 for n in reversed(range(64))]
    back = [into.at(n * 1000) for n in range(64)]
    assert engine.batch_transfer_sync_write(peer.target, mine, theirs, [1000] * 64) == 0
    number = engine.batch_transfer_async_read(peer.target, back, theirs, [1000] * 64)
    assert number > 0 and engine.get_batch_transfer_status([number]) == 0
    assert bytes(into) == bytes(source)
    assert engine.get_batch_transfer_status([number]) == -1  # answered once
    assert engine.batch_transfer_sync_write(peer.target, mine, theirs, [1000]) == -1
    note = TransferNotify("name", "message")
    assert engine.batch_transfer_sync(peer.target, mine, theirs, [1000] * 64, TransferOpcode.Write, note) == 0
    assert peer.ask("notes") == "[('name', 'message')]" and peer.ask("notes") == "[]"


def test_only_registered_memory_is_served(peer, engine):
    mine = Memory(1 << 20)
    assert engine.transfer_sync_read(peer.target, mine.ptr, peer.memory + 1, 1 << 20) == -1
    assert engine.transfer_sync_write(peer.target, mine.ptr, peer.memory - 4096, 8192) == -1
    assert engine.transfer_sync_read(peer.target, mine.ptr, (1 << 64) - 4096, 8192) == -1
    assert engine.transfer_sync_read(peer.target, 4096, peer.memory, 100) == -1  # no memory of ours
    assert engine.transfer_sync_read(peer.target, mine.ptr, peer.memory, 11) == 0
    assert bytes(mine)[:11] == b"of the peer"


def test_a_peer_that_ends(peer, engine):
    mine = Memory(100)
    assert engine.send_probe(peer.target) == 0 and engine.get_first_buffer_address(peer.target) == peer.memory
    assert engine.transfer_sync_read(peer.target, mine.ptr, peer.memory, 11) == 0
    peer.stop()
    assert engine.transfer_sync_read(peer.target, mine.ptr, peer.memory, 11) == -1
    number = engine.transfer_submit_write(peer.target, mine.ptr, peer.memory, 11)
    assert engine.get_batch_transfer_status([number]) == -1 and engine.send_probe(peer.target) == -1
    assert engine.get_first_buffer_address(peer.target) == 0


def test_names_at_a_metadata_server():
    server = http_metadata_server.serve("127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.port}/metadata"
    made = Peer("127.0.0.1", url)
    engine = TransferEngine()
    try:
        assert engine.initialize("127.0.0.1:18795", url, "tcp", "") == 0
        mine = Memory(100)
        assert engine.transfer_sync_read("127.0.0.1", mine.ptr, made.memory, 11) == 0
        assert bytes(mine)[:11] == b"of the peer"
    finally:
        engine.close()
        made.stop()
        server.close()


def test_before_and_after(engine):
    fresh = TransferEngine()
    data = Memory(100)
    assert fresh.get_rpc_port() == 0 and fresh.transfer_sync_read("x:1", data.ptr, 0, 1) == -1
    assert fresh.batch_transfer_async_write("x:1", [data.ptr], [0], [1]) == 0
    assert fresh.transfer_check_status(7) == -1 and fresh.get_notifies() == []
    assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == -1  # once
    assert engine.register_memory(8, 100) == -1 and engine.unregister_memory(data.ptr) == -1
    assert engine.batch_register_memory([data.ptr], [100]) == 0 and engine.batch_unregister_memory([data.ptr]) == 0
    address = engine.allocate_managed_buffer(100)
    assert engine.write_bytes_to_buffer(address, b"abc", 3) == 0 and engine.read_bytes_from_buffer(address, 3) == b"abc"
    assert engine.write_bytes_to_buffer(address, b"abc", 4) == -1
    assert engine.free_managed_buffer(address, 100) == 0 and engine.read_bytes_from_buffer(address, 3) == b""
    assert engine.transfer_sync_read("no port", data.ptr, 1, 1) == -1
    assert TransferEngine.TransferOpcode.Write == TransferOpcode.Write and "cpu" in engine.get_local_topology()


def test_a_large_batch(peer, engine):
    count, piece = 4096, 256
    source, into = Memory(pattern(count * piece)), Memory(count * piece)
    theirs = [peer.memory + n * piece for n in reversed(range(count))]
    assert engine.batch_transfer_sync_write(peer.target, [source.at(n * piece) for n in range(count)], theirs,
                                            [piece] * count) == 0
    assert engine.batch_transfer_sync_read(peer.target, [into.at(n * piece) for n in range(count)], theirs,
                                           [piece] * count) == 0
    assert bytes(into) == bytes(source)


def test_a_peer_that_is_killed(peer, engine):
    mine = Memory(1 << 20)
    assert engine.transfer_sync_read(peer.target, mine.ptr, peer.memory, 11) == 0
    peer.process.kill()
    peer.process.wait(30)
    # What is shared may still be read in the moment before this side has noticed.
    deadline = time.monotonic() + 30
    while engine.transfer_sync_read(peer.target, mine.ptr, peer.memory, 11) == 0:
        assert time.monotonic() < deadline
    assert engine.send_probe(peer.target) == -1
    number = engine.batch_transfer_async_write(peer.target, [mine.ptr], [peer.memory], [1 << 20])
    assert engine.get_batch_transfer_status([number]) == -1


def test_registered_again(engine):
    other = TransferEngine()
    assert other.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
    target = f"127.0.0.1:{other.get_rpc_port()}"
    theirs, mine = Memory(pattern(5000)), Memory(5001)
    assert engine.transfer_sync_read(target, mine.ptr, theirs.ptr, 5000) == -1
    for _ in range(2):
        assert other.register_memory(theirs.ptr, 5000) == 0
        assert engine.transfer_sync_read(target, mine.ptr, theirs.ptr, 5000) == 0
        assert bytes(mine)[:5000] == bytes(theirs)
        assert engine.transfer_sync_read(target, mine.ptr, theirs.ptr, 5001) == -1
        assert other.unregister_memory(theirs.ptr) == 0 and other.unregister_memory(theirs.ptr) == -1
        assert engine.transfer_sync_read(target, mine.ptr, theirs.ptr, 1) == -1
    assert engine.batch_transfer_sync_read(target, [mine.ptr], [theirs.ptr], [-1]) == -1
    other.close()


def test_tls_from_the_environment(certificates, monkeypatch):
    for name, path in certificates.files("local").items():
        monkeypatch.setenv(f"MMC_ENGINE_TLS_{name.upper()}", path)
    secured = [TransferEngine(), TransferEngine()]
    for one in secured:
        assert one.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
    for name in certificates.files("local"):
        monkeypatch.delenv(f"MMC_ENGINE_TLS_{name.upper()}")
    plain = TransferEngine()
    assert plain.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
    target = f"127.0.0.1:{secured[0].get_rpc_port()}"
    assert secured[1].send_probe(target) == 0 and plain.send_probe(target) == -1
    for one in (*secured, plain):
        one.close()


def test_vllm_peer_to_peer(peer, engine):
    """The prefiller registers its caches, and ten threads write blocks into the decoder's; later it gives them back."""
    blocks, size = 64, 4096
    layers = [Memory(pattern(blocks * size, layer)) for layer in range(4)]
    pointers, lengths = [layer.ptr for layer in layers], [layer.size for layer in layers]
    assert engine.batch_register_memory(pointers, lengths) == 0
    requests = [range(start, start + 8) for start in range(0, blocks, 8)]

    def send(request):
        source = [layer.at(block * size) for layer in layers[:4] for block in request]
        target = [peer.memory + number * blocks * size + block * size for number in range(4) for block in request]
        return engine.batch_transfer_sync_write(peer.target, source, target, [size] * len(source))

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(send, requests)) == [0] * len(requests)
    into = Memory(4 * blocks * size)
    assert engine.transfer_sync_read(peer.target, into.ptr, peer.memory, into.size) == 0
    assert bytes(into) == b"".join(bytes(layer) for layer in layers)
    assert engine.batch_unregister_memory(pointers) == 0 and engine.batch_register_memory(pointers, lengths) == 0


def test_vllm_ascend_peer_to_peer(peer):
    """One engine of the process, made when it is first needed; the decoder reads blocks of all layers."""
    engine = TransferEngine()
    assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "ascend", "npu_0") == 0
    caches = [Memory(64 << 10) for _ in range(8)]
    for cache in caches:
        assert engine.register_memory(cache.ptr, cache.size) == 0
    filled = Memory(pattern(8 << 16))
    assert engine.transfer_sync_write(peer.target, filled.ptr, peer.memory, filled.size) == 0
    source, remote, lengths = [], [], []
    for layer, cache in enumerate(caches):
        for block in (0, 3, 7, 15):
            source.append(cache.at(block * 4096))
            remote.append(peer.memory + (layer << 16) + block * 4096)
            lengths.append(4096)
    assert engine.batch_transfer_sync_read(peer.target, source, remote, lengths) == 0
    for layer, cache in enumerate(caches):
        want = bytes(filled)[layer << 16:(layer + 1) << 16]
        for block in range(16):
            got = bytes(cache)[block * 4096:(block + 1) * 4096]
            assert got == (want[block * 4096:(block + 1) * 4096] if block in (0, 3, 7, 15) else bytes(4096))
    engine.close()


def test_sglang_disaggregation(peer, engine):
    """Names of sessions, single and batched writes, probes of peers; memory registered twice is its own affair."""
    data = Memory(pattern(1 << 16))
    assert engine.register_memory(data.ptr, data.size) == 0
    assert engine.batch_register_memory([data.ptr], [data.size]) in (0, -1)
    assert engine.send_probe(peer.target) == 0
    assert engine.transfer_sync_write(peer.target, data.ptr, peer.memory, 1 << 16) == 0
    halves = ([data.ptr, data.at(1 << 15)], [peer.memory + (1 << 16), peer.memory + (3 << 15)], [1 << 15] * 2)
    assert engine.batch_transfer_sync_write(peer.target, *halves) == 0
    into = Memory(1 << 17)
    assert engine.transfer_sync_read(peer.target, into.ptr, peer.memory, 1 << 17) == 0
    assert bytes(into) == bytes(data) * 2
    assert engine.batch_unregister_memory([data.ptr]) == 0
    gone = "127.0.0.1:1"
    assert engine.send_probe(gone) < 0 and engine.batch_transfer_sync_write(gone, *halves) < 0


def test_sixteen_threads_with_all_kinds_of_calls(peer, engine):
    size = 60_000
    failed = []

    def work(number):
        base = peer.memory + number * size
        source, into = Memory(pattern(size, number)), Memory(size)
        half = size // 2
        batch = ([source.ptr, source.at(half)], [base, base + half], [half, half])
        back = ([into.ptr, into.at(half)], [base, base + half], [half, half])
        writes = [
            lambda: engine.transfer_sync_write(peer.target, source.ptr, base, size),
            lambda: engine.batch_transfer_sync_write(peer.target, *batch),
            lambda: engine.transfer_sync(peer.target, source.ptr, base, size, TransferOpcode.Write),
            lambda: engine.get_batch_transfer_status([engine.batch_transfer_async_write(peer.target, *batch)]),
            lambda: engine.get_batch_transfer_status(
                [engine.transfer_submit_write(peer.target, source.ptr, base, size)])]
        reads = [
            lambda: engine.transfer_sync_read(peer.target, into.ptr, base, size),
            lambda: engine.batch_transfer_sync(peer.target, *back, TransferOpcode.Read, TransferNotify("n", "m")),
            lambda: engine.get_batch_transfer_status([engine.batch_transfer_async(peer.target, *back,
                                                                                  TransferOpcode.Read)])]
        for turn in range(15):
            source.raw[:] = random.Random(number * 100 + turn).randbytes(size)
            own = engine.allocate_managed_buffer(4096)
            done = [engine.register_memory(source.ptr, size), writes[turn % 5](), reads[turn % 3](),
                    engine.unregister_memory(source.ptr), engine.write_bytes_to_buffer(own, b"mine", 4),
                    engine.free_managed_buffer(own, 4096), engine.send_probe(peer.target)]
            if any(done) or bytes(into) != bytes(source):
                failed.append((number, turn, done))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert not failed


@pytest.mark.parametrize("way", ["write", "read"])
def test_a_peer_that_is_killed_within_calls(peer, engine, way):
    """All threads that are at it get an answer, and none is a success that was none."""
    begun = [threading.Event() for _ in range(8)]

    def work(number):
        memory = Memory(1 << 17)
        call = engine.transfer_sync_write if way == "write" else engine.transfer_sync_read
        turns = 0
        while call(peer.target, memory.ptr, peer.memory + (number << 17), 1 << 17) == 0:
            turns += 1
            begun[number].set()
        return turns

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work, number) for number in range(8)]
        for event in begun:
            assert event.wait(30)
        peer.process.kill()
        assert all(one.result(60) > 0 for one in working)
    assert engine.send_probe(peer.target) == -1


def test_close_within_calls_and_twice(peer, engine):
    begun = threading.Event()

    def work():
        memory = Memory(1 << 20)
        while engine.transfer_sync_read(peer.target, memory.ptr, peer.memory, 1 << 20) == 0:
            begun.set()
        return engine.transfer_sync_read(peer.target, memory.ptr, peer.memory, 1 << 20)

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work) for _ in range(4)]
        assert begun.wait(30)
        engine.close()
        engine.close()
        assert [one.result(60) for one in working] == [-1] * 4


def test_wrong_kinds_of_arguments(peer, engine):
    data = Memory(100)
    with pytest.raises(TypeError):
        engine.batch_transfer_sync(peer.target, [data.ptr], [peer.memory], [10], None)  # not a write by default
    with pytest.raises(TypeError):
        engine.transfer_sync(peer.target, data.ptr, peer.memory, 10, TransferOpcode.Write, "a note")
    with pytest.raises(TypeError):
        engine.transfer_sync_write(None, data.ptr, peer.memory, 10)
    assert engine.transfer_sync(peer.target, data.ptr, peer.memory, 10, 0) == 0  # 0: Read
