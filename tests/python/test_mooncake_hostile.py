"""mooncake.store and mooncake.engine under use that nobody means: wrong types, threads, fork, ends, killed nodes."""
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mooncake_support import (Master, Memory, address, daemons, environment, key, master, own,  # noqa: F401
                              pattern, set_up, store)
from mooncake.engine import TransferEngine
from mooncake.store import MooncakeDistributedStore

# A value that fits, by the name of the parameter.
FITS = {
    "key": "k", "keys": ["k", "l"], "base_keys": ["k", "l"], "all_keys": [["k"]], "value": b"v",
    "values": [b"v", b"w"], "parts": b"part", "config": None, "size": 64, "sizes": [64, 64], "all_sizes": [[64], [64]],
    "force": False, "regex_pattern": "^k$", "segment_name": "127.0.0.1:1", "task_id": (0, 0), "targets": None,
    "target": None, "source": "s", "tensor": b"t", "tensors_list": [b"t", b"u"], "tp_rank": 0, "tp_size": 1,
    "split_dim": 0,
    "parallelism": None, "parallelisms": None, "writer_partition": None, "writer_partitions": None, "file_name": "",
    "path": "/nowhere", "offset": 0, "protocol": "tcp", "location": "", "segment_ids": ["no"],
    "grace_period_seconds": 0, "metadata_size": 8, "all_dst_offsets": [[[0]]], "all_src_offsets": [[[0]]],
    "prefer_alloc_in_same_node": False,
    # Of the engine.
    "target_hostname": "127.0.0.1:1", "length": 64, "lengths": [64, 64], "capacity": 64, "capacities": [64, 64],
    "opcode": 0, "notify": None, "transport_hint": "", "batch_id": 7, "batch_ids": [7], "data": b"v" * 64,
    "segment": "127.0.0.1:1", "peer_server_name": "127.0.0.1:1", "device_name": None,
}
LIFECYCLE = {"setup", "setup_dummy", "init_all", "close", "initialize", "initialize_ext", "get_engine"}


def calls(made, memory):
    """(name, method, [value that fits per parameter], its names) of every public method."""
    at = {"buffer_ptr": memory, "metadata_buffer_ptr": memory, "buffer_ptrs": [memory] * 2, "addr": memory,
          "addrs": [memory], "all_buffer_ptrs": [[memory]] * 2, "buffer": memory, "buffers": [memory] * 2,
          "peer_buffer_address": memory, "peer_buffer_addresses": [memory] * 2, "buffer_addr": memory,
          "buffer_addresses": [memory] * 2}
    for name, method in inspect.getmembers(made, callable):
        if name.startswith("_") or name in LIFECYCLE or inspect.isclass(method):
            continue
        names = list(inspect.signature(method).parameters)
        fits = [at[one] if one in at else FITS[one] for one in names]
        if name.endswith("_ascend"):
            fits[names.index("sizes")] = [64]
        if "all_keys" in names:
            fits[names.index("buffer_ptrs")], fits[names.index("all_sizes")] = [memory], [[[64]]]
        if name.endswith("buffer_ranges"):
            fits[-1] = [[0], [0]]
        yield name, method, fits, names


def by_kind(method, fits):
    """Arguments by position, but those that only have a name."""
    parameters = list(inspect.signature(method).parameters.values())
    named = {p.name: value for p, value in zip(parameters, fits) if p.kind is p.KEYWORD_ONLY}
    return method(*(value for p, value in zip(parameters, fits) if p.kind is not p.KEYWORD_ONLY), **named)


def flat(answer):
    if isinstance(answer, dict):
        answer = list(answer.values())
    return [one for part in answer for one in flat(part)] if isinstance(answer, (list, tuple)) else [answer]


def test_every_call_before_setup():
    """An answer of the kind that the call gives, and no success."""
    memory = Memory(64)
    other_answers = {"mount_segment", "allocate_and_mount_segment", "alloc_from_mem_pool", "transfer_stats",
                     "health_check", "create_copy_task", "create_move_task", "query_task"}
    seen = 0
    for name, method, fits, _ in calls(MooncakeDistributedStore(), memory.ptr):
        if name in other_answers or name == "load_tensor_from_safetensor":
            continue
        got = by_kind(method, fits)
        asks = name.startswith(("get", "batch_get", "is_exist", "batch_is_exist"))
        assert all(asks and one in (None, b"", "", 0) or one < 0 for one in flat(got)), (name, got)
        seen += 1
    assert seen > 70


def test_every_call_of_an_engine_before_initialize():
    memory = Memory(64)
    for name, method, fits, _ in calls(TransferEngine(), memory.ptr):
        got = by_kind(method, fits)
        answers_nothing = ([], b"", 0, -1, None)
        assert got in answers_nothing or name in ("allocate_managed_buffer", "get_local_topology"), (name, got)


# Arguments that fit nothing, in a process of their own: each call answers, or raises TypeError.
WRONG = """
import faulthandler, json, os, sys, time
faulthandler.enable()
sys.path.insert(0, {folder!r})
import numpy as np
import test_mooncake_hostile as test
from mooncake.engine import TransferEngine
from mooncake.store import MooncakeDistributedStore, ReplicateConfig
os.environ["MMC_PUT_WAIT_SECONDS"] = "0.2"
kind = {kind!r}
if kind == "store":
    made = MooncakeDistributedStore()
    assert made.setup("127.0.0.1", "", 16 << 20, 0, "tcp", "", {address!r}) == 0
else:
    made = TransferEngine()
    assert made.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
memory = test.Memory(4096)
config = ReplicateConfig()
config.replica_num = "many"
def wrong():
    return [None, 1.5, float("nan"), -1, 0, 1 << 63, 1 << 64, True, "text", "nul\\0", "\\ud800", "x" * 5000, b"bytes",
            b"\\xff", [], (), {{}}, [None], [[None]], [1.5], [-1], [[-1]], [8], [[8]], [1 << 64], [[1 << 64]],
            ["\\ud800", ""], [["\\0"]], [b"", b"\\0"], [["k"], ["l"]], [[[0]]], [[[-1]]],
            (one for one in ("k", "l")), object(), range(3),
            np.int64(7), np.uint64(2**63), np.float32(1), np.arange(12)[::2], np.arange(6.0).reshape(2, 3).T,
            np.array(["k", "l"]), np.array([], dtype=np.int64), np.array([memory.ptr] * 2), memoryview(b"abcd")[::2],
            config, lambda: None, print, ...]
count = bad = 0
for name, method, fits, names in test.calls(made, memory.ptr):
    if name == "load_tensor_from_safetensor":
        continue
    for at in range(len(fits)):
        for value in wrong():
            given = list(fits)
            given[at] = value
            began = time.monotonic()
            try:
                test.by_kind(method, given)
            except TypeError:
                pass
            except BaseException as error:
                # What is said of parts that are no bytes, and what numpy says of an array in place of a number.
                expected = isinstance(error, RuntimeError) and name in ("put_parts", "upsert_parts")
                if not expected and not (isinstance(error, ValueError) and "truth value of an array" in str(error)):
                    bad += 1
                    print(name, names[at], repr(value)[:60], repr(error)[:200])
            if time.monotonic() - began > 8:
                bad += 1
                print(name, names[at], repr(value)[:60], "took", time.monotonic() - began)
            count += 1
if kind == "store":
    assert made.remove_all(True) >= 0 and made.put("k", b"still alive") == 0 and made.get("k") == b"still alive"
assert made.close() in (0, None)
print(count, bad)
"""


@pytest.mark.parametrize("kind", ["store", "engine"])
def test_arguments_that_fit_nothing(master, kind):
    pytest.importorskip("numpy")
    script = WRONG.format(folder=os.path.dirname(__file__), kind=kind, address=master.address)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240,
                          env=environment(), check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    count, bad = map(int, done.stdout.split()[-2:])
    assert count > 1000 and bad == 0, done.stdout[-4000:]


def test_arguments_that_call_back(store, key):
    """A number that closes the store, and a list that changes while it is read."""
    store.put(key, b"abcd")
    data = Memory(b"abcd")
    pointers = [data.ptr, data.ptr]

    class Shortens:
        def __index__(self):
            pointers.clear()
            return data.ptr

    pointers[0] = Shortens()
    assert store.batch_put_from_multi_buffers([key + "1"], [pointers], [[2, 2]]) == [-600] and not pointers
    pointers[:] = [Shortens(), data.ptr]
    assert store.batch_get_into_multi_buffers([key], [pointers], [[2, 2]]) == [-600] and not pointers

    class Closes:
        def __index__(self):
            assert store.close() == 0
            return data.ptr

        def __add__(self, other):
            return data.ptr + other

    assert store.batch_get_into([key], [Closes()], [4])[0] < 0
    assert store.get(key) == b"" and store.put(key, b"x") == -600


def mixed(store, base, number):
    """All kinds of calls on keys of this thread's own; what they read is checked."""
    rng = random.Random(number)
    memory, into = Memory(1 << 17), Memory(1 << 17)
    for turn in range(25):
        name, size = f"{base}/{number}/{turn}", rng.randrange(1, 100_000)
        value = rng.randbytes(size)
        memory.raw[:size] = value
        half = size // 2
        put = rng.choice([
            lambda: store.put(name, value), lambda: store.put_batch([name], [value]),
            lambda: store.put_parts(name, value[:half], value[half:]),
            lambda: store.upsert(name, value), lambda: store.put_from(name, memory.ptr, size),
            lambda: store.batch_put_from([name], [memory.ptr], [size])[0],
            lambda: store.batch_put_from_multi_buffers([name], [[memory.ptr, memory.at(half)]],
                                                       [[half, size - half]])[0],
            lambda: [store.batch_put_session_start([name], [size]), store.batch_put_from_multi_buffer_ranges(
                [name], [[memory.ptr]], [[size]], [[0]]), store.batch_put_session_end([name])[0]][-1]])
        assert put() == 0
        assert store.batch_is_exist([name, name + "-"]) == [1, 0] and store.get_size(name) == size
        assert store.get(name) == value and bytes(store.get_buffer(name)) == value
        assert store.get_into(name, into.ptr, 1 << 17) == size and bytes(into)[:size] == value
        start = rng.randrange(size)
        rest = size - start
        assert store.get_into_ranges([into.ptr], [[name]], [[[0]]], [[[start]]], [[[rest]]]) == [[[rest]]]
        assert bytes(into)[:rest] == value[start:]
        assert len(store.batch_get_replica_desc([name])[name]) == 1
        if turn % 3:
            gone = rng.choice([lambda: store.remove(name, True), lambda: store.batch_remove([name], True)[0],
                               lambda: store.remove_by_regex(f"^(?:{name})$", True) - 1])
            assert gone() == 0 and store.is_exist(name) == 0
    return number


def test_sixteen_threads_with_all_kinds_of_calls(address, key):
    made = set_up(address, 64 << 20)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda number: mixed(made, key, number), range(16))) == list(range(16))
    assert made.close() == 0


def test_close_while_sixteen_threads_call(address, key):
    made = set_up(address, 16 << 20)
    begun = threading.Barrier(17)

    def work(number):
        value, turn = pattern(20_000, number), 0
        begun.wait(30)
        while made.put(f"{key}/{number}/{turn}", value) == 0:
            assert made.get(f"{key}/{number}/{turn}") in (value, b"")
            turn += 1
        return made.put(f"{key}/{number}", value)

    with ThreadPoolExecutor(16) as pool:
        working = [pool.submit(work, number) for number in range(16)]
        begun.wait(30)
        assert made.close() == 0 and made.close() == 0
        assert [one.result(60) for one in working] == [-600] * 16


ENDS = {
    "with live objects": "",
    "by an exit code": "sys.exit(3)",
    "by an exception": "raise ValueError",
    "while threads call": """
def work():
    while True:
        s.put('x', b'y' * 100000); s.get('x'); s.remove('x', True)
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
while s.is_exist('x') == 0: pass
""",
    "while setup waits": """
late = MooncakeDistributedStore()
begun = threading.Event()
def join():
    begun.set()
    late.setup('127.0.0.1', '', 0, 0, 'tcp', '', '127.0.0.1:9')
threading.Thread(target=join, daemon=True).start()
begun.wait()
""",
    "closed twice": "assert s.close() == 0 and s.close() == 0 and e.close() is None and e.close() is None",
}


@pytest.mark.parametrize("end", list(ENDS))
def test_the_interpreter_ends(master, end):
    script = f"""
import faulthandler, os, sys, threading
faulthandler.enable()
os.environ["MMC_SETUP_WAIT_SECONDS"] = "1"
from mooncake import BufferPool
from mooncake.engine import TransferEngine
from mooncake.store import MooncakeDistributedStore, MooncakeHostMemAllocator, ReplicateConfig
s = MooncakeDistributedStore()
assert s.setup('127.0.0.1', '', 8 << 20, 0, 'tcp', '', {master.address!r}) == 0
pinned = ReplicateConfig()
pinned.with_hard_pin = True
assert s.put('pinned', b'x' * 5000, pinned) == 0
handle = s.get_buffer('pinned')
pool = BufferPool(s, alignment=4096)
lease = pool.acquire(100000)
view = lease.buffer
assert s.batch_put_session_start(['open'], [100]) == [0]
e = TransferEngine()
assert e.initialize('127.0.0.1', 'P2PHANDSHAKE', 'tcp', '') == 0
managed = e.allocate_managed_buffer(1 << 20)
number = e.batch_transfer_async_write(f'127.0.0.1:{{e.get_rpc_port()}}', [managed], [managed], [1 << 20])
{ENDS[end]}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
                          env=environment(), check=False)
    assert done.returncode == {"by an exit code": 3, "by an exception": 1}.get(end, 0), done.stderr
    assert done.stdout == "" and "Fatal" not in done.stderr
    assert (done.stderr == "") == (end != "by an exception"), done.stderr


FORK = """
import faulthandler, os, signal, sys, threading
faulthandler.enable()
from mooncake.engine import TransferEngine
from mooncake.store import MooncakeDistributedStore
def joined(address):
    s = MooncakeDistributedStore()
    assert s.setup('127.0.0.1', '', 4 << 20, 0, 'tcp', '', address) == 0
    return s
s = joined({address!r})
assert s.put({key!r}, b'x') == 0
e = TransferEngine()
assert e.initialize('127.0.0.1', 'P2PHANDSHAKE', 'tcp', '') == 0
managed = e.allocate_managed_buffer(100)
number = e.batch_transfer_async_write('127.0.0.1:%d' % e.get_rpc_port(), [managed], [managed], [100])
os.environ["MMC_SETUP_WAIT_SECONDS"] = "3"
late, begun = MooncakeDistributedStore(), threading.Event()
def wait():
    late.setup('127.0.0.1', '', 0, 0, 'tcp', '', '127.0.0.1:9')
waiting = threading.Thread(target=wait)
waiting.start()
while not late._lock.locked(): pass
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    assert late.close() == 0  # its lock is held by a thread that is not here
    assert s.is_exist({key!r}) == 0 and s.get({key!r}) == b'' and s.put('k', b'x') < 0
    assert s.unmount_segment([s.get_hostname()]) in (0, -101) and s.close() == 0
    assert e.get_rpc_port() == 0 and e.get_notifies() == [] and e.transfer_check_status(number) == -1
    assert e.register_memory(managed, 100) == -1 and e.read_bytes_from_buffer(managed, 4) == b''
    assert e.write_bytes_to_buffer(managed, b'1234', 4) == -1 and e.allocate_managed_buffer(10) == 0
    assert e.transfer_sync_write('127.0.0.1:1', managed, managed, 4) == -1 and e.send_probe('127.0.0.1:1') == -1
    assert e.get_batch_transfer_status([number]) == -1
    e.close()
    again = joined({address!r})  # a store of its own
    assert again.get({key!r}) == b'x' and again.close() == 0
    mine = TransferEngine()
    assert mine.initialize('127.0.0.1', 'P2PHANDSHAKE', 'tcp', '') == 0
    mine.close()
    os._exit(0)
_, status = os.waitpid(pid, 0)
assert status == 0, status
assert s.get({key!r}) == b'x' and s.close() == 0 and e.get_batch_transfer_status([number]) == 0
waiting.join()
e.close()
"""


def test_fork(master, key):
    done = subprocess.run([sys.executable, "-c", FORK.format(address=master.address, key=key)], capture_output=True,
                          text=True, timeout=90, env=environment(), check=False)
    assert done.returncode == 0, done.stderr


LENDER = """
import sys
from mooncake.store import MooncakeDistributedStore
s = MooncakeDistributedStore()
assert s.setup('127.0.0.1', '', 64 << 20, 0, 'tcp', '', sys.argv[1]) == 0
print(s.get_hostname(), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("same_host", ["1", "0"])
def test_a_node_is_killed_within_calls(monkeypatch, same_host):
    """Values come back whole or not at all, and every code is one that clients take for a miss or a full pool."""
    monkeypatch.setenv("MMC_SAME_HOST", same_host)
    monkeypatch.setenv("MMC_PUT_WAIT_SECONDS", "0.5")
    made = Master()
    lender = subprocess.Popen([sys.executable, "-c", LENDER, made.address], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert lender.stdout.readline()
        joined = set_up(made.address, 0)
        killed = threading.Event()
        codes, rounds = set(), []

        def work(number):
            size, turn = 1 << 20, 0
            memory, into = Memory(pattern(size, number)), Memory(size)
            while True:
                name = f"{number}/{turn % 4}"
                stored = joined.batch_put_from([name], [memory.ptr], [size])[0]
                got = joined.batch_get_into([name], [into.ptr], [size])[0]
                assert got < 0 or (got == size and bytes(into) == bytes(memory))
                assert joined.is_exist(name) in (0, 1)
                joined.remove(name, True)
                codes.update(code for code in (stored, got) if code < 0)
                turn += 1
                rounds.append(number)
                if killed.is_set() and (stored < 0 or got < 0):
                    return

        with ThreadPoolExecutor(4) as pool:
            working = [pool.submit(work, number) for number in range(4)]
            daemons.eventually(lambda: len(set(rounds)) == 4, "all threads at work")
            lender.send_signal(signal.SIGKILL)
            lender.wait(30)
            killed.set()
            for one in working:
                one.result(120)
        assert codes <= {-200, -702, -704, -900, -901}, codes
        assert joined.close() == 0
    finally:
        lender.kill()
        lender.communicate(timeout=30)
        made.stop()


def test_a_master_that_is_started_again():
    """The store goes on with what its process still holds."""
    made = Master()
    joined = set_up(made.address, 16 << 20)
    assert joined.put("before", pattern(5000)) == 0
    # A put is in the node's catalog a moment after its success.
    daemons.eventually(lambda: "\nmmc_meta_catalog_queue_records 0\n" in made.get("/metrics")[2], "an empty queue")
    made.process.kill()
    made.process.wait(30)
    assert joined.is_exist("before") == 0 and joined.put("meanwhile", b"x") < 0
    again = Master("--rpc_port", made.rpc_port)
    try:
        daemons.eventually(lambda: joined.is_exist("before") == 1, "the value from before")
        assert joined.get("before") == pattern(5000)
        daemons.eventually(lambda: joined.put("after", b"x") == 0, "a put")
        assert joined.close() == 0
    finally:
        again.stop()
        made.stop()


def test_two_tenants_see_nothing_of_each_other(master, key):
    one, other, nobody = (MooncakeDistributedStore() for _ in range(3))
    assert one.setup("127.0.0.1", "", 8 << 20, 0, "tcp", "", master.address, tenant_id="one") == 0
    assert other.setup({"local_hostname": "127.0.0.1", "metadata_server": "", "global_segment_size": 0,
                        "master_server_addr": master.address, "tenant_id": "other"}) == 0
    assert nobody.setup("127.0.0.1", "", 0, 0, "tcp", "", master.address) == 0
    assert one.put(key, b"of one") == 0 and other.put(key, b"of the other") == 0 and nobody.is_exist(key) == 0
    assert one.get(key) == b"of one" and other.get(key) == b"of the other"
    url = "/api/v1/remove_all?force=true&tenant_id="
    assert json.loads(master.get(url + "other", "POST", b"")[2])["removed_count"] == 1
    assert one.is_exist(key) == 1 and other.is_exist(key) == 0
    assert master.get(url + "not%20a%20name", "POST", b"")[0] == 400
    assert one.remove_all(force=True) == 1
    wrong = MooncakeDistributedStore()
    assert wrong.setup("127.0.0.1", "", 0, 0, "tcp", "", master.address, tenant_id="not a name") == -1
    assert wrong.put(key, b"x") == -600
    for store_ in (one, other, nobody):
        assert store_.close() == 0
