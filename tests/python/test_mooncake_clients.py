"""The call sequences of the clients: order of the calls, shapes of the arguments, keys, batch sizes, threads."""
import asyncio
import copy
import functools
import json
import re
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mooncake_support import Memory, address, http, key, master, pattern, set_up, store  # noqa: F401
from mooncake.engine import TransferEngine
from mooncake.store import MooncakeDistributedStore, MooncakeHostMemAllocator, ObjectDataType, ReplicateConfig


def blocks(count, layers, segment, seed=0):
    """(memory, pointers, sizes) of `count` values of `layers` pieces each; a value's pieces lie apart, as in a KV cache
    that is kept by layer."""
    memory = Memory(pattern(count * layers * segment, seed))
    pointers = [[memory.at((layer * count + block) * segment) for layer in range(layers)] for block in range(count)]
    return memory, pointers, [[segment] * layers for _ in range(count)]


def test_vllm(master, key):
    worker = MooncakeDistributedStore()
    assert worker.setup("127.0.0.1", "P2PHANDSHAKE", 48 << 20, 64 << 20, "rdma", "", master.address,
                        tenant_id=f"vllm-{key[-8:]}") == 0
    config = ReplicateConfig()
    config.preferred_segment = worker.get_hostname()
    assert hasattr(config, "group_ids")
    source, pointers, sizes = blocks(32, 32, 4096)
    into, targets, _ = blocks(32, 32, 4096, seed=1)
    for memory in (source, into):
        assert worker.register_buffer(memory.ptr, memory.size) == 0
    keys = [f"{key}@tp_rank:0@pcp0@dcp0@pp_rank:0@group:0@{n:064x}" for n in range(32)]
    lookups = []
    with ThreadPoolExecutor(3) as pool:
        looking = pool.submit(lambda: [lookups.append(worker.batch_is_exist(keys)) for _ in range(50)])
        there = worker.batch_is_exist(keys)
        assert there == [0] * 32
        config.group_ids = [f"vllm-mooncake-store:x:{key}"] * 32
        assert pool.submit(worker.batch_put_from_multi_buffers, keys, pointers, sizes, config).result(60) == [0] * 32
        assert pool.submit(worker.batch_get_into_multi_buffers, keys, targets, sizes).result(60) == [32 * 4096] * 32
        looking.result(60)
    assert bytes(into) == bytes(source)
    assert all(set(one) <= {0, 1} and len(one) == 32 for one in lookups)
    described = worker.batch_get_replica_desc(keys)
    assert set(described) == set(keys) and described[keys[0]][0].is_memory_replica()
    missing = worker.batch_get_into_multi_buffers([keys[0], key + "missing"], targets[:2], sizes[:2])
    assert missing[0] > 0 > missing[1]
    assert worker.remove_all(force=True) == 32 and worker.batch_is_exist(keys) == [0] * 32
    assert worker.close() == 0


def test_vllm_encoder_cache(address, key):
    """A header of 24 bytes and the tensor's bytes as one value; memory is registered for each call."""
    store = set_up(address, 32 << 20)
    shared = ReplicateConfig()
    shared.data_type = ObjectDataType.TENSOR
    header, tensor = Memory(struct.pack("<IIQQ", 0x4D4F4F4E, 12, 100, 512)), Memory(pattern(100 * 512 * 2))
    assert store.batch_is_exist([key]) == [0]
    for one in (header, tensor):
        assert store.register_buffer(one.ptr, one.size) == 0
    stored = store.batch_put_from_multi_buffers([key], [[header.ptr, tensor.ptr]], [[header.size, tensor.size]],
                                                copy.copy(shared))
    assert stored == [0] and type(stored[0]) is int
    for one in (tensor, header):
        assert store.unregister_buffer(one.ptr) == 0
    into = Memory(1 << 20)
    assert store.register_buffer(into.ptr, into.size) == 0
    got = store.batch_get_into([key, key + "no"], [into.ptr, into.at(1 << 19)], [1 << 19] * 2)
    assert got == [header.size + tensor.size, -704] and all(type(one) is int for one in got)
    assert bytes(into)[:got[0]] == bytes(header) + bytes(tensor)
    ranges = store.get_into_ranges([into.ptr], [[key]], [[[0, 64]]], [[[0, 24]]], [[[24, 1000]]])
    assert ranges == [[[24, 1000]]] and bytes(into)[64:1064] == bytes(tensor)[:1000]
    assert store.unregister_buffer(into.ptr) == 0 and store.close() == 0


def test_vllm_ascend(master, key):
    engine = TransferEngine()
    assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "ascend", "") == 0
    worker, scheduler = MooncakeDistributedStore(), MooncakeDistributedStore()
    local = f"127.0.0.1:{engine.get_rpc_port()}"
    common = {"metadata_server": "P2PHANDSHAKE", "protocol": "ascend", "rdma_devices": "",
              "master_server_addr": master.address, "engine": engine.get_engine()}
    assert worker.setup(local_hostname=local, global_segment_size=48 << 20, local_buffer_size=1 << 20,
                        enable_ssd_offload=False, ssd_offload_path="", **common) == 0
    assert scheduler.setup(local_hostname="127.0.0.1", global_segment_size=0, local_buffer_size=0, **common) == 0
    source, pointers, sizes = blocks(16, 122, 1152)
    into, targets, _ = blocks(16, 122, 1152, seed=1)
    assert engine.register_memory(source.ptr, source.size) == 0  # with the engine, never with the store
    config = ReplicateConfig()
    config.preferred_segment = local
    config.prefer_alloc_in_same_node = True
    keys = [f"{key}@pcp0@dcp0@head_or_tp_rank:0@pp_rank:0@group:0@cache_role:kv@cache_family:default@{n:x}"
            for n in range(16)]
    failed = threading.Event()

    def run(call, *args):
        if any(code < 0 for code in call(*args)):
            failed.set()

    for step in ((worker.batch_put_from_multi_buffers, keys, pointers, sizes, config),
                 (worker.batch_get_into_multi_buffers, keys, targets, sizes)):
        thread = threading.Thread(target=run, args=step)
        thread.start()
        thread.join(60)
        assert not failed.is_set()
    assert bytes(into) == bytes(source)
    # The scheduler asks for the keys of all ranks at once.
    asked = [one.replace("rank:0@pp", f"rank:{rank}@pp") for rank in range(16) for one in keys]
    assert scheduler.batch_is_exist(asked) == [1] * 16 + [0] * 240
    where = worker.get_replica_desc(keys[0])[0].get_memory_descriptor().buffer_descriptor.transport_endpoint
    assert where == local
    for one in (scheduler, worker):
        assert one.close() == 0
    engine.close()


def test_sglang(master, key):
    # The server is looked for on its metrics port until a process has lent memory.
    first = set_up(master.address, 32 << 20)
    status, _, text = http(f"http://127.0.0.1:{master.http_port}/get_all_segments")
    assert status == 200 and first.get_hostname() in text.splitlines()
    cache = MooncakeDistributedStore()
    arguments = ("127.0.0.1", "P2PHANDSHAKE", (64 << 20) // 2, 16 << 20, "rdma", "", master.address, None)
    try:
        assert cache.setup(*arguments, ssd_option_of_a_later_version=True) == 0
        raise AssertionError("an unknown argument must be refused")
    except TypeError as error:
        assert "ssd_option_of_a_later_version" in str(error)
    assert cache.setup(*arguments) == 0
    warm = bytes(4096)
    assert cache.put(key + "warmup", warm) == 0
    assert cache.is_exist(key + "warmup") == 1 and cache.get(key + "warmup") == warm
    allocator = MooncakeHostMemAllocator()
    base = allocator.alloc(256 * 16384)
    assert base and cache.register_buffer(base, 256 * 16384) == 0
    keys = [f"{key}{page:064x}_0_{half}" for page in range(128) for half in "kv"]
    pointers, sizes = [base + n * 16384 for n in range(256)], [16384] * 256
    there = cache.batch_is_exist(keys)
    new = [n for n, found in enumerate(there) if found != 1]
    stored = cache.batch_put_from([keys[n] for n in new], [pointers[n] for n in new], [sizes[n] for n in new])
    assert stored == [0] * 256
    with ThreadPoolExecutor(3) as pool:
        for got in pool.map(lambda _: cache.batch_get_into(keys, pointers, sizes), range(3)):
            assert all(size > 0 for size in got)
    assert cache.batch_is_exist(keys + [key + "no"]) == [1] * 256 + [0]
    # Groups, and several pieces per key (MLA, layer by layer); what is there already leaves nothing to put.
    config = ReplicateConfig()
    config.group_ids = [f"sglang-hicache:{key}"] * 4
    assert cache.batch_put_from([f"{key}g{n}" for n in range(4)], pointers[:4], sizes[:4], config) == [0] * 4
    layers = [pointers[n * 8:n * 8 + 8] for n in range(4)]
    mla = [f"{key}{page:064x}__k" for page in range(4)]
    assert cache.batch_put_from_multi_buffers(mla, layers, [[16384] * 8] * 4, ReplicateConfig()) == [0] * 4
    assert cache.batch_get_into_multi_buffers(mla, layers, [[16384] * 8] * 4) == [131072] * 4
    assert cache.batch_put_from([], [], []) == [] == cache.batch_get_into([], [], [])
    # Its store for encoder outputs.
    assert cache.batch_put_from([f"emb_{key}"], pointers[:1], sizes[:1]) == [0]
    assert cache.batch_get_into([f"emb_{key}"], pointers[:1], sizes[:1]) == [16384]
    assert cache.remove_all() >= 0
    assert cache.close() == first.close() == 0
    assert allocator.free(base) == 0 and allocator.free(base) == -1


def test_lmcache_0_3(address, key):
    """put_parts of a header and the values; get_buffer; the answer of setup() is not looked at."""
    connector, lookup = MooncakeDistributedStore(), MooncakeDistributedStore()
    connector.setup("127.0.0.1", "etcd://127.0.0.1:2377", 48 << 20, 1 << 20, "tcp", "", address)
    lookup.setup("localhost", "P2PHANDSHAKE", 0, 16 * 1024 * 1024, "tcp", "", address)
    chunks = {f"vllm@{key}@1@0@{n:x}": pattern(2 << 20, n) for n in range(6)}
    header = struct.pack("<7i", *range(7))

    async def run():
        for name, value in chunks.items():
            assert not connector.is_exist(name)
            put = functools.partial(connector.put_parts, name, header, value, config=ReplicateConfig())
            await asyncio.wait_for(asyncio.to_thread(put), 60)
        got = await asyncio.gather(*(asyncio.to_thread(connector.get_buffer, name) for name in chunks))
        for handle, value in zip(got, chunks.values()):
            view = memoryview(handle)
            assert bytes(view[:28]) == header and view[28:] == value

    asyncio.run(run())
    found = 0
    for code in lookup.batch_is_exist([*list(chunks)[:3], "missing", *list(chunks)[3:]]):
        if code != 1:
            break
        found += 1
    assert found == 3
    assert connector.close() == 0  # the lookup client never closes


def test_lmcache_0_5(address, key):
    """Registered memory, chunks without a header, a last chunk that is shorter."""
    store = set_up(address, 48 << 20)
    pinned = Memory(pattern(4 << 20))
    assert store.register_buffer(pinned.ptr, pinned.size) == 0
    config = ReplicateConfig()
    config.preferred_segment = store.get_hostname()
    config.prefer_alloc_in_same_node = True
    keys = [f"{key}@1@0@{n:x}@bfloat16" for n in range(4)]
    sizes = [1 << 20] * 3 + [300 << 10]
    codes = store.batch_put_from(keys, [pinned.at(n << 20) for n in range(4)], sizes, config)
    assert len(codes) == 4 and all(code == 0 for code in codes)
    assert store.put_from(keys[0], pinned.ptr, 1 << 20, config) == 0
    into = Memory(4 << 20)
    assert store.batch_get_into(keys + ["missing"], [into.at(n << 20) for n in range(4)] + [into.ptr],
                                [1 << 20] * 5) == [*sizes, -704]
    assert bytes(into)[:(3 << 20) + (300 << 10)] == bytes(pinned)[:(3 << 20) + (300 << 10)]
    assert [store.is_exist(one) for one in keys] == [1] * 4
    handles = store.batch_get_buffer(keys)
    assert [len(handle) for handle in handles] == sizes
    assert store.unregister_buffer(pinned.ptr) == 0 and store.close() == 0


def test_mindie(address, key):
    engine = TransferEngine()
    assert engine.initialize("localhost", "P2PHANDSHAKE", "ascend", "") == 0
    store, scheduler = MooncakeDistributedStore(), MooncakeDistributedStore()
    assert store.setup(f"localhost:{engine.get_rpc_port()}", "P2PHANDSHAKE", 48 << 20, 0, "ascend", "", address,
                       engine.get_engine()) == 0
    assert scheduler.setup("localhost", "P2PHANDSHAKE", 0, 0, "ascend_no_transport", "", address,
                           engine.get_engine()) == 0
    source, pointers, sizes = blocks(4, 64, 2048)
    into, targets, _ = blocks(4, 64, 2048, seed=1)
    for layer in range(64):
        store.register_buffer(source.at(layer * 4 * 2048), 4 * 2048)
    config = ReplicateConfig()
    config.preferred_segment = store.get_hostname()
    config.prefer_alloc_in_same_node = True
    keys = [f"{n:x}_0_1_{key}" for n in range(4)]
    assert store.batch_put_from_multi_buffers(keys, pointers, sizes, config) == [0] * 4
    assert store.batch_get_into_multi_buffers(keys, targets, sizes, True) == [sum(one) for one in sizes]
    assert bytes(into) == bytes(source)
    assert scheduler.batch_is_exist(keys) == [1] * 4 and scheduler.is_exist(keys[0]) == 1
    # The older form.
    old = MooncakeDistributedStore()
    assert old.setup("localhost:8793:npu_3", "P2PHANDSHAKE", 8 << 20, 0, "ascend", "", address) == 0
    assert old.batch_put_from_ascend(key, pointers[0], sizes[0])[0] == 0
    assert old.batch_get_into_ascend(key, targets[0], sizes[0])[0] == sum(sizes[0])
    for one in (old, scheduler, store):
        assert one.close() == 0
    engine.close()


def test_jiusi_kv(address, key):
    store = MooncakeDistributedStore()
    assert store.setup("127.0.0.1", "http://127.0.0.1:8081/metadata", 48 << 20, 1 << 30, "tcp", "", address) == 0
    source, pointers, sizes = blocks(8, 16, 8192)
    assert store.register_buffer(source.ptr, source.size) == 0
    config = ReplicateConfig()
    config.replica_num = 1
    config.prefer_alloc_in_same_node = True
    keys = [f"{key}/Qwen2.5-7B@1@0@{n:064x}" for n in range(8)]
    with ThreadPoolExecutor(32) as pool:  # as each of its transfer threads has
        for n, stored in enumerate(pool.map(lambda n: store.batch_put_from_multi_buffers(
                keys[n:n + 1], pointers[n:n + 1], sizes[n:n + 1], config), range(8))):
            assert stored == [0], n
        assert all(got[0] > 0 for got in pool.map(lambda n: store.batch_get_into_multi_buffers(
            keys[n % 8:n % 8 + 1], pointers[n % 8:n % 8 + 1], sizes[:1], True), range(64)))
    # Its first-in-first-out removal names one key at a time; what was read just now stays.
    assert store.remove_by_regex(f"^(?:{re.escape(keys[0])})$") == 0
    assert store.remove_by_regex(f"^(?:{re.escape(keys[0])})$", force=True) == 1
    assert store.remove_by_regex(f"^(?:{keys[1]})$", True) == 1
    assert store.batch_is_exist(keys) == [0, 0] + [1] * 6
    assert store.unregister_buffer(source.ptr, 1) == 0 and store.close() == 0


def test_jiusi_encoder_cache(address, key):
    """A JSON value beside each tensor; calls from an asyncio loop's thread; the consumer lends no memory."""
    producer, consumer = set_up(address, 48 << 20), set_up(address, 0)
    pool = Memory(pattern(2 << 20))
    into = Memory(2 << 20)
    assert producer.register_buffer(pool.ptr, pool.size) == consumer.register_buffer(into.ptr, into.size) == 0
    config = ReplicateConfig()
    hashes = [f"{key}{n:x}" for n in range(4)]
    notes = [json.dumps({"shape": [n + 1, 1024], "dtype": "bfloat16"}).encode() for n in range(4)]

    async def save():
        metadata = await asyncio.wait_for(asyncio.to_thread(
            producer.put_batch, [f"{one}_metadata" for one in hashes], notes, config), 60)
        values = await asyncio.wait_for(asyncio.to_thread(
            producer.batch_put_from, hashes, [pool.at(n << 19) for n in range(4)], [1 << 19] * 4, config), 60)
        return metadata, values

    assert asyncio.run(save()) == (0, [0] * 4)
    assert consumer.batch_is_exist(hashes + ["no"]) == [1] * 4 + [0]
    assert consumer.get_batch([f"{one}_metadata" for one in [*hashes, "no"]]) == [*notes, b""]
    assert consumer.batch_get_into(hashes, [into.at(n << 19) for n in range(4)], [1 << 19] * 4) == [1 << 19] * 4
    assert bytes(into) == bytes(pool)
    # Without registered memory: the length of the note, the note and the data in one value.
    packed = [struct.pack("<I", len(note)) + note + pattern(1000, n) for n, note in enumerate(notes)]
    assert producer.put_batch([f"{one}_slow" for one in hashes], packed, config) == 0
    assert consumer.get_batch([f"{one}_slow" for one in hashes]) == packed
    gone = f"^(?:{hashes[0]}|{hashes[0]}_metadata)$"
    assert producer.remove_by_regex(gone, True) == 2 and producer.remove_by_regex(gone) == 0
    assert producer.unregister_buffer(pool.ptr, pool.size) == 0
    assert copy.copy(config).replica_num == 1
    assert producer.close() == consumer.close() == 0


def test_ucm(address, key):
    store = set_up(address, 16 << 20)
    name = f"{key}_0"
    assert store.is_exist(name) == 0 and store.put(name, pattern(100_000)) == 0
    assert store.is_exist(name) == 1 and store.get(name) == pattern(100_000) and not store.get(key + "_1")
    assert store.close() == 0


@pytest.mark.parametrize("pattern_text, gone", [
    ("^a", 2), ("b$", 2), ("a.b", 1), ("^a/1$", 1), ("^(?:a/1|b)$", 2), (r"^a\/1$", 1), ("^x|b$", 2),
    (".*", 3), ("[", -600),
    ("^ab?/", 2), ("nothing", 0)])
def test_patterns(master, pattern_text, gone):
    store = set_up(master.address, 8 << 20)
    store.remove_all(force=True)
    assert store.put_batch(["a/1", "a/b", "b"], [b"1", b"2", b"3"]) == 0
    assert store.remove_by_regex(pattern_text) == gone
    store.close()
