"""The module in its process: import, errors, closing, threads, fork, the end of the interpreter."""
import ctypes
import pickle
import random
import re
import socket
import sys
import threading

import cluster as daemons
import numpy as np
import pytest

import pymmc
from pymmc import Code, Recovery


def test_codes_and_exceptions():
    assert Code.NO_SPACE == 1002 and Code.NO_SPACE.recovery is Recovery.BACKOFF and Code.OK.meaning
    assert issubclass(pymmc.NotFoundError, LookupError) and issubclass(pymmc.DeadlineError, TimeoutError)
    error = pickle.loads(pickle.dumps(pymmc.NoSpaceError(1002, "full", "k")))
    assert (error.code, error.message, error.key, error.recovery) == (Code.NO_SPACE, "full", "k", Recovery.BACKOFF)
    assert "NO_SPACE: full" in str(error)


def test_statuses(local):
    stored, missing = local.put([("k", b"x")])[0], local.remove(["nobody"])[0]
    assert stored and stored == 0 and stored == Code.OK and stored != missing and int(missing) == 7
    assert hash(stored) == hash(local.put([("k2", b"x")])[0]) and "NOT_FOUND" in repr(missing)
    stored.raise_for_error()
    with pytest.raises(pymmc.NotFoundError) as failed:
        missing.raise_for_error("nobody")
    assert failed.value.key == "nobody" and failed.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("options", [{"bogus": 1}, {"Timeout": 1}, {"lone\udc80": 1}])
def test_unknown_options(options):
    shown = re.escape(repr(next(iter(options))))
    with pytest.raises(TypeError, match=shown):
        pymmc.Client("local://?dram=16MB", **options)
    with pytest.raises(TypeError, match=shown):
        pymmc.MetaService("tcp://127.0.0.1:0", **options)
    with pytest.raises(TypeError, match=shown):
        pymmc.LocalService("tcp://127.0.0.1:1", **options)


@pytest.mark.parametrize("options", [{"timeout": -1}, {"timeout": float("nan")}, {"tcp_connections": 0},
                                     {"async_threads": "four"}, {"name": 5}, {"contribute_dram": "1GB"},
                                     {"async_queue": -1}, {"same_host": "false"}, {"location_cache": b"0"},
                                     {"name": "\ud800"}])
def test_wrong_options(options):
    with pytest.raises(pymmc.InvalidArgumentError):
        pymmc.Client("local://?dram=16MB", **options)


@pytest.mark.parametrize("url", ["", "http://x", "local://dram", "local://?dram=0", "tcp://127.0.0.1"])
def test_wrong_urls(url):
    with pytest.raises(pymmc.MmcError) as failed:
        pymmc.Client(url, timeout=2)
    assert failed.value.code in (Code.INVALID_ARGUMENT, Code.UNAVAILABLE, Code.CONFIG)


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(pymmc.UnavailableError, match=str(taken.getsockname()[1])):
            pymmc.Client(f"tcp://127.0.0.1:{taken.getsockname()[1]}", timeout=2)


def test_sizes():
    assert [pymmc.parse_size(s) for s in ("1GB", "512 MiB", 4096, "2.5k")] == [1 << 30, 512 << 20, 4096, 2560]
    for wrong in ("", "1XB", -1):
        with pytest.raises(pymmc.InvalidArgumentError):
            pymmc.parse_size(wrong)
    with pytest.raises(TypeError):
        pymmc.parse_size(1.5)

    class Failing:
        def __index__(self):
            raise OSError("no number today")

        def __bool__(self):
            raise OSError("no truth today")

    with pytest.raises(OSError, match="number"):
        pymmc.parse_size(Failing())
    with pytest.raises(OSError, match="truth"):
        pymmc.Client("local://?dram=16MB", same_host=Failing())
    with pytest.raises(TypeError):
        pymmc._pymmc.AsyncQueue(None)


def test_close_twice_and_calls_after_it():
    client = pymmc.Client("local://?dram=16MB")
    client.put_one("k", b"x")
    client.close()
    client.close()
    assert client.closed and "closed" in repr(client)
    assert client.put({"k": b"x"}) == [Code.CLOSED]
    assert client.get(["k"]) == [None] and client.get_results(["k"])[0][0] == Code.CLOSED
    assert client.get_into([("k", bytearray(1))])[0].code == Code.CLOSED
    byte = ctypes.c_char(b"x")
    assert client.put_ptrs(["k"], [[ctypes.addressof(byte)]], [[1]]) == [Code.CLOSED]
    for call in (lambda: client.exists(["k"]), lambda: client.prefix(["k"]), lambda: client.stat(["k"]),
                 lambda: client.remove(["k"]), client.remove_all, lambda: client.remove_by_prefix("k"), client.list,
                 lambda: client.view("k"), client.cluster, lambda: client.put_one("k", b"x"),
                 lambda: client.get_one("k")):
        with pytest.raises(pymmc.ClosedError):
            call()


def test_close_wakes_callers_that_wait():
    with pymmc.Cluster.local("8MB") as cluster:
        client = cluster.client()
        client.put_one("pinned", b"x" * (7 << 20))
        view = client.view("pinned")
        answers = []
        waiting = threading.Thread(target=lambda: answers.extend(client.put([("w", b"y" * (7 << 20))], timeout=300)))
        waiting.start()
        client.close()
        waiting.join(60)
        assert not waiting.is_alive() and answers[0].code in (Code.CLOSED, Code.SESSION_LOST, Code.CANCELLED)
        view.release()


def test_services():
    with pymmc.MetaService("tcp://127.0.0.1:0", metrics_url="http://127.0.0.1:0") as meta:
        assert meta.running and meta.port and meta.url.endswith(str(meta.port)) and meta.http_port
        assert "mmc_" in meta.metrics()
        with socket.create_connection(("127.0.0.1", meta.http_port), timeout=10) as http:
            http.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert http.recv(100).startswith(b"HTTP/1.1 ")
        with pymmc.LocalService(meta.url, dram="4MB") as node:
            assert node.running and node.name and any(e.startswith("tcp ") for e in node.endpoints)
            with pymmc.Client(meta.url) as client:
                assert client.put_one("k", b"x") and client.cluster().nodes[0].name == node.name
        assert not node.running
        node.stop()
        with pytest.raises(pymmc.MmcError):
            pymmc.MetaService(meta.url)
    assert not meta.running
    with pytest.raises(pymmc.MmcError):
        pymmc.MetaService("tcp://127.0.0.1:0", evict_threshold_high=50, evict_threshold_low=60)


def test_a_meta_service_of_a_conf_file(tmp_path):
    conf = tmp_path / "meta.conf"
    conf.write_text("ock.mmc.meta_service_url = tcp://127.0.0.1:0\nock.mmc.evict_threshold_high = 70\n"
                    "ock.mmc.evict_treshold_low = 60\n", encoding="utf-8")
    settings = {"ock.mmc.meta_service.metrics_url": "", "ock.mmc.evict_threshold_low": "50",
                "ock.mmc.meta.recovery_milliseconds": "0"}
    values, warnings = pymmc.MetaService.read_conf(str(conf), settings)
    assert (values["ock.mmc.evict_threshold_high"], values["ock.mmc.evict_threshold_low"]) == ("70", "50")
    assert len(warnings) == 1 and f"{conf}:3: unknown key" in warnings[0]
    with pymmc.MetaService.from_conf(str(conf), settings) as meta, pymmc.Client(meta.url) as client:
        assert type(meta) is pymmc.MetaService and meta.running and str(meta.port) in meta.url and meta.http_port == 0
        assert (client.cluster().evict_threshold_high, client.cluster().evict_threshold_low) == (70, 50)
    for wrong in ({"ock.mmc.evict_threshold_low": "70"}, {"ock.mmc.no_such_key": "1"}):
        with pytest.raises(pymmc.ConfigError, match=next(iter(wrong))):
            pymmc.MetaService.from_conf(str(conf), wrong)
    with pytest.raises(pymmc.MmcError, match="none.conf"):
        pymmc.MetaService.read_conf(str(tmp_path / "none.conf"))


def test_access_of_a_node_is_checked():
    with pymmc.MetaService("tcp://127.0.0.1:0") as meta:
        with pytest.raises(pymmc.InvalidArgumentError, match="client_access='all': none, read and write"):
            pymmc.LocalService(meta.url, dram="4MB", client_access="all")
        with pymmc.LocalService(meta.url, dram="4MB", client_access="read", local_access="write", data_tickets=False,
                                shm_group_writes=False) as node:
            assert node.running


def test_run_meta_service():
    stop = threading.Event()
    url = f"tcp://127.0.0.1:{daemons.free_port()}"
    thread = threading.Thread(target=pymmc.run_meta_service, args=(url,), kwargs={"stop": stop})
    thread.start()
    with pymmc.Client(url, connect_retry=30) as client:
        assert client.cluster().nodes == []
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_older_names_come_from_the_drop_in_package():
    if "memcache_hybrid" not in sys.modules:
        try:
            import memcache_hybrid  # noqa: F401
        except ImportError:
            with pytest.raises(AttributeError, match="memcache_hybrid"):
                pymmc.DistributedObjectStore
            return
    assert pymmc.DistributedObjectStore is sys.modules["memcache_hybrid"].DistributedObjectStore


def test_the_gil_is_free_while_a_call_waits():
    """No thread gives the GIL away by itself here: only inside the call can the other one run and make room."""
    interval = sys.getswitchinterval()
    with pymmc.Cluster.local("8MB", lease=0.05) as cluster, cluster.client() as client, cluster.client() as other:
        client.put_one("pinned", b"x" * (7 << 20))
        view = other.view("pinned")
        gate = threading.Event()

        def make_room():
            gate.wait()
            view.release()

        thread = threading.Thread(target=make_room)
        thread.start()
        sys.setswitchinterval(1000)
        try:
            gate.set()
            status = client.put([("wanted", b"y" * (7 << 20))], timeout=60)[0]
        finally:
            sys.setswitchinterval(interval)
        assert status.ok, status
        thread.join()


def test_sixteen_threads(client, key):
    """Mixed calls on one object; every value says which key it is of."""
    failures = []

    def value_of(name):
        return np.random.default_rng(abs(hash(name)) % (1 << 32)).bytes(1000 + hash(name) % 60_000)

    def work(number):
        rng = random.Random(number)
        own = []
        try:
            for step in range(30):
                name = f"{key}/{number}/{step}"
                value = value_of(name)
                assert client.put([(name, [value[:500], np.frombuffer(value[500:], np.uint8)])])[0].ok
                own.append(name)
                pick = rng.choice(own)
                want = value_of(pick)
                assert client.get([pick, name + "/absent"]) == [want, None]
                room = bytearray(len(want))
                assert client.get_into([(pick, room)])[0].ok and bytes(room) == want
                assert client.exists([pick, name + "/absent"]) == [True, False]
                if rng.random() < 0.3:
                    gone = own.pop(rng.randrange(len(own)))
                    assert client.remove([gone])[0].ok and client.get([gone]) == [None]
                if rng.random() < 0.2:
                    client.stat(own)
                    client.cluster()
        except BaseException as failed:  # noqa: B902  (handed to the main thread)
            failures.append((number, failed))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    client.remove_by_prefix(key)


IMPORT = """
import sys, time, signal
before = {n: signal.getsignal(n) for n in range(1, 32)}
begin = time.process_time()  # of this process: what else the machine does is not its fault
import pymmc
took = time.process_time() - begin
assert not [m for m in ("asyncio", "numpy", "torch") if m in sys.modules]
client = pymmc.Client("local://?dram=16MB")
client.put_one("k", b"x")
assert {n: signal.getsignal(n) for n in range(1, 32)} == before
sys.exit(0 if took < 0.150 else f"import took {took * 1000:.0f} ms")
"""


def test_import_is_quick_and_silent(run_python):
    answers = [run_python(IMPORT) for _ in range(3)]  # the first one may read the disk
    assert (0, "", "") in answers, answers


EXITS = {
    "live objects": """
import pymmc
cluster = pymmc.Cluster.local("16MB")
client, local = cluster.client(), pymmc.Client("local://?dram=16MB")
client.put_one("k", b"x" * 100); local.put_one("k", b"x")
view = client.view("k"); memory = memoryview(view)
""",
    "a cycle": """
import pymmc
class Holder: pass
a = Holder(); a.me = a; a.client = pymmc.Client("local://?dram=16MB"); a.client.put_one("k", b"x")
a.view = a.client.view("k")
""",
    "a thread that waits": """
import threading, pymmc
cluster = pymmc.Cluster.local("8MB")
client = cluster.client()
client.put_one("pinned", b"x" * (7 << 20)); view = client.view("pinned")
started = threading.Event()
def wait():
    started.set()
    client.put([("wanted", b"y" * (7 << 20))], timeout=300)
threading.Thread(target=wait, daemon=True).start()
started.wait()
""",
    "busy threads": """
import threading, pymmc
client = pymmc.Client("local://?dram=64MB")
client.put_one("k", b"x" * (1 << 20))
def work():
    try:
        while True: client.get(["k"]); client.exists(["k"]); client.view("k")
    except pymmc.MmcError:
        pass  # closed. Python itself aborts when a daemon's thread writes a traceback while the interpreter ends
for _ in range(8): threading.Thread(target=work, daemon=True).start()
""",
    "asyncio under way": """
import asyncio, pymmc
async def main():
    client = await pymmc.AsyncClient("local://?dram=64MB").connect()
    for i in range(100): asyncio.ensure_future(client.put_one(f"k{i}", b"x" * 100000))
    await asyncio.sleep(0)
    keep.append(client)
keep = []
asyncio.run(main())
""",
    "an exception": """
import pymmc, sys
client = pymmc.Client("local://?dram=16MB")
sys.exit(0)
""",
}


@pytest.mark.parametrize("name", list(EXITS))
def test_the_interpreter_ends_with(name, run_python):
    code, out, err = run_python(EXITS[name])
    assert (code, out) == (0, ""), err
    assert "Fatal" not in err and "terminate" not in err, err


FORK = """
import os, sys, pymmc
cluster = pymmc.Cluster.local("16MB")
client = cluster.client()
client.put_one("k", b"x"); view = client.view("k")
child = os.fork()
if child == 0:
    failed = 0
    for call in (lambda: client.get(["k"]), lambda: client.put({"q": b"x"}), lambda: client.exists(["k"])):
        try: call()
        except pymmc.ClosedError: failed += 1
    client.close(); view.release()
    mine = pymmc.Client(cluster.meta_url)
    ok = failed == 3 and mine.get_one("k") == b"x" and bytes(mine.view("k")) == b"x"
    sys.exit(7 if ok else 8)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
assert client.get_one("k") == b"x" and client.stat(["k"])[0].pins >= 1 and bytes(view) == b"x"
"""


def test_fork(run_python):
    assert run_python(FORK) == (0, "", "")


def test_daemons_that_are_killed_in_the_middle_of_calls(key):
    """Calls under way answer a code for each key or raise an MmcError; what is read is whole."""
    made = daemons.Cluster()
    try:
        made.start(nodes=2, dram="64MB")
        client = pymmc.Client(made.meta.url, timeout=30, integrity="verify")
        values = {f"{key}/{n}": random.Random(n).randbytes(300_000) for n in range(40)}
        assert all(client.put(values))
        killed, gone, wrong, calls = threading.Event(), threading.Event(), [], [0] * 4

        def work(number):
            while not gone.is_set() or calls[number] == 0:
                try:
                    got = client.get(list(values), timeout=2)
                    wrong.extend(k for k, v in zip(values, got) if v is not None and v != values[k])
                    client.put({f"{key}/{number}/{calls[number]}": b"x" * 100_000}, timeout=2)
                except pymmc.MmcError:
                    pass
                calls[number] += 1
                if not killed.is_set() and calls[number] > 2:
                    killed.set()

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        assert killed.wait(60)
        made.locals[0].kill()
        made.meta.kill()
        gone.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads) and not wrong
        with pytest.raises(pymmc.MmcError):
            client.exists([key], timeout=0.5)
        client.close()
        client.close()
    finally:
        made.cleanup()
