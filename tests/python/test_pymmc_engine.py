"""pymmc.TransferEngine between processes: bytes, refusals, peers that stop or die, threads, fork, TLS."""
import ctypes
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

import pymmc

MB = 1 << 20

# Answers requests on its stdin, one JSON per line: [name, arguments...].
PEER = """
import ctypes, json, sys
import pymmc
options = json.loads(sys.argv[1])
engine = pymmc.TransferEngine(**options)
kept = {}
def registered(size):
    memory = ctypes.create_string_buffer(size)
    address = ctypes.addressof(memory)
    kept[address] = memory
    engine.register(address, size)
    return address
def fill(address, size, byte):
    ctypes.memset(address, byte, size)
def read(address, size):
    return ctypes.string_at(address, size).hex()
calls = {"registered": registered, "fill": fill, "read": read, "allocate": engine.allocate, "free": engine.free,
         "register": engine.register, "unregister": engine.unregister, "notes": engine.take_notes}
print(engine.port, flush=True)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    print(json.dumps(calls[name](*arguments)), flush=True)
"""


class Peer:
    """An engine in a process of its own."""

    def __init__(self, **options):
        self.folder = tempfile.TemporaryDirectory(prefix="mmc-test-")  # a killed engine leaves its socket there
        self.process = subprocess.Popen([sys.executable, "-c", PEER, json.dumps(options)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "XDG_RUNTIME_DIR": self.folder.name})
        self.target = f"127.0.0.1:{int(self.process.stdout.readline())}"

    def __getattr__(self, name):
        def call(*arguments):
            self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        return call

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.communicate(timeout=30)
        self.process.stdin.close()
        self.process.stdout.close()
        self.folder.cleanup()


@pytest.fixture(name="peer")
def peer_fixture():
    made = Peer()
    yield made
    made.stop()


@pytest.fixture(name="engine")
def engine_fixture():
    with pymmc.TransferEngine(timeout=20) as made:
        yield made


class Memory:
    def __init__(self, content):
        size = content if isinstance(content, int) else len(content)
        self.raw = (ctypes.c_char * size)()
        if not isinstance(content, int):
            self.raw[:] = content
        self.ptr = ctypes.addressof(self.raw)
        self.size = size

    def __bytes__(self):
        return bytes(self.raw)


def pattern(size, seed=0):
    return bytes((n * 31 + seed * 17 + (n >> 8)) & 0xFF for n in range(min(size, 65536))) * (size // 65536 or 1)


def code_of(call, *arguments, **options):
    """The code of the MmcError that the call raises."""
    with pytest.raises(pymmc.MmcError) as failed:
        call(*arguments, **options)
    return failed.value.code


@pytest.mark.parametrize("kind, transport", [("registered", "tcp_bytes"), ("allocate", "shm_bytes")])
def test_bytes_go_round(peer, engine, kind, transport):
    size = 8 * MB
    theirs = getattr(peer, kind)(size)
    source, back = Memory(pattern(size)), Memory(size)
    engine.write(peer.target, [source.ptr], [theirs], [size])
    engine.read(peer.target, [back.ptr], [theirs], [size])
    assert bytes(back) == bytes(source)
    assert peer.read(theirs + 1000, 16) == bytes(source)[1000:1016].hex()
    assert engine.stats == {"shm_bytes": 0, "tcp_bytes": 0, transport: 2 * size}


def test_a_large_batch_of_scattered_pieces(peer, engine):
    count, piece = 50_000, 64
    theirs = [peer.registered(count * piece // 2), peer.allocate(count * piece // 2)]
    source, back = Memory(pattern(count * piece, 3)[:count * piece].ljust(count * piece, b"x")), Memory(count * piece)
    mine = [source.ptr + n * piece for n in range(count)]
    into = [back.ptr + n * piece for n in range(count)]
    remote = [theirs[n % 2] + (count // 2 - 1 - n // 2) * piece for n in range(count)]
    engine.write(peer.target, mine, remote, [piece] * count)
    engine.wait(engine.submit_read(peer.target, into, remote, [piece] * count))
    assert bytes(back) == bytes(source)
    assert engine.stats["shm_bytes"] == engine.stats["tcp_bytes"] == count * piece


def test_out_of_range_and_registered_again(peer, engine):
    theirs = peer.registered(4096)
    mine = Memory(8192)
    assert code_of(engine.read, peer.target, [mine.ptr], [theirs], [4097]) is pymmc.Code.OUT_OF_RANGE
    assert code_of(engine.write, peer.target, [mine.ptr], [theirs - 1], [2]) is pymmc.Code.OUT_OF_RANGE
    assert code_of(engine.write, peer.target, [mine.ptr], [0], [1]) is pymmc.Code.OUT_OF_RANGE
    engine.read(peer.target, [mine.ptr], [theirs], [4096])
    peer.unregister(theirs)
    assert code_of(engine.read, peer.target, [mine.ptr], [theirs], [1]) is pymmc.Code.OUT_OF_RANGE
    peer.fill(theirs, 4096, 65)
    peer.register(theirs, 2048)
    engine.read(peer.target, [mine.ptr], [theirs], [2048])
    assert bytes(mine)[:2048] == b"A" * 2048
    assert code_of(engine.read, peer.target, [mine.ptr], [theirs], [2049]) is pymmc.Code.OUT_OF_RANGE
    peer.register(theirs, 4096)
    engine.read(peer.target, [mine.ptr], [theirs], [4096])
    assert bytes(mine)[:4096] == b"A" * 4096


@pytest.mark.parametrize("way", ["submit_read", "submit_write"])
def test_a_peer_that_dies_within_a_transfer(peer, engine, way):
    size = 64 * MB  # more than the sockets hold
    theirs = peer.registered(size)
    mine = Memory(size)
    engine.read(peer.target, [mine.ptr], [theirs], [1])
    peer.process.send_signal(signal.SIGSTOP)
    number = getattr(engine, way)(peer.target, [mine.ptr], [theirs], [size])
    assert engine.poll(number) is None
    began = time.monotonic()
    peer.kill()
    assert code_of(engine.wait, number) in (pymmc.Code.UNAVAILABLE, pymmc.Code.PEER_UNREACHABLE,
                                            pymmc.Code.UNCONFIRMED, pymmc.Code.CONNECTION_LOST)
    assert time.monotonic() - began < 15, "it ended with its deadline, not with the peer"
    assert code_of(engine.poll, number) is pymmc.Code.NOT_FOUND
    assert isinstance(pytest.raises(pymmc.MmcError, engine.first_address, peer.target).value, ConnectionError)


def test_a_peer_that_stops_ends_with_the_deadline(peer, engine):
    theirs = peer.registered(64 * MB)
    mine = Memory(64 * MB)
    engine.read(peer.target, [mine.ptr], [theirs], [1])
    peer.process.send_signal(signal.SIGSTOP)
    assert code_of(engine.write, peer.target, [mine.ptr], [theirs], [64 * MB], timeout=0.3) in (
        pymmc.Code.DEADLINE, pymmc.Code.UNCONFIRMED)
    assert code_of(engine.read, peer.target, [mine.ptr], [theirs], [64 * MB], timeout=0.3) is pymmc.Code.DEADLINE
    peer.process.send_signal(signal.SIGCONT)
    engine.read(peer.target, [mine.ptr], [theirs], [64 * MB])


def test_other_threads_run_meanwhile(peer, engine):
    """A call that waits for a peer that says nothing does not hold the interpreter."""
    theirs = peer.registered(64 * MB)
    mine = Memory(64 * MB)
    engine.read(peer.target, [mine.ptr], [theirs], [1])
    peer.process.send_signal(signal.SIGSTOP)
    ended = []
    waiting = threading.Thread(target=lambda: ended.append(
        code_of(engine.read, peer.target, [mine.ptr], [theirs], [64 * MB])))
    waiting.start()
    assert sum(range(100_000)) and not ended  # this thread has the interpreter
    peer.process.send_signal(signal.SIGKILL)
    waiting.join(15)
    assert len(ended) == 1


def test_local_memory_is_looked_at(peer, engine):
    theirs = peer.registered(8192)
    wrong = pymmc.Code.INVALID_ARGUMENT
    assert code_of(engine.read, peer.target, [4096], [theirs], [10]) is wrong
    assert code_of(engine.write, peer.target, [0], [theirs], [10]) is wrong
    assert code_of(engine.write, peer.target, [(1 << 64) - 8], [theirs], [10]) is wrong
    assert code_of(engine.read, peer.target, [1, 2], [theirs], [10]) is wrong
    assert code_of(engine.register, 4096, 100) is wrong and code_of(engine.register, 4096, 0) is wrong
    page = mmap.mmap(-1, mmap.PAGESIZE)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    engine.read(peer.target, [at], [theirs], [mmap.PAGESIZE])
    with pytest.raises(pymmc.InvalidArgumentError):
        engine.register(at, 1 << 40)  # its end is not there
    assert code_of(engine.unregister, at) is pymmc.Code.NOT_FOUND


READ_ONLY = """
import ctypes, mmap, sys
import pymmc
file = open(sys.executable, "rb")
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
page = libc.mmap(None, ctypes.c_size_t(mmap.PAGESIZE), 1, 2, file.fileno(), ctypes.c_long(0))  # PROT_READ, MAP_PRIVATE
lends, uses = pymmc.TransferEngine(), pymmc.TransferEngine()
lends.register(page, mmap.PAGESIZE)
into = ctypes.create_string_buffer(mmap.PAGESIZE)
target = f"127.0.0.1:{lends.port}"
uses.read(target, [ctypes.addressof(into)], [page], [mmap.PAGESIZE])
assert into.raw[1:4] == b"ELF"
def code(call, *arguments):
    try:
        call(*arguments)
    except pymmc.MmcError as error:
        return error.code.name
print(code(uses.write, target, [ctypes.addressof(into)], [page], [10]),   # the far side may not write there
      code(uses.read, target, [page], [page], [10]))                      # nor may this one
with pymmc.Client("local://?dram=16MB") as client:
    client.put_one("k", b"v" * 100)
    print(pymmc.Code(client.get_ptrs(["k"], [[page]], [[100]])[0][0]).name,
          pymmc.Code(client.get_ptrs(["k"], [[ctypes.addressof(into)]], [[100]])[0][0]).name,
          pymmc.Code(client.put_ptrs(["other"], [[page]], [[100]])[0]).name)
    libc.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, 3)
    print(pymmc.Code(client.get_ptrs(["k"], [[page]], [[100]])[0][0]).name)
"""


def test_read_only_memory_is_an_error_not_a_crash(run_python):
    code, out, err = run_python(READ_ONLY)
    assert (code, out.split()) == (0, ["READ_ONLY", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "OK", "OK", "OK"]), err


def test_notes_and_first_address(peer, engine):
    assert engine.first_address(peer.target) == 0
    first = peer.registered(100)
    peer.registered(100)
    assert engine.first_address(peer.target) == first
    engine.send_note(peer.target, "name", "täxt")
    assert peer.notes() == [["name", "täxt"]] and peer.notes() == []
    assert code_of(engine.send_note, peer.target, "", "x" * (MB + 1)) is pymmc.Code.TOO_LARGE


def test_options_and_states():
    with pytest.raises(TypeError, match="bogus"):
        pymmc.TransferEngine(bogus=1)
    with pytest.raises(pymmc.InvalidArgumentError, match="tcp_connections"):
        pymmc.TransferEngine(tcp_connections=0)
    with pytest.raises(pymmc.InvalidArgumentError):
        pymmc.TransferEngine("nonsense")
    made = pymmc.TransferEngine(None)
    assert not made.running and made.port == 0 and "not started" in repr(made)
    memory = Memory(100)
    made.register(memory.ptr, 100)  # before it is started
    assert code_of(made.first_address, "127.0.0.1:1") is pymmc.Code.CLOSED
    made.start()
    assert made.running and made.holds(memory.ptr, 100) and not made.holds(memory.ptr, 101)
    assert code_of(made.start) is pymmc.Code.EXISTS
    assert made.first_address(f"127.0.0.1:{made.port}") == memory.ptr  # of itself
    made.close()
    made.close()
    made.start()
    made.close()


def test_sixteen_threads(peer, engine):
    size = 100_000
    far, near = peer.registered(16 * size), peer.allocate(16 * size)
    failures = []

    def work(number):
        source, back = Memory(pattern(65536, number)), Memory(65536)
        try:
            for base in (far, near) * 5:
                engine.write(peer.target, [source.ptr], [base + number * size], [65536])
                engine.read(peer.target, [back.ptr], [base + number * size], [65536])
                assert bytes(back) == bytes(source)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_fork(engine):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            engine.port
        except pymmc.ClosedError:
            os.write(writing, b"closed")
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        assert answer.read() == b"closed"
    os.waitpid(child, 0)
    assert engine.port > 0


@pytest.mark.parametrize("end", ["", "import sys; sys.exit(3)", "raise ValueError"])
def test_the_interpreter_ends_with_live_engines(run_python, end):
    script = """
import ctypes, pymmc
engines = [pymmc.TransferEngine() for _ in range(2)]
memory = engines[0].allocate(1 << 20)
into = ctypes.create_string_buffer(1 << 20)
numbers = [engines[1].submit_read(f"127.0.0.1:{engines[0].port}", [ctypes.addressof(into)], [memory], [1 << 20])
           for _ in range(50)]
""" + end
    code, out, err = run_python(script)
    assert code == (3 if "exit" in end else 1 if end else 0) and out == "" and "Fatal" not in err


def test_under_tls(certificates):
    peer = Peer(tls=certificates.files("local"))
    try:
        theirs = peer.registered(MB)
        mine = Memory(MB)
        peer.fill(theirs, MB, 66)
        with pymmc.TransferEngine(timeout=10, tls=certificates.files("local")) as engine:
            engine.read(peer.target, [mine.ptr], [theirs], [MB])
            assert bytes(mine) == b"B" * MB
        with pymmc.TransferEngine(timeout=2) as stranger:
            assert code_of(stranger.read, peer.target, [mine.ptr], [theirs], [MB])
            assert code_of(stranger.send_note, peer.target, "", "x")
        with pytest.raises(pymmc.ConfigError, match="role"):
            pymmc.TransferEngine(tls=certificates.files("client"))
        assert peer.notes() == []
    finally:
        peer.stop()
