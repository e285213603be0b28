"""memcache_hybrid: what its clients rely on, a test for each rule, by its number (docs/compat_memcache.md)."""
import asyncio
import copy
import ctypes

import memcache_hybrid
import pymmc
import pytest
from memcache_support import (Block, Script, conf_text, daemons, in_threads, local_config, meta, opened,  # noqa: F401
                              store)

L2G, G2L = 0, 1


def test_r1_exist_is_exactly_1_or_0(store, key):
    assert store.put(key, b"x") == 0
    keys = [key, key + "no", "", "k" * 5000, key]
    got = store.batch_is_exist(keys)
    assert got == [1, 0, 0, 0, 1]
    assert all(type(one) is int for one in got) and type(got) is list
    assert store.batch_is_exist(keys=[]) == []
    assert (store.is_exist(key), store.is_exist(key + "no"), store.is_exist("")) == (1, 0, -3000)


def test_r1_exist_without_a_meta_service_is_a_miss():
    service = pymmc.MetaService("tcp://127.0.0.1:0")
    with opened(local_config(service.url, dram="0", client_timeout_seconds=1)) as made:
        service.stop()
        assert made.batch_is_exist(["a", "b"]) == [0, 0]
        assert made.is_exist("a") == 0
        assert made.put("a", b"x") < 0
        assert made.get("a") == b""
        assert made.remove("a") < 0
        assert made.get_key_info("a").size() == 0


def test_r2_put_of_an_existing_key_succeeds_and_keeps_it(store, key):
    assert [store.put(key, b"first"), store.put(key, b"other")] == [0, 0]
    assert store.get(key) == b"first"


def test_r2_writers_that_race_all_succeed(store, key):
    codes = []
    in_threads(lambda i: codes.append(store.put(key, bytes([i]) * 100000)), 16)
    assert codes == [0] * 16
    assert len(set(store.get(key))) == 1


def test_r3_gets_answer_0(store, key):
    block, out = Block([64, 32], seed=1), Block([64, 32])
    assert store.batch_put_from_layers([key], [block.pointers], [block.sizes], L2G) == [0]
    assert store.batch_get_into_layers([key], [out.pointers], [out.sizes], G2L) == [0]
    assert out.bytes() == block.bytes()


def test_r4_puts_answer_0_and_a_full_pool_its_code(meta, key):
    with opened(local_config(meta.url, dram="4MB")) as made:
        assert made.put(key, bytes(1 << 20)) == 0
        assert made.put(key + "big", bytes(16 << 20)) == -3016
    with opened(local_config(meta.url, dram="0", client_timeout_seconds=2)) as made:
        assert made.put(key, b"no node") in (-3016, -3013)


def test_r5_a_bad_key_fails_alone(store, key):
    block = Block([10, 20], seed=1)
    keys = [key + "a", "", key + "b", "k" * 5000, key + "\ud800", key + "c"]
    pointers = [block.pointers] * 5 + [[0, 0]]
    assert store.batch_put_from_layers(keys, pointers, [block.sizes] * 6, L2G) == [0, -3000, 0, -3000, -3000, -3000]
    assert store.batch_is_exist(keys) == [1, 0, 1, 0, 0, 0]
    rows = [block.pointers, block.pointers[:1]]
    assert store.batch_put_from_layers([key + "d", key + "e"], rows, [block.sizes] * 2, L2G) == [0, -3000]
    out = Block([10, 20])
    assert store.batch_get_into_layers([key + "a", ""], [out.pointers] * 2, [out.sizes] * 2, G2L) == [0, -3000]
    assert out.bytes() == block.bytes()
    assert store.batch_put_from(["", key + "f"], [block.pointers[0]] * 2, [10, 10]) == [-3000, 0]


def test_r6_sixteen_threads_on_one_store(store, key):
    def work(number):
        for turn in range(12):
            name = f"{key}/{number}/{turn}"
            block, out = Block([3000, 77], seed=number * 100 + turn), Block([77, 3000])
            assert store.batch_put_from_layers([name], [block.pointers], [block.sizes], L2G) == [0]
            assert store.batch_is_exist([name, name + "no"]) == [1, 0]
            assert store.batch_get_into_layers([name], [out.pointers], [out.sizes], G2L) == [0]
            assert out.bytes() == block.bytes()
            assert store.get(name) == block.bytes()
            assert store.get_key_info(name).size() == 3077
            assert store.put(name + "p", block.buffers[0]) == 0
            if turn % 3 == 0:
                assert store.remove(name) == 0
                assert store.get(name) == b""

    in_threads(work, 16)


def test_r6_from_asyncio_by_its_threads(store, key):
    async def one(number):
        name = f"{key}/{number}"
        assert await asyncio.to_thread(store.put, name, name.encode() * 5000) == 0
        assert await asyncio.to_thread(store.is_exist, name) == 1
        return await asyncio.to_thread(store.get, name) == name.encode() * 5000

    async def run():
        assert all(await asyncio.gather(*map(one, range(64))))

    asyncio.run(run())


def test_r7_a_metadata_only_client(daemon_pool, key):
    with daemon_pool.client() as other:
        other.put({key: b"value"})
        before = len(other.cluster().nodes)
        with opened(local_config(daemon_pool.meta_url, dram="1GB"), init_bm=False) as made:
            assert len(other.cluster().nodes) == before
            assert made.batch_is_exist([key, key + "no"]) == [1, 0]
            assert made.get_key_info(key).size() == 5
            assert made.get_key_info(key).gva_list() == []
            assert made.register_buffer(4096, 4096) == 0
            assert made.put(key + "2", b"x") == -3019
            assert made.get(key) == b""
            assert made.batch_alloc([key + "3"], [5]) == [-3019]
            assert made.get_local_service_id() == 4294967295
            assert made.remove(key) == 0


def test_r7_a_metadata_only_client_becomes_one_that_lends(meta, key):
    with opened(local_config(meta.url), init_bm=False) as made:
        worker = memcache_hybrid.DistributedObjectStore()
        assert worker.init(0, init_bm=True) == 0
        assert made.put(key, b"x") == 0
        assert worker.close() == 0
        assert made.get(key) == b"x"


def test_r8_several_processes_and_several_stores(meta, tmp_path, key):
    path = tmp_path / "local.conf"
    path.write_text(conf_text(meta.url, dram="32MB"), encoding="utf-8")
    text = f"""
import sys
from memcache_hybrid import DistributedObjectStore
store = DistributedObjectStore()
assert store.init(1, init_bm=True) == 0
assert store.put({key!r} + sys.argv[1], sys.argv[1].encode() * 1000) == 0
print(store.get_local_service_id(), flush=True)
sys.stdin.readline()
print(store.get({key!r} + "main").decode(), flush=True)
sys.stdin.readline()
assert store.close() == 0
"""
    env = {"MMC_LOCAL_CONFIG_PATH": str(path)}
    with Script(text.replace("sys.argv[1]", "'a'"), **env) as a, Script(text.replace("sys.argv[1]", "'b'"), **env) as b:
        ids = {a.line(), b.line()}
        with opened(local_config(meta.url, dram="32MB")) as made:
            second = memcache_hybrid.DistributedObjectStore()
            assert second.init(0) == 0
            assert len(ids | {str(made.get_local_service_id())}) == 3
            assert second.get_batch([key + "a", key + "b"]) == [b"a" * 1000, b"b" * 1000]
            assert made.put(key + "main", b"from the test") == 0
            for script in (a, b):
                script.say("go on")
                assert script.line() == "from the test"
            assert second.close() == 0
            assert made.get(key + "main") == b"from the test"
            for script in (a, b):
                script.say("end")
                assert script.end() == 0


@pytest.mark.parametrize("protocol", ["tcp", "rdma", "ascend", "device_sdma", "device_urma", "host_rdma", "host_shm",
                                      "sdma", "roce", "something new"])
def test_r9_any_protocol(meta, key, protocol):
    with opened(local_config(meta.url, dram="8MB", protocol=protocol)) as made:
        assert made.put(key + protocol, b"x") == 0
        assert made.get(key + protocol) == b"x"


def test_r10_host_pointers_with_device_directions_and_none_registered(store, key):
    block, out = Block([4096], seed=1), Block([4096])
    for put, get in ((0, 1), (3, 2), (0, 2), (3, 1)):
        name = f"{key}/{put}{get}"
        assert store.batch_put_from_layers([name], [block.pointers], [block.sizes], put) == [0]
        ctypes.memset(out.pointers[0], 0, 4096)
        assert store.batch_get_into_layers([name], [out.pointers], [out.sizes], get) == [0]
        assert out.bytes() == block.bytes()


def test_r12_unregister_takes_one_or_two_arguments(store):
    assert store.unregister_buffer(4096) == 0
    assert store.unregister_buffer(4096, 1) == 0


def test_r14_replicate_config_can_be_copied():
    config = memcache_hybrid.ReplicateConfig()
    config.replicaNum, config.preferredLocalServiceIDs = 2, [3]
    other = copy.copy(config)
    assert (other.replicaNum, other.preferredLocalServiceIDs) == (2, [3])
    assert hasattr(memcache_hybrid.ReplicateConfig, "replicaNum")


def test_r15_long_keys_of_any_text(store, key):
    keys = [f"/models/{'deep/' * 200}V2@pcp1@dcp1@head_or_tp_rank:0@pp_rank:0@group:0@{key}", f"{key}@模型/é_-:@"]
    assert len(keys[0]) > 1024
    assert store.put_batch(keys, [b"1", b"2"]) == 0
    assert store.get_batch(keys) == [b"1", b"2"]
    assert store.batch_is_exist(keys) == [1, 1]
    assert store.put("k" * 2048, b"x") == 0
    assert store.put("k" * 2049, b"x") == -3000


def test_r16_batches_of_16384_keys_and_values_of_255_segments(store, key):
    keys = [f"{key}/{i}" for i in range(16384)]
    byte = Block([1], seed=1)
    assert store.batch_is_exist(keys) == [0] * 16384
    assert store.batch_put_from(keys, byte.pointers * 16384, [1] * 16384) == [0] * 16384
    assert store.batch_is_exist(keys) == [1] * 16384
    more = [*keys, key + "/more"]
    assert store.batch_is_exist(more) == [-3000] * 16385
    assert store.batch_put_from(more, byte.pointers * 16385, [1] * 16385) == [-3000] * 16385
    assert store.remove_batch(keys) == [0] * 16384
    sizes = [64 + i for i in range(255)]
    block, out = Block(sizes, seed=2), Block(sizes)
    assert store.batch_put_from_layers([key], [block.pointers], [sizes], L2G) == [0]
    assert store.batch_get_into_layers([key], [out.pointers], [sizes], G2L) == [0]
    assert out.bytes() == block.bytes()
    assert store.put_from_layers(key + "256", byte.pointers * 256, [1] * 256, L2G) == -3000


@pytest.mark.parametrize("split", [[30], [1, 29], [10, 10, 10]])
def test_r17_another_split_of_the_same_size(store, key, split):
    block, out = Block([7, 23], seed=1), Block(split)
    assert store.batch_put_from_layers([key], [block.pointers], [block.sizes], L2G) == [0]
    assert store.batch_get_into_layers([key], [out.pointers], [split], G2L) == [0]
    assert out.bytes() == block.bytes()


def test_r18_a_value_into_room_of_another_size_is_an_error(store, key):
    assert store.put(key, b"x" * 1000) == 0
    larger, smaller = Block([1001]), Block([999])
    assert store.batch_get_into([key, key], [larger.pointers[0], smaller.pointers[0]], [1001, 999]) == [-1, -1]


def test_r19_exist_and_key_info_lease(key):
    with pymmc.MetaService("tcp://127.0.0.1:0") as service, opened(local_config(service.url, dram="32MB")) as made:
        assert made.put_batch([f"{key}/hit", f"{key}/not asked for"], [bytes(1 << 20)] * 2) == 0
        assert made.batch_is_exist([f"{key}/hit", f"{key}/missing"]) == [1, 0]
        with pymmc.Client(service.url) as client:
            leased, other = client.stat([f"{key}/hit", f"{key}/not asked for"])
            assert leased.lease_left > 0 and other.lease_left == 0 and leased.pins == 0
            assert [info.size() for info in made.batch_get_key_info([f"{key}/not asked for", "no"])] == [1 << 20, 0]
            assert client.stat([f"{key}/not asked for"])[0].lease_left > 0


def test_r22_close_as_often_as_one_likes(meta):
    made = memcache_hybrid.DistributedObjectStore()
    assert made.close() == 0
    assert made.setup(local_config(meta.url)) == 0
    assert made.init(0) == 0
    assert [made.close(), made.close()] == [0, 0]
    assert made.put("k", b"x") == -3019
    with opened(local_config(meta.url)) as again:
        assert again.put("k", b"x") == 0


@pytest.mark.parametrize("ending", ["", "store.close()", "del store", "raise SystemExit(0)", """
import threading, time
def read():
    while True:
        store.get("k")
threading.Thread(target=read, daemon=True).start()
"""])
def test_r22_the_interpreter_ends_with_a_live_store(meta, tmp_path, run_python, monkeypatch, ending):
    path = tmp_path / "local.conf"
    path.write_text(conf_text(meta.url, dram="8MB"), encoding="utf-8")
    monkeypatch.setenv("MMC_LOCAL_CONFIG_PATH", str(path))
    script = f"""
from memcache_hybrid import DistributedObjectStore
store = DistributedObjectStore()
assert store.init(0) == 0
assert store.put("k", b"x" * 1000) == 0
gva = store.batch_alloc(["g"], [100])[0]
{ending}
"""
    code, out, err = run_python(script)
    assert (code, out, err) == (0, "", "")


def test_r23_a_late_meta_service_is_waited_for(key):
    port = daemons.free_port()
    made = memcache_hybrid.DistributedObjectStore()
    assert made.setup(local_config(f"tcp://127.0.0.1:{port}", client_retry_milliseconds=60000)) == 0
    codes = []
    services = []

    def work(number):
        if number == 0:
            codes.append(made.init(0))
        else:
            services.append(pymmc.MetaService(f"tcp://127.0.0.1:{port}"))

    in_threads(work, 2)
    assert codes == [0]
    assert made.put(key, b"x") == 0
    assert made.close() == 0
    services[0].stop()


def test_r23_a_failed_init_is_a_code_and_calls_answer_errors():
    made = memcache_hybrid.DistributedObjectStore()
    assert made.setup(local_config("tcp://127.0.0.1:1", client_retry_milliseconds=100)) == 0
    assert made.init(0) == -3017
    assert made.is_exist("k") < 0
    assert made.put("k", b"x") == -3019
    assert made.get("k") == b""
    assert made.close() == 0
