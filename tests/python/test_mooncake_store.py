"""Calls of mooncake.store beside those that the rules and clients cover."""
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mooncake_support import (Master, Memory, address, daemons, environment, http, key, master, own,  # noqa: F401
                              pattern, set_up, store)
from mooncake import BufferPool, RegisteredBufferPool
from mooncake import store as module
from mooncake.mooncake_config import MooncakeConfig
from mooncake.store import MooncakeDistributedStore, ReplicateConfig, SoftPinAction


def test_put_of_nothing(store, key):
    assert store.put(key, b"") == -600
    assert store.put_parts(key, b"", b"") == 0 and store.put_from(key, Memory(8).ptr, 0) == 0
    assert store.is_exist(key) == 0
    with pytest.raises(TypeError):
        store.put(key, "text")
    with pytest.raises(TypeError):
        store.put(key=key, value=b"x", unknown=1)
    for part in (memoryview(bytes(16)).cast("B", (4, 4)), memoryview(bytes(16)).cast("I")):
        with pytest.raises(RuntimeError):
            store.put_parts(key, part)
    with pytest.raises(TypeError):
        store.put(key, b"x", {"replica_num": 1})


def test_put_batch(store, key):
    assert store.put_batch([key + "1", key + "2"], [b"1", bytearray(b"2")]) == 0
    assert store.put_batch([key + "3", "", key + "4"], [b"3", b"x", b"4"]) == -600
    assert store.put_batch([key], []) == -600
    assert store.get_batch([key + "1", key + "2", key + "3", key + "4", key]) == [b"1", b"2", b"3", b"4", b""]
    assert store.put_batch([""] * 20_000, [b"x"] * 20_000) == -600 and store.put_batch([], []) == 0
    assert store.put_batch([key + "1"] * 20_000, [b"x"] * 20_000) == 0 and store.get(key + "1") == b"1"


def test_put_from_with_metadata(store, key):
    head, data = Memory(b"head"), Memory(b"data!")
    assert store.put_from_with_metadata(key, data.ptr, head.ptr, 5, 4) == 0
    assert store.get(key) == b"headdata!"


def test_replicas(own):
    made, first = own
    config = ReplicateConfig()
    config.replica_num = 3
    assert first.put("one node", b"x", config) == 0  # as many as there are nodes
    assert len(first.get_replica_desc("one node")) == 1
    others = [set_up(made.address, 8 << 20) for _ in range(2)]
    assert first.put("three nodes", b"x", config) == 0
    replicas = first.get_replica_desc("three nodes")
    assert {one.get_memory_descriptor().buffer_descriptor.transport_endpoint for one in replicas} == {
        one.get_hostname() for one in (first, *others)}
    config.replica_num = 0
    assert first.put("none", b"x", config) == -600
    for one in others:
        one.close()


def test_hard_pins_stay(own):
    _, joined = own
    pinned = ReplicateConfig()
    pinned.with_hard_pin = True
    assert joined.put("pinned", pattern(1 << 20), pinned) == 0
    assert [joined.put(f"k{n}", bytes(1 << 20)) for n in range(120)] == [0] * 120
    assert joined.is_exist("k0") == 0
    assert joined.get("pinned") == pattern(1 << 20)
    assert joined.remove("pinned", True) == 0 and joined.is_exist("pinned") == 0


def test_a_pool_of_hard_pins_is_full(own, monkeypatch):
    """Whoever put them has left: they stay until they are removed."""
    made, _ = own
    monkeypatch.setenv("MMC_PUT_WAIT_SECONDS", "0.2")
    pinned = ReplicateConfig()
    pinned.with_hard_pin = True
    writer, other = (set_up(made.address, 0) for _ in range(2))
    stored = 0
    while stored < 200 and (code := writer.put(f"p{stored}", bytes(1 << 20), pinned)) == 0:
        stored += 1
    assert code == -200 and stored > 20
    writer.close()
    assert other.put("more", bytes(1 << 20)) == -200
    assert sum(other.batch_is_exist([f"p{n}" for n in range(1, stored)])) == stored - 1
    assert other.remove("p0", True) == 0
    monkeypatch.undo()
    patient = set_up(made.address, 0)
    assert patient.put("more", bytes(1 << 20)) == 0
    assert other.close() == patient.close() == 0


def test_soft_pins_outlive_others(own):
    made, joined = own
    soft = ReplicateConfig()
    soft.with_soft_pin = True
    brief = ReplicateConfig()
    brief.soft_pin_action = SoftPinAction.ENABLE
    brief.soft_pin_ttl_ms = 1
    assert [joined.put(f"s{n}", pattern(1 << 20), soft) for n in range(4)] == [0] * 4
    assert joined.put("brief", pattern(1 << 20), brief) == 0
    assert [joined.put(f"k{n}", bytes(1 << 20)) for n in range(120)] == [0] * 120
    assert joined.is_exist("k0") == 0
    assert [joined.get(f"s{n}") for n in range(4)] == [pattern(1 << 20)] * 4
    assert "master_soft_pin_key_count 4" in made.get("/metrics")[2]
    assert "(soft-pinned: 4)" in made.get("/metrics/summary")[2]


def test_groups_go_together(own):
    _, joined = own
    config = ReplicateConfig()
    memory = Memory(1 << 20)
    keys = [f"g{n}" for n in range(4)]
    config.group_ids = ["a", "b", "a", "b"]
    assert joined.batch_put_from(keys, [memory.ptr] * 4, [memory.size] * 4, config) == [0] * 4
    config.group_ids = ["a"]
    assert joined.put_batch(["g4", "g5"], [b"1", b"2"], config) == 0  # one name: of all keys
    config.group_ids = ["a", "b"]
    assert joined.batch_put_from(keys, [memory.ptr] * 4, [memory.size] * 4, config) == [-600] * 4
    assert joined.remove_all(True) == 6
    config.group_ids = ["c"]
    assert joined.put("old", bytes(1 << 20), config) == 0
    assert [joined.put(f"k{n}", bytes(1 << 20)) for n in range(12)] == [0] * 12
    assert joined.put("young", bytes(1 << 20), config) == 0
    assert [joined.put(f"k{n}", bytes(1 << 20)) for n in range(12, 36)] == [0] * 24
    assert joined.batch_is_exist(["old", "young", "k11"]) == [0, 0, 1]


def test_upsert(store, key):
    data = Memory(b"from memory")
    assert store.upsert(key, b"new") == 0 and store.get(key) == b"new"
    assert store.upsert(key, b"newer") == 0 and store.get(key) == b"newer"
    assert store.upsert_parts(key, b"a", b"b") == 0 and store.get(key) == b"ab"
    assert store.upsert_from(key, data.ptr, data.size) == 0 and store.get(key) == b"from memory"
    assert store.upsert_batch([key, key + "2"], [b"1", b"2"]) == 0
    assert store.batch_upsert_from([key, key + "2"], [data.ptr, 8], [4, 4]) == [0, -600]
    assert store.get_batch([key, key + "2"]) == [b"from", b"2"]
    config = ReplicateConfig()
    config.replica_num = 0
    # What cannot be stored does not cost the old value.
    for value, how in ((b"", None), (memoryview(b"abcd")[::2], None), (b"x", config)):
        assert store.upsert(key, value, how) == -600
    assert store.upsert_from(key, data.ptr, -1) == store.upsert_from(key, data.ptr, (1 << 30) + 1) == -600
    assert store.upsert_from(key, data.ptr, 0) == store.upsert_parts(key, b"", b"") == 0
    numbered, elsewhere = ReplicateConfig(), ReplicateConfig()
    numbered.group_ids, elsewhere.preferred_segments = [5], [None, 5]
    for wrong in ((key, "text"), (key, b"x", "config"), (key, b"x", numbered), (key, b"x", elsewhere)):
        with pytest.raises(TypeError):
            store.upsert(*wrong)
    assert store.get(key) == b"from"
    config = ReplicateConfig()
    config.soft_pin_ttl_ms = 1000
    assert store.upsert(key, b"x", config) == -600
    config.soft_pin_action = SoftPinAction.ENABLE
    assert store.upsert(key, b"x", config) == 0


def test_remove(store, key):
    assert store.remove(key) == -704
    store.put(key, b"x")
    assert store.remove(key) == 0  # nobody has read it
    store.put(key, b"x")
    assert store.is_exist(key) == 1
    assert store.remove(key) == -706 and store.is_exist(key) == 1
    assert store.remove(key, force=True) == 0
    store.put_batch([key + "1", key + "2"], [b"1", b"2"])
    store.get(key + "1")
    assert store.batch_remove([key + "1", key + "2", key + "3", ""]) == [-706, 0, -704, -600]
    assert store.batch_remove([key + "1"], True) == [0]


def test_remove_all_leaves_what_is_read(own):
    _, joined = own
    joined.put_batch(["a", "b", "c"], [b"1", b"2", b"3"])
    joined.get("a")
    assert joined.remove_all() == 2 and joined.batch_is_exist(["a", "b", "c"]) == [1, 0, 0]
    assert joined.remove_all(force=True) == 1


def test_batch_replica_clear(own):
    _, joined = own
    joined.put_batch(["a", "b", "c"], [b"1", b"2", b"3"])
    joined.get("a")
    assert joined.batch_replica_clear(["a", "b", "no"]) == ["b"]
    assert joined.batch_replica_clear(["c"], "another segment") == []
    assert joined.batch_replica_clear(["c"], joined.get_hostname()) == ["c"]


def test_ranges(store, key):
    store.put(key, pattern(1000))
    first, second = Memory(300), Memory(300)
    got = store.get_into_ranges([first.ptr, second.ptr], [[key, key + "no"], [key]],
                                [[[0, 100], [0]], [[50]]], [[[0, 900], [0]], [[500]]], [[[100, 200], [10]], [[20]]])
    assert got == [[[100, 100], [-704]], [[20]]]
    assert bytes(first)[:200] == pattern(1000)[:100] + pattern(1000)[900:]
    assert bytes(second)[50:70] == pattern(1000)[500:520]
    assert store.get_into_ranges([first.ptr], [[key]], [[[0]]], [[[1000]]], [[[1]]]) == [[[-600]]]
    assert store.get_into_ranges([first.ptr], [[key]], [[[0, 1]]], [[[0]]], [[[1]]]) == [[[-600]]]
    assert store.get_into_ranges([first.at(8)], [[key]], [[[-8, 0]]], [[[0, 0]]], [[[1, 1]]]) == [[[-600, 1]]]
    assert store.get_into_ranges([first.ptr], [[key, key]], [[[0], [0]]], [[[0], [0]]], [[[1]]]) == [[[-600]]]
    assert store.get_into_ranges([first.ptr], [[key]] * 2, [[[0]]] * 2, [[[0]]] * 2, [[[1]]] * 2) == [[[-600]]] * 2
    assert store.get_into_ranges([], [], [], [], []) == []


def test_sessions(store, key):
    source, into = Memory(pattern(3000)), Memory(3000)
    assert store.batch_put_session_start([key], [3000]) == [0]
    assert store.batch_put_session_start([key], [3000]) == [-600]
    for start in (2000, 0, 1000):
        assert store.batch_put_from_multi_buffer_ranges([key], [[source.at(start)]], [[1000]], [[start]]) == [1000]
    assert store.batch_put_from_multi_buffer_ranges([key], [[source.ptr]], [[1000]], [[2001]]) == [-600]
    assert store.is_exist(key) == 0
    assert store.batch_put_session_end([key]) == [0] and store.batch_put_session_end([key]) == [-600]
    assert store.batch_get_session_start([key, key + "no"]) == [0, -704]
    got = store.batch_get_into_multi_buffer_ranges([key, key + "no"], [[into.ptr, into.at(1000)], [into.ptr]],
                                                   [[1000, 2000], [1]], [[0, 1000], [0]])
    assert got == [3000, -600]
    assert bytes(into) == bytes(source)
    assert store.batch_get_session_end([key]) == 0 and store.batch_get_session_end([key]) == -600
    assert store.batch_put_session_start([key + "2"], [10]) == [0]
    assert store.batch_put_session_revoke([key + "2"]) == [0] and store.is_exist(key + "2") == 0


def test_segments_of_the_process(own):
    _, joined = own
    before = joined._client.cluster().capacity_bytes
    made = joined.allocate_and_mount_segment(8 << 20)
    assert made["ret"] == 0 and made["allocated_size"] == 8 << 20 and len(made["segment_ids"]) == 1
    assert joined._client.cluster().capacity_bytes == before + (8 << 20)
    assert joined.unmount_and_free_segment(made["segment_ids"]) == 0
    assert joined._client.cluster().capacity_bytes == before
    assert joined.unmount_segment(made["segment_ids"]) == -101
    assert joined.mount_segment("/dev/shm/x", 4096)["ret"] == -1012
    assert joined.create_copy_task("k", ["x"])[1] == -1012 and joined.query_task((0, 0)) == (None, -1400)


def test_numbers_of_numpy(store, key):
    numpy = pytest.importorskip("numpy")
    values = numpy.arange(4000, dtype=numpy.int32)
    into = numpy.zeros_like(values)
    starts = numpy.array([values.ctypes.data, values.ctypes.data + 8000], dtype=numpy.uint64)
    targets = numpy.array([into.ctypes.data, into.ctypes.data + 8000], dtype=numpy.uint64)
    sizes = numpy.array([8000, 8000])
    keys = numpy.array([key + "1", key + "2"])
    assert store.batch_put_from(keys, starts, sizes) == [0, 0] and store.batch_is_exist(keys) == [1, 1]
    assert store.batch_get_into(keys, targets, sizes) == [8000, 8000] and (into == values).all()
    into[:] = 0
    assert store.get_into_ranges(targets[:1], [keys[:1]], [[numpy.array([0])]], [[numpy.array([4000])]],
                                 [[numpy.array([4000])]]) == [[[4000]]]
    assert (into[:1000] == values[1000:2000]).all()
    assert store.batch_put_session_start([key], sizes[:1]) == [0]
    assert store.batch_put_from_multi_buffer_ranges([key], [starts[:1]], [sizes[:1]], [numpy.array([0])]) == [8000]
    assert store.batch_put_session_end([key]) == [0] and store.get(key) == values[:2000].tobytes()
    assert store.put(key + "2d", values.reshape(40, 100)) == 0 and store.get(key + "2d") == values.tobytes()
    assert store.put(key + "gaps", values[::2]) == -600  # not contiguous


def test_pages_beside_a_store(master):
    port = daemons.free_port()
    made, second = MooncakeDistributedStore(), MooncakeDistributedStore()
    for one in (made, second):  # the second finds the port taken, and goes on without
        assert one.setup("127.0.0.1", "", 0, 0, "tcp", "", master.address, enable_client_http_server=True,
                         client_http_port=port) == 0
    url = f"http://127.0.0.1:{port}"
    assert http(url + "/health")[2] == '{"status": "healthy", "code": 0}'
    assert "mooncake_transfer_write_bytes 0" in http(url + "/metrics")[2]
    assert made.close() == second.close() == 0
    with pytest.raises(OSError):
        http(url + "/health")


def test_odd_patterns(store, key):
    store.put(key, b"x")
    for wrong in ("(", "a{99999999999}", "(" * 5000, "(?L)a", None, 5, ["a"]):
        assert store.remove_by_regex(wrong) == -600, wrong
    assert store.remove_by_regex(f"^{key}$".encode()) == 1


def test_names_of_the_module():
    assert module.get_alloc_func_addr() == module.get_free_func_addr() == 0
    assert module.MooncakeDistributedNoFRegister().real_register("n", 1, "a", "s", 0, 0, "m") == -1012
    assert module.KVCACHE == module.ObjectDataType.KVCACHE == 1 and module.COMPLETE == module.ReplicaStatus.COMPLETE
    assert module.TaskStatus.SUCCESS == module.SUCCESS and module.SoftPinAction.DISABLE == 2
    for name in module.__all__:
        assert hasattr(module, name)
    module.bind_to_numa_node(4096)


def test_buffer_pool(store):
    assert BufferPool is RegisteredBufferPool
    with pytest.raises(RuntimeError, match="alignment"):
        BufferPool(store, alignment=3)
    with BufferPool(store, max_bytes=1 << 20, alignment=4096) as pool:
        with pool.acquire(100_000) as lease:
            assert lease.ptr % 4096 == 0 and lease.size == 100_000
            lease.buffer[:5] = b"hello"
            assert store.register_buffer(lease.ptr, 5) == 0
            address = lease.ptr
        again = pool.acquire(100_000)
        assert again.ptr == address
        again.release()
        again.release()
        big = pool.acquire(1 << 20)  # makes room by giving up what nobody uses
        with pytest.raises(RuntimeError):
            pool.acquire(1, block=False)
        with pytest.raises(RuntimeError, match="timed out"):
            pool.acquire(1, timeout=0.05)
        big.release()
        with pytest.raises(RuntimeError):  # and not for ever
            pool.acquire(1 << 21)
        pool.prewarm(65536, 4)
        view = pool.acquire(10).buffer  # nobody has the lease any more
        view[:2] = b"ok"
    with pytest.raises(RuntimeError):
        pool.acquire(1)
    assert bytes(view[:2]) == b"ok"  # a view keeps the memory
    with pytest.raises(RuntimeError):
        BufferPool(MooncakeDistributedStore()).acquire(1)
    with BufferPool(store, alignment=4096, max_regions=1) as pool:
        lease = pool.acquire(10)
        made = pickle.PickleBuffer(lease.buffer)
        with pytest.raises(RuntimeError):
            lease.release()
        made.release()
        lease.release()
        for gone in (lambda: lease.ptr, lambda: lease.buffer):
            with pytest.raises(RuntimeError):
                gone()
        pool.acquire(1 << 20).release()  # of another size, in place of the first one


def test_tensors(store, key):
    torch = pytest.importorskip("torch")
    for number, kind in enumerate((torch.float32, torch.bfloat16, torch.int8, torch.bool)):
        tensor = (torch.arange(24).reshape(2, 3, 4) % 2).to(kind)
        assert store.put_tensor(f"{key}{number}", tensor) == 0
        got = store.get_tensor(f"{key}{number}")
        assert got.dtype == kind and torch.equal(got, tensor)
    whole = torch.arange(32, dtype=torch.float32).reshape(8, 4)
    assert store.put_tensor_with_tp(key, whole, 0, 4, 0) == 0
    assert torch.equal(store.get_tensor_with_tp(key, 2, 4), whole[4:6])
    assert store.upsert_tensor(key, whole) == store.upsert_tensor(key, whole[:2]) == 0
    assert torch.equal(store.get_tensor(key), whole[:2])
    into = Memory(4096)
    assert torch.equal(store.get_tensor_into(key, into.ptr, 4096), whole[:2])
    store.put(key + "no tensor", b"x" * 500)
    assert store.get_tensor(key + "no tensor") is None and store.get_tensor(key + "none") is None


def test_tensors_that_are_none(store, key):
    assert store.put_tensor(key, b"no tensor") == -600 and store.get_tensor(key) is None
    assert store.batch_put_tensor([key], []) == [-600]
    assert store.put_tensor_with_parallelism(key, None, parallelism=object()) == -1012


def test_config(tmp_path, monkeypatch):
    for name in ("MOONCAKE_CONFIG_PATH", "MOONCAKE_MASTER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="MOONCAKE_MASTER"):
        MooncakeConfig.load_from_env()
    monkeypatch.setenv("MOONCAKE_MASTER", "10.0.0.1:50051")
    monkeypatch.setenv("MOONCAKE_GLOBAL_SEGMENT_SIZE", "4GB")
    config = MooncakeConfig.load_from_env()
    assert config.master_server_address == "10.0.0.1:50051" and config.global_segment_size == 4 << 30
    assert (config.local_hostname, config.metadata_server, config.protocol) == ("localhost", "P2PHANDSHAKE", "tcp")
    file = tmp_path / "c.json"
    file.write_text('{"local_hostname": "h", "metadata_server": "m", "master_server_address": "a:1", '
                    '"protocol": "RDMA", "global_segment_size": "1 gb", "device_name": "d"}')
    monkeypatch.setenv("MOONCAKE_CONFIG_PATH", str(file))
    config = MooncakeConfig.load_from_env()
    assert (config.protocol, config.global_segment_size, config.device_name) == ("rdma", 1 << 30, "d")
    assert config.local_buffer_size == 1073741824
    file.write_text('{"local_hostname": "h"}')
    with pytest.raises(ValueError, match="metadata_server"):
        MooncakeConfig.from_file(str(file))


def test_a_forked_child_answers_errors(master, key):
    script = ("import os\nfrom mooncake.store import MooncakeDistributedStore\ns = MooncakeDistributedStore()\n"
              f"assert s.setup('127.0.0.1', '', 4 << 20, 0, 'tcp', '', {master.address!r}) == 0\n"
              f"assert s.put({key!r}, b'x') == 0\npid = os.fork()\n"
              "if pid == 0:\n"
              f"    good = s.is_exist({key!r}) == 0 and s.put('k', b'x') < 0 and s.get({key!r}) == b''\n"
              "    good = good and s.health_check() == 2 and s.close() == 0\n"
              "    os._exit(0 if good else 1)\n"
              f"assert os.waitpid(pid, 0)[1] == 0\nassert s.get({key!r}) == b'x' and s.close() == 0\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
                          env=environment(), check=False)
    assert done.returncode == 0, done.stderr


def test_the_master_ends_during_calls():
    made = Master()
    joined = set_up(made.address)
    stop = threading.Event()

    def work(number):
        turn = 0
        value = pattern(100_000, number)
        while not stop.is_set():
            name = f"{number}/{turn % 20}"
            assert joined.put(name, value) <= 0
            assert joined.get(name) in (value, b"")
            assert joined.is_exist(name) in (0, 1)
            turn += 1
        return turn

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work, number) for number in range(8)]
        daemons.eventually(lambda: joined.is_exist("7/3"), "all threads at work")
        made.process.kill()
        daemons.eventually(lambda: joined.put("after", b"x") != 0, "an error", 60)
        stop.set()
        assert all(one.result(120) > 0 for one in working)
    assert joined.close() == 0
    made.stop()
