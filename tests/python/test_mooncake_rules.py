"""What all clients rely on, a test per rule."""
import copy
import ctypes
import inspect
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mooncake_support import (Master, Memory, address, daemons, environment, key, master, own,  # noqa: F401
                              pattern, set_up, store)
from mooncake.store import MooncakeDistributedStore, ReplicateConfig


def test_r1_exist_is_exactly_one_or_zero(store, key):
    store.put(key, b"x")
    got = store.batch_is_exist([key, key + "-", "", "k" * 5000, key])
    assert got == [1, 0, 0, 0, 1] and all(type(one) is int for one in got)
    assert store.is_exist(key) == 1 and store.is_exist(key + "-") == 0 and store.batch_is_exist([]) == []


def test_r1_exist_is_zero_when_the_master_is_gone(monkeypatch):
    made = Master()
    joined = set_up(made.address)
    joined.put("k", b"x")
    assert joined.is_exist("k") == 1
    made.process.kill()
    made.process.wait(30)
    assert joined.batch_is_exist(["k", "l"]) == [0, 0]
    assert joined.health_check() == 2
    assert joined.put("m", b"x") < 0 and joined.get("k") == b"" and joined.remove("k") < 0
    assert joined.close() == 0
    made.stop()


def test_r2_put_of_an_existing_key_succeeds_and_keeps_the_value(store, key):
    assert store.put(key, b"first") == 0
    assert store.put(key, b"second") == 0
    other = Memory(b"third")
    assert store.batch_put_from([key, key], [other.ptr] * 2, [5, 5]) == [0, 0]
    assert store.get(key) == b"first"


def test_r2_two_writers_race_on_one_key(address, key):
    stores = [set_up(address, 16 << 20) for _ in range(2)]
    try:
        barrier = threading.Barrier(2)

        def write(number):
            out = []
            for round_number in range(50):
                barrier.wait(30)
                out.append(stores[number].put(f"{key}/{round_number}", bytes([number]) * 100_000))
            return out

        with ThreadPoolExecutor(2) as pool:
            assert [code for codes in pool.map(write, range(2)) for code in codes] == [0] * 100
        for round_number in range(50):
            value = stores[0].get(f"{key}/{round_number}")
            assert len(value) == 100_000 and len(set(value)) == 1
    finally:
        for made in stores:
            made.close()


def test_r3_gets_return_bytes(store, key):
    value = pattern(3000)
    store.put(key, value)
    into = Memory(3000)
    assert store.get_into(key, into.ptr, 3000) == 3000
    assert store.batch_get_into([key, key + "-"], [into.ptr, into.ptr], [3000, 3000]) == [3000, -704]
    parts = [[into.ptr, into.at(1000), into.at(1500)]]
    assert store.batch_get_into_multi_buffers([key], parts, [[1000, 500, 1500]], True) == [3000]
    assert bytes(into) == value


def test_r4_minus_200_exactly_when_full(monkeypatch, own):
    monkeypatch.setenv("MMC_PUT_WAIT_SECONDS", "2")
    made, _ = own
    joined = set_up(made.address, 8 << 20)
    assert joined.put("too large for any segment", bytes(64 << 20)) == -200
    assert joined.put("fits", bytes(1 << 20)) == 0
    joined.close()


def test_r4_eviction_makes_room(own):
    _, joined = own
    assert [joined.put(f"k{n}", bytes(1 << 20)) for n in range(100)] == [0] * 100
    assert joined.is_exist("k99") == 1


def test_r4_full_of_leased_values(monkeypatch):
    monkeypatch.setenv("MMC_PUT_WAIT_SECONDS", "2")
    made = Master("--default_kv_lease_ttl=1h")
    try:
        joined = set_up(made.address, 8 << 20)
        stored = []
        for number in range(16):
            code = joined.put(f"k{number}", bytes(1 << 20))
            if code != 0:
                break
            stored.append(f"k{number}")
            assert joined.is_exist(stored[-1]) == 1
        assert code == -200 and 6 <= len(stored) <= 8
        assert joined.batch_is_exist(stored) == [1] * len(stored)
        joined.close()
    finally:
        made.stop()


def test_r5_a_bad_key_fails_alone(store, key):
    data = Memory(b"abcd")
    keys = [key + "1", "", "k" * 5000, key + "2", key + "3", key + "4"]
    pointers = [data.ptr, data.ptr, data.ptr, 0, 8, data.ptr]
    assert store.batch_put_from(keys, pointers, [4] * 6) == [0, -600, -600, -600, -600, 0]
    assert store.batch_get_into(keys, [data.ptr] * 6, [4] * 6) == [4, -600, -600, -704, -704, 4]
    assert store.batch_put_from_multi_buffers([key + "5", key + "6"], [[data.ptr], [data.ptr]], [[4], [2, 2]]) \
        == [0, -600]
    # The shape of the call as a whole.
    assert store.batch_put_from(keys, pointers[:2], [4] * 6) == [-600] * 6
    assert store.batch_get_into(keys, pointers, [4]) == [-600] * 6


def test_r6_many_threads_on_one_store(store, key):
    def work(number):
        value = pattern(20_000, number)
        into = Memory(20_000)
        for turn in range(20):
            name = f"{key}/{number}/{turn}"
            data = Memory(value)
            assert store.batch_put_from([name], [data.ptr], [20_000]) == [0]
            assert store.batch_is_exist([name, name + "-"]) == [1, 0]
            assert store.batch_get_into([name], [into.ptr], [20_000]) == [20_000]
            assert bytes(into) == value
            assert store.remove(name, force=True) == 0
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


def test_r7_metadata_only_clients(store, address, key):
    store.put(key, b"value")
    only = MooncakeDistributedStore()
    assert only.setup("localhost", "P2PHANDSHAKE", 0, 0, "ascend_no_transport", "", address) == 0
    assert not only._segments
    assert only.batch_is_exist([key, key + "-"]) == [1, 0] and only.get_size(key) == 5
    assert len(only.get_replica_desc(key)) == 1
    assert only.remove(key, True) == 0 and store.is_exist(key) == 0
    only.close()


def test_r8_several_stores_in_processes_and_in_one(address, key):
    here = [set_up(address, 8 << 20), set_up(address, 8 << 20), set_up(address, 0)]
    assert len({one.get_hostname() for one in here}) == 3
    script = ("import sys\nfrom mooncake.store import MooncakeDistributedStore\ns = MooncakeDistributedStore()\n"
              f"assert s.setup('127.0.0.1', '', 8 << 20, 0, 'tcp', '', {address!r}) == 0\n"
              f"assert s.put({key!r} + sys.argv[1], sys.argv[1].encode()) == 0\nprint(s.get({key!r}), flush=True)\n"
              "sys.stdin.readline()\n")
    assert here[0].put(key, b"shared") == 0
    others = [subprocess.Popen([sys.executable, "-c", script, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True, env=environment()) for n in range(3)]
    assert [other.stdout.readline().strip() for other in others] == ["b'shared'"] * 3
    assert [here[2].get(key + str(n)) for n in range(3)] == [b"0", b"1", b"2"]
    for other in others:
        other.communicate("\n", timeout=60)
        assert other.returncode == 0
    for one in here:
        one.close()


@pytest.mark.parametrize("protocol, metadata, device", [
    ("tcp", "http://127.0.0.1:8080/metadata", ""), ("rdma", "etcd://127.0.0.1:2379", "mlx5_0,mlx5_1"),
    ("ascend", "P2PHANDSHAKE", ""), ("device_sdma", "redis://x", "npu_0"), ("host_rdma", "", "erdma_0")])
def test_r9_any_protocol_metadata_server_and_device(master, protocol, metadata, device):
    made = MooncakeDistributedStore()
    assert made.setup("127.0.0.1", metadata, 4 << 20, 1 << 20, protocol, device, master.address) == 0
    made.close()


def test_r10_pointers_need_no_registration(store, key):
    data = Memory(pattern(10_000))
    assert store.put_from(key, data.ptr, 10_000) == 0
    registered = Memory(10_000)
    assert store.register_buffer(registered.ptr, 10_000) == 0
    assert store.get_into(key, registered.ptr, 10_000) == 10_000 and bytes(registered) == bytes(data)
    # What is no memory of the host is refused, and nothing crashes.
    assert store.register_buffer(8, 4096) == -600 and store.register_buffer(registered.ptr, 0) == -600
    assert store.get_into(key, 4096, 10_000) == -600


@pytest.mark.parametrize("hostname, expected", [
    ("127.0.0.1", None), ("127.0.0.1:18790", "127.0.0.1:18790"), ("localhost", None), ("[::1]:18791", "[::1]:18791"),
    ("127.0.0.1:18792:npu_3", "127.0.0.1:18792:npu_3"), ("10.255.255.1:18793", "10.255.255.1:18793")])
def test_r11_forms_of_the_host_name(master, key, hostname, expected):
    made = set_up(master.address, 4 << 20, hostname)
    name = made.get_hostname()
    if expected is None:
        assert 12300 <= int(name.rsplit(":", 1)[1]) <= 14300
    else:
        assert name == expected
    config = ReplicateConfig()
    config.preferred_segment = name
    assert made.put(key, b"value", config) == 0 and made.get(key) == b"value"
    where = made.get_replica_desc(key)[0].get_memory_descriptor().buffer_descriptor.transport_endpoint
    assert where == name
    made.close()


def test_r12_forms_of_setup(master):
    names = ("local_hostname", "metadata_server", "global_segment_size", "local_buffer_size", "protocol",
             "rdma_devices", "master_server_addr")
    values = ("127.0.0.1", "P2PHANDSHAKE", 4 << 20, 1 << 20, "tcp", "", master.address)
    forms = [(values, {}), ((*values, None), {}), ((*values, object()), {"enable_ssd_offload": False}),
             ((), dict(zip(names, values))), ((), {**dict(zip(names, values)), "engine": None, "tenant_id": "default"}),
             (({"local_hostname": "127.0.0.1", "metadata_server": "x", "global_segment_size": "4 MB",
                "local_buffer_size": "0", "master_server_addr": master.address},), {}),
             (({"local_hostname": "127.0.0.1", "metadata_server": "x", "master_server_address": master.address},), {})]
    for args, kwargs in forms:
        made = MooncakeDistributedStore()
        assert made.setup(*args, **kwargs) == 0, (args, kwargs)
        assert made.health_check() == 0 and made.close() == 0
    made = MooncakeDistributedStore()
    with pytest.raises(TypeError, match="ssd_something"):
        made.setup(*values, ssd_something=1)
    with pytest.raises(TypeError, match="master_server_addr"):
        made.setup(*values[:6])
    for wrong in ({"global_segment_size": "50%"}, {"global_segment_size": 100}, {"local_buffer_size": 2 << 40},
                  {"metadata_server": None}):
        assert made.setup({"local_hostname": "127.0.0.1", "metadata_server": "x",
                           "master_server_addr": master.address, **wrong}) == -600


def test_r12_unregister_buffer_takes_one_or_two_arguments(store):
    data = Memory(4096)
    assert store.register_buffer(data.ptr, 4096) == 0 and store.unregister_buffer(data.ptr, 1) == 0
    assert store.register_buffer(data.ptr, 4096) == 0 and store.unregister_buffer(data.ptr) == 0
    assert store.unregister_buffer(data.ptr) == -600


def test_r13_feature_probe():
    assert "enable_ssd_offload" in inspect.signature(MooncakeDistributedStore.setup).parameters
    assert "enable_ssd_offload" in MooncakeDistributedStore().setup.__doc__


def test_r14_replicate_config():
    config = ReplicateConfig()
    for name in ("replica_num", "with_soft_pin", "with_hard_pin", "preferred_segment", "preferred_segments",
                 "prefer_alloc_in_same_node", "group_ids", "data_type", "soft_pin_ttl_ms", "soft_pin_action"):
        assert hasattr(config, name) and hasattr(ReplicateConfig, name)
    config.group_ids = ["g"]
    config.with_soft_pin = True
    config.preferred_segments.append("a")
    other = copy.copy(config)
    assert other.group_ids == ["g"] and other.with_soft_pin and other.nodes() == ("a",)
    assert ReplicateConfig().preferred_segments == [] and str(config).startswith("ReplicateConfig: { replica_num: ")
    for wrong in (-1, 1 << 64):
        with pytest.raises(TypeError):
            config.soft_pin_ttl_ms = wrong


def test_r15_keys(store, key):
    keys = [f"{key}/models/Qwen/Qwen2.5-7B@tp_rank:0@pcp0@{'ab' * 500}", key + "µé漢字", key + "@a:b/c_d-e"]
    assert len(keys[0]) > 1024
    assert [store.put(one, one.encode()) for one in keys] == [0, 0, 0]
    assert store.get_batch(keys) == [one.encode() for one in keys]


def test_r16_large_batches_and_many_segments(store, key):
    keys = [f"{key}/{n}" for n in range(16_384)]
    data = Memory(b"x" * 8)
    assert set(store.batch_put_from(keys[:2000], [data.ptr] * 2000, [8] * 2000)) == {0}
    got = store.batch_is_exist(keys)
    assert len(got) == 16_384 and got == [1] * 2000 + [0] * 14_384
    assert len(store.batch_is_exist(keys + keys)) == 32_768
    sizes = [64 + n % 7 for n in range(300)]  # unequal inside one key
    source, into = Memory(pattern(sum(sizes))), Memory(sum(sizes))
    starts = [sum(sizes[:n]) for n in range(300)]
    assert store.batch_put_from_multi_buffers([key], [[source.at(n) for n in starts]], [sizes]) == [0]
    assert store.batch_get_into_multi_buffers([key], [[into.at(n) for n in starts]], [sizes]) == [sum(sizes)]
    assert bytes(into) == bytes(source)


def test_r17_another_split_than_written(store, key):
    source, into = Memory(pattern(12_000)), Memory(12_000)
    assert store.batch_put_from_multi_buffers([key], [[source.ptr, source.at(5000)]], [[5000, 7000]]) == [0]
    pieces = [[into.at(n * 1000) for n in range(12)]]
    assert store.batch_get_into_multi_buffers([key], pieces, [[1000] * 12]) == [12_000]
    assert bytes(into) == bytes(source)


def test_r18_larger_and_smaller_buffers(store, key):
    store.put(key, pattern(1000))
    into = Memory(4096)
    assert store.get_into(key, into.ptr, 4096) == 1000 and bytes(into)[:1000] == pattern(1000)
    assert store.batch_get_into_multi_buffers([key], [[into.ptr, into.at(600)]], [[600, 3000]]) == [1000]
    assert store.get_into(key, into.ptr, 999) == -600


def test_r19_exist_leases():
    made = Master("--default_kv_lease_ttl=1h")
    try:
        joined = set_up(made.address, 32 << 20)
        assert joined.put_batch(["hit", "not asked for"], [pattern(1 << 20)] * 2) == 0
        assert joined.batch_is_exist(["hit"]) == [1]
        for number in range(100):  # three times the pool
            assert joined.put(f"filler{number}", bytes(1 << 20)) == 0
        assert joined.get("hit") == pattern(1 << 20) and joined.get("not asked for") == b""
        assert joined.remove("hit") == -706
        joined.close()
    finally:
        made.stop()


def test_r20_other_modules_of_the_package_can_be_imported(tmp_path):
    other = tmp_path / "mooncake"
    other.mkdir()
    (other / "__init__.py").write_text("")
    (other / "something_else.py").write_text("NAME = 'from the other place'\n")
    script = ("import mooncake.something_else as m, mooncake.store, mooncake.engine\nprint(m.NAME)\n"
              "te = mooncake.engine.TransferEngine()\n"
              "assert te.initialize('127.0.0.1', 'P2PHANDSHAKE', 'ascend', '') == 0\n"
              "assert te.get_rpc_port() > 0 and te.get_engine() is not None\n")
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(tmp_path)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=env,
                          check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "from the other place"), done.stderr


def test_r21_buffer_handles_outlive_everything(store, key):
    store.put(key, pattern(5000))
    handle = store.get_buffer(key)
    assert store.remove(key, force=True) == 0
    view = memoryview(handle)
    assert (handle.size(), len(handle), view.nbytes, view.ndim) == (5000, 5000, 5000, 1)
    assert ctypes.string_at(handle.ptr(), 5000) == pattern(5000) == bytes(view)
    assert store.get_buffer(key) is None and store.batch_get_buffer([]) == []
    store.put(key + "a", b"a")
    got = store.batch_get_buffer([key, key + "a"])
    assert got[0] is None and bytes(got[1]) == b"a"


def test_r22_close(master, key):
    made = set_up(master.address, 4 << 20)
    assert made.close() == 0 and made.close() == 0
    assert made.setup("127.0.0.1", "", 4 << 20, 0, "tcp", "", master.address) == 0  # may be set up again
    assert made.put(key, b"x") == 0 and made.close() == 0
    script = ("from mooncake.store import MooncakeDistributedStore\ns = MooncakeDistributedStore()\n"
              f"assert s.setup('127.0.0.1', '', 4 << 20, 0, 'tcp', '', {master.address!r}) == 0\n"
              "s.put('never closed', b'x')\nh = s.get_buffer('never closed')\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
                          env=environment(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_r23_a_failed_setup_leaves_a_store_that_answers_errors(monkeypatch):
    monkeypatch.setenv("MMC_SETUP_WAIT_SECONDS", "0.2")
    nowhere = f"127.0.0.1:{daemons.free_port()}"
    made = MooncakeDistributedStore()
    assert made.setup("127.0.0.1", "", 0, 0, "tcp", "", nowhere) == -1
    assert made.setup("127.0.0.1:18794", "", 0, 0, "tcp", "", nowhere) == -600
    assert made.setup("", "", 0, 0, "tcp", "", nowhere) != 0
    check_not_set_up(made)


def check_not_set_up(made):
    data = Memory(64)
    assert made.is_exist("k") == 0 and made.batch_is_exist(["k", "l"]) == [0, 0]
    assert made.get("k") == b"" and made.get_batch(["k", "l"]) == [b""]
    assert made.get_buffer("k") is None and made.batch_get_buffer(["k", "l"]) == [None, None]
    assert made.put("k", b"x") == made.put_parts("k", b"x", b"y") == made.put_batch(["k"], [b"x"]) == -600
    assert made.upsert("k", b"x") == made.upsert_from("k", data.ptr, 64) == -600
    assert made.get_into("k", data.ptr, 64) == made.put_from("k", data.ptr, 64) == -600
    assert made.batch_put_from(["k"], [data.ptr], [64]) == made.batch_get_into(["k"], [data.ptr], [64]) == [-600]
    assert made.batch_put_from_multi_buffers(["k"], [[data.ptr]], [[64]]) == [-600]
    assert made.get_into_ranges([data.ptr], [["k"]], [[[0]]], [[[0]]], [[[8]]]) == [[[-600]]]
    assert made.get_size("k") == made.remove("k") == made.remove_all() == made.remove_by_regex(".") == -600
    assert made.batch_remove(["k"]) == [-600] and made.get_replica_desc("k") == []
    assert made.register_buffer(data.ptr, 64) == made.unregister_buffer(data.ptr) == -600
    assert made.put_tensor("k", None) == -600 and made.get_tensor("k") is None
    assert made.batch_get_session_start(["k"]) == made.batch_put_session_start(["k"], [8]) == [-600]
    assert made.health_check() == 1 and made.get_hostname() == "" and made.close() == 0


def test_calls_before_setup_answer_errors():
    check_not_set_up(MooncakeDistributedStore())


def test_r23_setup_waits_for_a_late_master():
    port = daemons.free_port()
    made = MooncakeDistributedStore()
    with ThreadPoolExecutor(1) as pool:
        begun = threading.Event()

        def join():
            begun.set()
            return made.setup("127.0.0.1", "", 4 << 20, 0, "tcp", "", f"127.0.0.1:{port}")

        joined = pool.submit(join)
        begun.wait(30)
        assert not joined.done()
        late = Master("--rpc_port", port)
        try:
            assert joined.result(60) == 0
        finally:
            made.close()
            late.stop()
