"""vllm-ascend's own store backends, memcache and mooncake, over our modules: their calls with KV caches of torch."""
import json
import sys
import threading
import types

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm_ascend")

# The one module that is replaced: it needs an NPU's libraries, and the backend takes of it what names folders of disks.
stand_in = types.ModuleType("vllm_ascend.distributed.parallel_state")
stand_in.get_global_rank = lambda parallel_config: 0
sys.modules[stand_in.__name__] = stand_in

from memcache_support import conf_text  # noqa: E402
from vllm_ascend.distributed.kv_transfer.kv_pool.ascend_store.backend import memcache_backend  # noqa: E402
from vllm_ascend.distributed.kv_transfer.kv_pool.ascend_store.backend import mooncake_backend  # noqa: E402

LAYERS, BLOCKS = 27, 16
LATENT, ROPE = 512 * 128, 64 * 128  # values of one block of 128 tokens: DeepSeek's two caches, of unequal size


class Caches:
    """The KV caches of a worker: two tensors a layer."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.tensors = [torch.randn(BLOCKS, size).to(torch.bfloat16) for _ in range(LAYERS) for size in (LATENT, ROPE)]

    def addresses(self, block):
        return [tensor[block].data_ptr() for tensor in self.tensors]

    def sizes(self):
        return [tensor[0].nbytes for tensor in self.tensors]

    def same(self, other, blocks):
        return all(torch.equal(a[b], c[b]) for a, c in zip(self.tensors, other.tensors) for b in blocks)


@pytest.fixture
def memcache(meta, tmp_path, monkeypatch):
    path = tmp_path / "mmc-local.conf"
    path.write_text(conf_text(meta.url, "256MB"))
    monkeypatch.setenv("MMC_LOCAL_CONFIG_PATH", str(path))
    made = memcache_backend.MemcacheBackend(None, local_rank=0)
    yield made
    made.store.close()


@pytest.fixture
def mooncake(master, tmp_path, monkeypatch):
    path = tmp_path / "mooncake.json"
    path.write_text(json.dumps({"metadata_server": "P2PHANDSHAKE", "protocol": "ascend", "device_name": "",
                                "master_server_address": master.address, "global_segment_size": "256MB",
                                "local_buffer_size": "16MB"}))
    monkeypatch.setenv("MOONCAKE_CONFIG_PATH", str(path))
    monkeypatch.setattr(mooncake_backend, "get_ip", lambda: "127.0.0.1")
    made = mooncake_backend.MooncakeBackend(None)
    yield made
    made.store.close()


@pytest.fixture(params=["memcache", "mooncake"])
def backend(request):
    return request.getfixturevalue(request.param)


def keys_of(key, blocks):
    return [f"{key}/model@pcp0@dcp0@head_or_tp_rank:0@pp_rank:0@group:0@cache_role:kv@cache_family:default@{b:064x}"
            for b in blocks]


def test_blocks(backend, key):
    mine, other = Caches(1), Caches(2)
    for caches in (mine, other):
        backend.register_buffer([t.data_ptr() for t in caches.tensors], [t.nbytes for t in caches.tensors])
    blocks = range(BLOCKS)
    keys = keys_of(key, blocks)
    assert list(backend.exists(keys)) == [0] * BLOCKS
    backend.put(keys, [mine.addresses(b) for b in blocks], [mine.sizes()] * BLOCKS)
    assert list(backend.exists([*keys, key])) == [1] * BLOCKS + [0]
    backend.put(keys, [other.addresses(b) for b in blocks], [mine.sizes()] * BLOCKS)  # they are there: nothing changes
    assert backend.get(keys, [other.addresses(b) for b in blocks], [other.sizes()] * BLOCKS) == [0] * BLOCKS
    assert other.same(mine, blocks)
    missing = backend.get([keys[0], key], [other.addresses(0), other.addresses(1)], [other.sizes()] * 2)
    assert missing[0] == 0 and missing[1] < 0


def test_a_sender_a_receiver_and_a_lookup_at_once(backend, key):
    mine, other = Caches(3), Caches(4)
    sent = threading.Semaphore(0)
    got, seen = [], []

    def send():
        for block, name in enumerate(keys_of(key, range(BLOCKS))):
            backend.put([name], [mine.addresses(block)], [mine.sizes()])
            sent.release()

    def receive():
        for block, name in enumerate(keys_of(key, range(BLOCKS))):
            sent.acquire()
            got.extend(backend.get([name], [other.addresses(block)], [other.sizes()]))

    def look_up():
        while len(got) < BLOCKS:
            seen.append(list(backend.exists(keys_of(key, range(BLOCKS)))))

    threads = [threading.Thread(target=work) for work in (send, receive, look_up)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == [0] * BLOCKS and other.same(mine, range(BLOCKS))
    assert all(set(answer) <= {0, 1} for answer in seen)


def test_memcache_layer_by_layer_by_address(memcache, key):
    mine, other = Caches(5), Caches(6)
    sizes = mine.sizes()
    name, total = f"{key}/model@hash@0", sum(sizes)
    (gva,) = memcache.batch_alloc([name], [total])
    assert gva > 0
    offset = 0
    for address, size in zip(mine.addresses(0), sizes):
        assert memcache.store.batch_copy([gva + offset], [address], [size], 0) == 0
        offset += size
    assert memcache.batch_write_finish([name], [0]) == [0]
    assert memcache.batch_add_lease([name], 300000) == [0]
    (info,) = memcache.batch_get_key_info([name])
    assert info.size() == total
    offset = 0
    for address, size in zip(other.addresses(0), sizes):
        assert memcache.store.batch_copy([info.gva_list()[0] + offset], [address], [size], 1) == 0
        offset += size
    assert other.same(mine, [0]) and memcache.batch_remove_lease([name]) == 0


def test_memcache_scheduler_client(memcache, key):
    caches = Caches(7)
    scheduler = memcache_backend.MemcacheBackend.create_scheduler_client(None)
    names = keys_of(key, range(2))
    memcache.put(names, [caches.addresses(b) for b in range(2)], [caches.sizes()] * 2)
    assert list(scheduler.exists([*names, key])) == [1, 1, 0]
    scheduler.store.close()
