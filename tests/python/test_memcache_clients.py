"""memcache_hybrid: the calls of its clients, in their order, with their shapes, against real daemons too."""
import os
import queue
import threading
from pathlib import Path

import memcache_hybrid
import numpy
import pytest
from memcache_support import Block, Script, conf_text, daemons, in_threads, local_config, meta  # noqa: F401

L2G, G2L = 0, 1
LAYERS = 12
# K and V of each layer, of unequal sizes, as with latent attention and an indexer.
SIZES = [size for _ in range(LAYERS) for size in (8192, 1024)] + [768]


@pytest.fixture(params=["lends memory", "daemons"])
def conf(request, tmp_path, monkeypatch):
    """MMC_LOCAL_CONFIG_PATH, as an engine is started with."""
    if request.param == "daemons":
        url, dram = request.getfixturevalue("daemon_pool").meta_url, "0"
    else:
        url, dram = request.getfixturevalue("meta").url, "64MB"
    path = tmp_path / "mmc-local.conf"
    path.write_text(conf_text(url, dram=dram), encoding="utf-8")
    monkeypatch.setenv("MMC_LOCAL_CONFIG_PATH", str(path))
    return str(path)


@pytest.fixture
def worker(conf):
    """A store as a worker of vllm-ascend opens it."""
    made = memcache_hybrid.DistributedObjectStore()
    assert made.init(0, init_bm=True) == 0
    yield made
    assert made.close() == 0


def block_key(prefix, number, rank=0):
    return (f"/models/DeepSeek-V2-Lite@pcp0@dcp0@head_or_tp_rank:{rank}@pp_rank:0@group:0@cache_role:kv"
            f"@cache_family:default@{prefix}{number:064x}")


def test_vllm_ascend_blocks(worker, key):
    """KV tensors are registered, then one thread sends, one receives and one looks up; results are compared with 0."""
    blocks = [Block(SIZES, seed=i) for i in range(20)]
    for pointer, size in zip(blocks[0].pointers, blocks[0].sizes):
        worker.register_buffer(pointer, size)
    keys = [block_key(key, i) for i in range(len(blocks))]
    todo, sent = queue.Queue(), threading.Event()
    outs = [Block(SIZES) for _ in blocks]
    failed = []

    def send():
        exists = worker.batch_is_exist(keys)
        missing = [i for i, there in enumerate(exists) if there != 1]
        try:
            results = worker.batch_put_from_layers([keys[i] for i in missing], [blocks[i].pointers for i in missing],
                                                   [blocks[i].sizes for i in missing], L2G)
            failed.extend(code for code in results if code != 0)
        finally:
            sent.set()
        todo.put("sent")

    def receive():
        assert todo.get(timeout=60) == "sent"
        results = worker.batch_get_into_layers(keys, [out.pointers for out in outs], [out.sizes for out in outs], G2L)
        failed.extend(code for code in results if code != 0)

    def look_up():
        while True:
            last = sent.is_set()
            exists = worker.batch_is_exist([*keys, key])
            assert len(exists) == len(keys) + 1 and set(exists) <= {0, 1} and exists[-1] == 0
            if last:
                return

    in_threads(lambda i: (send, receive, look_up)[i](), 3)
    assert failed == []
    assert [out.bytes() for out in outs] == [block.bytes() for block in blocks]
    assert worker.batch_is_exist(keys) == [1] * len(keys)


def test_vllm_ascend_a_layer_at_a_time(worker, key):
    """Layer-wise without addresses: a key for each block and layer, one thread that saves and one that loads."""
    sizes = [16 << 10, 148 << 10]
    blocks = [[Block(sizes, seed=block * LAYERS + layer) for layer in range(LAYERS)] for block in range(4)]
    outs = [[Block(sizes) for _ in range(LAYERS)] for _ in blocks]
    saved = queue.Queue()
    codes = []

    def keys_of(layer):
        return [f"{block_key(key, block)}@layer_id:{layer}" for block in range(len(blocks))]

    def save():
        for layer in range(LAYERS):
            rows = [block[layer] for block in blocks]
            codes.extend(worker.batch_put_from_layers(keys_of(layer), [row.pointers for row in rows],
                                                      [row.sizes for row in rows], L2G))
            saved.put(layer)

    def load():
        for _ in range(LAYERS):
            layer = saved.get(timeout=60)
            rows = [out[layer] for out in outs]
            codes.extend(worker.batch_get_into_layers(keys_of(layer), [row.pointers for row in rows],
                                                      [row.sizes for row in rows], G2L))

    in_threads(lambda i: (save, load)[i](), 2)
    assert codes == [0] * (2 * LAYERS * len(blocks))
    assert [[row.bytes() for row in out] for out in outs] == [[row.bytes() for row in block] for block in blocks]


def test_vllm_ascend_load_of_a_block_that_is_gone(worker, key):
    out = Block(SIZES)
    block = Block(SIZES, seed=1)
    assert worker.batch_put_from_layers([block_key(key, 1)], [block.pointers], [block.sizes], L2G) == [0]
    results = worker.batch_get_into_layers([block_key(key, 1), block_key(key, 2)], [out.pointers] * 2, [SIZES] * 2, G2L)
    assert results == [0, -1]


SCHEDULER = """
from memcache_hybrid import DistributedObjectStore
import sys
store = DistributedObjectStore()
assert store.init(0, init_bm=False) == 0
print("ready", flush=True)
for line in sys.stdin:
    prefix, ranks, blocks = line.split()
    keys = [f"model@head_or_tp_rank:{rank}@{prefix}{block}" for block in range(int(blocks))
            for rank in range(int(ranks))]
    got = store.batch_is_exist(keys)
    infos = store.batch_get_key_info(keys)
    assert len(got) == len(keys) == len(infos)
    assert all((info.size() > 0) == (one == 1) for info, one in zip(infos, got))
    ranks = int(ranks)
    rows = [got[at:at + ranks] for at in range(0, len(got), ranks)]
    assert all(set(row) <= {0, 1} for row in rows)
    hits = 0
    for row in rows:
        if 0 in row:
            break
        hits += 1
    print(hits, flush=True)
assert store.close() == 0
"""


def test_vllm_ascend_scheduler_process(worker, conf, key):
    """The scheduler's client is metadata only, and asks for ranks x blocks keys in one call."""
    block = Block([256], seed=1)
    keys = [f"model@head_or_tp_rank:{rank}@{key}{number}" for number in range(100) for rank in range(16)]
    results = worker.batch_put_from_layers(keys, [block.pointers] * len(keys), [block.sizes] * len(keys), L2G)
    assert results == [0] * len(keys)
    assert worker.remove(f"model@head_or_tp_rank:7@{key}60") == 0
    with Script(SCHEDULER, MMC_LOCAL_CONFIG_PATH=conf) as scheduler:
        assert scheduler.line() == "ready"
        scheduler.say(f"{key} 16 256")
        assert scheduler.line() == "60"
        scheduler.say(f"{key}none 16 256")
        assert scheduler.line() == "0"
        assert scheduler.end() == 0


def test_vllm_ascend_layerwise_by_address(worker, key):
    """Save: alloc, a copy per layer, finish. Load: key info, lease, a copy per layer, lease given back."""
    number = 8
    keys = [f"model@{key}{i:064x}@0" for i in range(number)]
    blocks = [Block(SIZES, seed=100 + i) for i in range(number)]
    outs = [Block(SIZES) for _ in range(number)]
    offsets = numpy.concatenate(([0], numpy.cumsum(SIZES)[:-1]))
    saved = threading.Event()

    def save():
        assert [info.size() for info in worker.batch_get_key_info(keys)] == [0] * number
        gvas = numpy.asarray(worker.batch_alloc(keys, [sum(SIZES)] * number), dtype=numpy.int64)
        assert (gvas > 0).all()
        results = dict.fromkeys(keys, 0)
        for piece, size in enumerate(SIZES):
            pointers = numpy.asarray([block.pointers[piece] for block in blocks])
            code = worker.batch_copy(gvas + offsets[piece], pointers, numpy.full(number, size), L2G)
            for name in keys:
                results[name] = results[name] or code
        finish = getattr(worker, "batch_write_finish", None)
        assert finish(keys, [results[name] for name in keys]) == [0] * number
        saved.set()

    def load():
        assert saved.wait(60)
        infos = worker.batch_get_key_info(keys)
        assert all(info.size() > 0 for info in infos)
        gvas = numpy.asarray([info.gva_list()[0] for info in infos], dtype=numpy.int64)
        assert worker.batch_add_lease(keys, 300000) == [0] * number
        for piece, size in enumerate(SIZES):
            pointers = [out.pointers[piece] for out in outs]
            assert worker.batch_copy(gvas + offsets[piece], pointers, [size] * number, G2L) == 0
        assert worker.batch_remove_lease(keys) == 0

    in_threads(lambda i: (save, load)[i](), 2)
    assert [out.bytes() for out in outs] == [block.bytes() for block in blocks]


def test_vllm_ascend_partial_block_is_retried_until_readable(worker, key):
    name = f"model@partial@{key}@0"
    gva = worker.batch_alloc([name], [16])[0]
    assert worker.batch_add_lease([name], 300000) == [-3101]
    assert worker.batch_copy([gva], Block([16], seed=1).pointers, [16], L2G) == 0
    assert worker.batch_write_finish([name], [0]) == [0]
    assert worker.batch_add_lease([name], 300000) == [0]


def test_vllm_ascend_module_names(conf):
    for module in ("memcache_hybrid", "memcache", "pymmc"):
        made = __import__(module, fromlist=["DistributedObjectStore"]).DistributedObjectStore()
        assert made.init(0) == 0
        assert made.put("name", module.encode()) == 0
        assert made.remove("name") == 0
        assert made.close() == 0


def test_mindie(conf, key):
    """Positional init_bm; no buffer is registered; the scheduler's client only asks."""
    made = memcache_hybrid.DistributedObjectStore()
    assert made.init(3, True) == 0
    keys = [f"{i:x}{key}_0_2_DeepSeek" for i in range(6)]
    blocks = [Block([4096] * 2 * LAYERS, seed=i) for i in range(6)]
    outs = [Block([4096] * 2 * LAYERS) for _ in range(6)]
    results = made.batch_put_from_layers(keys, [b.pointers for b in blocks], [b.sizes for b in blocks], L2G)
    assert all(code == 0 for code in results)
    assert made.is_exist(keys[0]) == 1
    assert [one == 1 for one in made.batch_is_exist([*keys, "other"])] == [True] * 6 + [False]
    results = made.batch_get_into_layers(keys, [b.pointers for b in outs], [b.sizes for b in outs], G2L)
    assert all(code == 0 for code in results)
    assert [out.bytes() for out in outs] == [block.bytes() for block in blocks]
    made.close()


def test_mindie_scheduler(conf, key):
    made = memcache_hybrid.DistributedObjectStore()
    assert made.init(0, False) == 0
    assert made.is_exist(key) == 0
    assert made.batch_is_exist([key] * 100) == [0] * 100
    made.close()


def test_sglang(conf, key):
    """Attributes of a LocalConfig set by name, then setup, init, a put of a bytearray, register; one thread backs up
    the pages that are not there, one fetches, one asks."""
    config = memcache_hybrid.LocalConfig()
    lines = dict(line.split(" = ") for line in Path(conf).read_text(encoding="utf-8").splitlines() if " = " in line)
    wanted = {"meta_service_url": lines["ock.mmc.meta_service_url"], "dram_size": "64MB", "protocol": "device_sdma",
              "hcom_url": "tcp://127.0.0.1:0"}
    for name, value in wanted.items():
        assert hasattr(config, name)
        setattr(config, name, value)
    made = memcache_hybrid.DistributedObjectStore()
    assert made.setup(config) == 0
    assert made.init(0, init_bm=True) == 0
    assert made.put(key, bytearray(4 << 20)) == 0
    assert len(made.get(key)) == 4 << 20
    pages, out = Block([4096] * 128, seed=1), Block([4096] * 128)
    for block in (pages, out):
        for pointer in block.pointers:
            assert made.register_buffer(pointer, 4096) == 0
    names = [f"{page:064x}{key}_0_{part}" for page in range(64) for part in "kv"]
    backed_up, ended = threading.Semaphore(0), threading.Event()

    def back_up():
        try:
            for at in range(0, len(names), 32):
                part = slice(at, at + 32)
                assert made.batch_is_exist(names[part]) == [0] * 32
                assert made.batch_put_from(names[part], pages.pointers[part], pages.sizes[part]) == [0] * 32
                backed_up.release()
        finally:
            ended.set()

    def prefetch():
        for at in range(0, len(names), 32):
            assert backed_up.acquire(timeout=60)
            part = slice(at, at + 32)
            assert made.batch_get_into(names[part], out.pointers[part], out.sizes[part]) == [0] * 32

    def ask():
        while not ended.is_set():
            assert set(made.batch_is_exist(names)) <= {0, 1}

    in_threads(lambda i: (back_up, prefetch, ask)[i](), 3)
    assert out.bytes() == pages.bytes()
    made.close()


def test_a_node_that_is_killed_while_threads_read(key):
    """Every call answers codes; values that are read are whole; what survives can be read."""
    made = daemons.Cluster()
    store = memcache_hybrid.DistributedObjectStore()
    try:
        made.start(nodes=2, dram="64MB")
        assert store.setup(local_config(made.meta.url, dram="0", client_timeout_seconds=5)) == 0
        assert store.init(0) == 0
        blocks = [Block([40000, 7000], seed=i) for i in range(20)]
        keys = [block_key(key, i) for i in range(20)]
        results = store.batch_put_from_layers(keys, [b.pointers for b in blocks], [b.sizes for b in blocks], L2G)
        assert results == [0] * 20
        started, stop = threading.Barrier(5), threading.Event()

        def read(number):
            if number == 4:
                started.wait()
                made.locals[0].kill()
                stop.set()
                return
            out = Block([47000])
            started.wait()
            for turn in range(1000):
                done = stop.is_set()
                for block, name in zip(blocks, keys):
                    code = store.batch_get_into_layers([name], [out.pointers], [out.sizes], G2L)[0]
                    assert code <= 0
                    if code == 0:
                        assert out.bytes() == block.bytes()
                if done:
                    return

        in_threads(read, 5)
        out = Block([47000])
        codes = store.batch_get_into_layers(keys, [out.pointers] * 20, [out.sizes] * 20, G2L)
        assert len(codes) == 20 and all(code <= 0 for code in codes)
        assert set(store.batch_is_exist(keys)) <= {0, 1}
        made.meta.kill()
        assert store.batch_is_exist(keys) == [0] * 20
        assert store.put(key, b"x") < 0
    finally:
        store.close()
        made.cleanup()


def test_a_forked_child_opens_a_pool_of_its_own(worker, conf, key):
    assert worker.put(key, b"parent") == 0
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert worker.put(key + "c", b"x") == -3019
            assert worker.get(key) == b""
            own = memcache_hybrid.DistributedObjectStore()
            assert own.init(0, init_bm=False) == 0
            assert own.is_exist(key) == 1
            assert worker.close() == 0
            assert own.is_exist(key) == 1
            assert own.close() == 0
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert worker.get(key) == b"parent"
