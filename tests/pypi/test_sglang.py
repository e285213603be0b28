"""SGLang's own HiCache backends (mooncake, memcache), its store for encoder outputs and its transfer engine, over our
modules. What stands in for modules of its own is listed below: those describe memory of GPUs, or import kernels."""
import dataclasses
import importlib.util
import sys
import threading
import types

import pytest

torch = pytest.importorskip("torch")
_found = importlib.util.find_spec("sglang")
if _found is None:
    pytest.skip("sglang is not installed", allow_module_level=True)

from mooncake_support import Command, Memory, set_up  # noqa: E402


def stand_in(name, **members):
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    return module


@dataclasses.dataclass
class StorageMetrics:
    prefetch_pgs: list = dataclasses.field(default_factory=list)
    backup_pgs: list = dataclasses.field(default_factory=list)
    prefetch_bandwidth: list = dataclasses.field(default_factory=list)
    backup_bandwidth: list = dataclasses.field(default_factory=list)


class HostKVCache:
    """The base of host pools."""


class HostTensorAllocator:
    def __init__(self):
        self.dims = self.dtype = None


def run_with_deadline(call, *, timeout_s, what):
    return call()


# The package without what its __init__ imports, and the modules that import kernels.
package = stand_in("sglang", __spec__=_found)
package.__path__ = list(_found.submodule_search_locations)
stand_in("sglang.srt.mem_cache.pool_host", HostKVCache=HostKVCache, HostTensorAllocator=HostTensorAllocator)
stand_in("sglang.srt.mem_cache.pool_host.mla", MLATokenToKVPoolHost=type("MLATokenToKVPoolHost", (HostKVCache,), {}))
stand_in("sglang.srt.mem_cache.memory_pool_host", HostKVCache=HostKVCache)
stand_in("sglang.srt.mem_cache.hybrid_cache.linker_pool_assembler", DevicePoolEntry=type("DevicePoolEntry", (), {}))
stand_in("sglang.srt.observability.metrics_collector", StorageMetrics=StorageMetrics)
stand_in("sglang.srt.runtime_context", get_disagg=None, get_exec=None, get_memory=None)
stand_in("sglang.srt.utils").__path__ = [f"{path}/srt/utils" for path in _found.submodule_search_locations]
stand_in("sglang.srt.utils.common", run_with_deadline=run_with_deadline)
stand_in("sglang.srt.distributed").__path__ = [f"{path}/srt/distributed" for path in _found.submodule_search_locations]
parallel_state = stand_in("sglang.srt.distributed.parallel_state", get_mooncake_transfer_engine=lambda: None)

from sglang.srt.distributed.device_communicators import mooncake_transfer_engine  # noqa: E402
from sglang.srt.mem_cache.hicache_storage import (HiCacheStorageConfig, PoolHitPolicy, PoolName,  # noqa: E402
                                                  PoolTransfer)
from sglang.srt.mem_cache.storage.mooncake_store import mooncake_embedding_store, mooncake_store  # noqa: E402
from sglang.srt.mem_cache.storage.npu_memcache import npu_memcache_store  # noqa: E402

PAGE, LAYERS, ELEMENTS = 64, 8, 128  # tokens of a page; values of a token in a layer
PAGE_BYTES = PAGE * LAYERS * ELEMENTS * 2


class Pool(HostKVCache):
    """Pages of a KV cache in host memory, as the pools of SGLang lay them out: keys and values apart ("page_first"), or
    one of latent values (MLA), a page in one piece or, layer by layer, in several."""

    page_size = PAGE
    layout = "page_first"

    def __init__(self, pages, parts=2, pieces=1, kv_buffer=None):
        if kv_buffer is None:
            torch.manual_seed(pages)
            kv_buffer = torch.randn(parts * pages * PAGE * LAYERS * ELEMENTS).to(torch.bfloat16)
        self.kv_buffer = kv_buffer.view(parts, pages, -1)
        self._pieces = pieces

    def get_page_buffer_meta(self, indices):
        parts, pages, _ = self.kv_buffer.shape
        size = PAGE_BYTES // self._pieces
        pointers = []
        for index in indices.tolist()[::PAGE]:
            for part in range(parts):
                base = self.kv_buffer[part, index // PAGE].data_ptr()
                pointers += [base + piece * size for piece in range(self._pieces)]
        return pointers, [size] * len(pointers)

    def get_hybrid_pool_buffer(self):
        return [self.kv_buffer]

    def get_ksize_per_token(self):
        return PAGE_BYTES // PAGE

    def page(self, number):
        return self.kv_buffer[:, number]


def indices(pages):
    return torch.cat([torch.arange(page * PAGE, (page + 1) * PAGE) for page in pages])


def config(extra, mla=False, tp_rank=0, tp_size=1, **more):
    return HiCacheStorageConfig(tp_rank=tp_rank, tp_size=tp_size, pp_rank=0, pp_size=1, attn_cp_rank=0, attn_cp_size=1,
                                is_mla_model=mla, enable_storage_metrics=True, is_page_first_layout=True,
                                model_name="Qwen/Qwen2.5-7B", extra_config=extra, **more)


def hashes(key, count):
    return [f"{key.replace('/', '-')}{page:032x}" for page in range(count)]


@pytest.fixture
def extra(master):
    """Of a pool in which a process has lent memory already, so that the check of the server ends."""
    first = set_up(master.address, 64 << 20)
    yield {"master_server_address": master.address, "local_hostname": "127.0.0.1", "global_segment_size": 64 << 20,
           "metadata_server": "P2PHANDSHAKE", "protocol": "rdma", "device_name": '{"0": "mlx5_0"}',
           "check_server": True, "master_metrics_port": master.http_port}
    first.close()


@pytest.fixture(params=["mooncake", "mooncake with groups", "memcache"])
def opened(request, extra, meta):
    """(make(mla): a backend)"""
    made = []

    def make(**more):
        if request.param == "memcache":
            fields = {"meta_service_url": meta.url, "hcom_url": "tcp://127.0.0.1:0", "dram_size": "64MB",
                      "client_retry_milliseconds": 5000, "no_such_field": 1}
            made.append(npu_memcache_store.NpuMemcacheStore(config({**fields, "device_id": 0}, **more)))
        else:
            grouped = {"enable_group_semantics": True, "extra_backend_tag": "tag"} if "groups" in request.param else {}
            made.append(mooncake_store.MooncakeStore(config({**extra, **grouped}, **more)))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


@pytest.mark.parametrize("mla", [False, True])
def test_pages_go_and_come_back(opened, key, mla):
    backend, pool = opened(mla=mla), Pool(32, parts=1 if mla else 2)
    backend.register_mem_pool_host(pool)
    names = hashes(key, 16)
    want = pool.kv_buffer[:, :16].clone()
    assert backend.batch_exists(names) == 0
    assert backend.batch_set_v1(names[:10], indices(range(10))) == [True] * 10
    assert backend.batch_exists(names) == 10 and backend.exists(names[0]) is False  # its own keys have a suffix
    assert backend.batch_set_v1(names, indices(range(16))) == [True] * 16  # ten are there
    assert backend.batch_get_v1(names, indices(range(16, 32))) == [True] * 16
    assert torch.equal(pool.kv_buffer[:, 16:], want)
    assert backend.batch_get_v1([*names[:2], key + "no"], indices(range(3))) == [True, True, False]
    stats = backend.get_stats()
    assert sum(stats.backup_pgs) > 0 and sum(stats.prefetch_pgs) == 19


def test_a_backup_and_two_prefetches_at_once(opened, key):
    backend, pool = opened(), Pool(48)
    backend.register_mem_pool_host(pool)
    names = hashes(key, 16)
    want = pool.kv_buffer[:, :16].clone()
    done, wrong = threading.Semaphore(0), []

    def backup():
        for page, name in enumerate(names):
            if backend.batch_set_v1([name], indices([page])) != [True]:
                wrong.append(name)
            done.release(2)

    def prefetch(start):
        for page, name in enumerate(names):
            done.acquire()
            while backend.batch_exists(names[:page + 1]) < page + 1:
                pass  # it was the other's
            if backend.batch_get_v1([name], indices([start + page])) != [True]:
                wrong.append(name)

    threads = [threading.Thread(target=backup), *(threading.Thread(target=prefetch, args=(n,)) for n in (16, 32))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong and torch.equal(pool.kv_buffer[:, 16:32], want) and torch.equal(pool.kv_buffer[:, 32:], want)


def test_values_by_their_address(opened, key):
    backend, pool = opened(), Pool(4)
    backend.register_mem_pool_host(pool)
    first, second = pool.page(0)[0], pool.page(1)[0]
    assert backend.set(key, target_location=first.data_ptr(), target_sizes=PAGE_BYTES) is True
    assert backend.exists(key) is True
    assert backend.get(key, target_location=second.data_ptr(), target_sizes=PAGE_BYTES) is not False
    assert torch.equal(first, second)
    names = [key, key + "1"]
    where = [pool.page(page)[0].data_ptr() for page in range(2)]
    assert backend.batch_set(names, target_locations=where, target_sizes=[PAGE_BYTES] * 2) is True
    assert backend.batch_set(names, target_locations=where, target_sizes=[PAGE_BYTES] * 2) is True  # nothing is left


def test_a_page_in_several_pieces(extra, key):
    """MLA with a host pool that is laid out layer by layer: a key has a piece of each layer."""
    backend, pool = mooncake_store.MooncakeStore(config(extra, mla=True)), Pool(8, parts=1, pieces=LAYERS)
    backend.register_mem_pool_host(pool)
    want = pool.kv_buffer[:, :4].clone()
    assert backend.batch_set_v1(hashes(key, 4), indices(range(4))) == [True] * 4
    assert backend.batch_get_v1(hashes(key, 4), indices(range(4, 8))) == [True] * 4
    assert torch.equal(pool.kv_buffer[:, 4:], want)
    backend.store.close()


def test_a_second_pool(extra, key):
    """A draft model's pages beside those of the model: one batch for all pools, hits by their policies."""
    backend, pool, draft = mooncake_store.MooncakeStore(config(extra)), Pool(8), Pool(8)
    backend.register_mem_pool_host(pool)
    backend.register_mem_host_pool_v2(draft, PoolName.DRAFT)
    names = hashes(key, 4)
    draft.kv_buffer.mul_(2)
    want = draft.kv_buffer[:, :3].clone()
    assert backend.batch_set_v1(names, indices(range(4))) == [True] * 4
    stored = backend.batch_set_v2([PoolTransfer(PoolName.DRAFT, host_indices=indices(range(3)), keys=names[:3])])
    assert stored == {PoolName.DRAFT: [True] * 3}
    hits = backend.batch_exists_v2(names, [PoolTransfer(PoolName.DRAFT, keys=names)])
    assert (hits.kv_hit_pages, hits.extra_pool_hit_pages[PoolName.DRAFT]) == (3, 3)
    trailing = PoolTransfer(PoolName.DRAFT, keys=names[:1], hit_policy=PoolHitPolicy.TRAILING_PAGES)
    assert backend.batch_exists_v2(names, [trailing]).restorable_prefix_pages == [1, 2, 3]
    got = backend.batch_get_v2([PoolTransfer(PoolName.DRAFT, host_indices=indices(range(4, 8)), keys=names)])
    assert got == {PoolName.DRAFT: [True] * 3 + [False]} and torch.equal(draft.kv_buffer[:, 4:7], want)
    backend.store.close()


def test_ranks_and_tenants(extra, key, tmp_path):
    """Two ranks with keys of their own; an option that sets a folder for disks; a tenant that sees none of it."""
    ranks = [mooncake_store.MooncakeStore(config(extra, tp_rank=rank, tp_size=2)) for rank in range(2)]
    other = mooncake_store.MooncakeStore(config({**extra, "tenant_id": "other", "enable_ssd_offload": True,
                                                 "ssd_offload_path": str(tmp_path)}))
    pools = [Pool(4) for _ in range(3)]
    for backend, pool in zip([*ranks, other], pools):
        backend.register_mem_pool_host(pool)
    names = hashes(key, 2)
    assert ranks[0].batch_set_v1(names, indices(range(2))) == [True, True]
    assert [backend.batch_exists(names) for backend in (*ranks, other)] == [2, 0, 0]
    assert other.batch_set_v1(names, indices(range(2))) == [True, True] and other.batch_exists(names) == 2
    other.clear()
    assert ranks[0].batch_exists(names) == 2
    for backend in (*ranks, other):
        backend.store.close()


def test_standalone_storage(master, key):
    """A client that lends nothing, memory of MooncakeHostMemAllocator, and a mooncake_client beside it."""
    lender = Command("mooncake_client", f"--master_server_address={master.address}", "--port=0", "--host=127.0.0.1",
                     "--global_segment_size=64 MB")
    try:
        allocator = mooncake_store.MooncakeHostTensorAllocator()
        pool = Pool(8, kv_buffer=allocator.allocate((2, 8, PAGE * LAYERS * ELEMENTS), torch.bfloat16))
        pool.allocator = allocator
        pool.kv_buffer[:, :4] = 1.5
        settings = {"client_server_address": f"127.0.0.1:{lender.port('serving at port')}", "standalone_storage": True}
        backend = mooncake_store.MooncakeStore(config(settings), pool)
        backend.register_mem_pool_host(pool)
        assert backend.batch_set_v1(hashes(key, 4), indices(range(4))) == [True] * 4
        assert backend.batch_get_v1(hashes(key, 4), indices(range(4, 8))) == [True] * 4
        assert (pool.kv_buffer == 1.5).all()
        backend.store.close()
    finally:
        assert lender.stop() == 0


def test_encoder_outputs(extra, key):
    store = mooncake_embedding_store.MooncakeEmbeddingStore(types.SimpleNamespace(extra_config=extra))
    outputs = [torch.randn(100 + n, 512) for n in range(3)]
    back = [torch.empty_like(output) for output in outputs]
    for tensor in (*outputs, *back):
        store.register_buffer(tensor)
    names = [f"{key}{n}" for n in range(3)]
    sizes = [output.nbytes for output in outputs]
    assert store.batch_is_exist(names) == [False] * 3
    assert store.batch_put(names, [output.data_ptr() for output in outputs], sizes) == [True] * 3
    assert store.batch_put(names, [output.data_ptr() for output in outputs], sizes) == [True] * 3
    into = [one.data_ptr() for one in (*back, back[0])]
    assert store.batch_get([*names, key], into, [*sizes, 8]) == [True] * 3 + [False]
    assert all(torch.equal(output, one) for output, one in zip(outputs, back))
    halves = [[output.data_ptr(), output.data_ptr() + output.nbytes // 2] for output in outputs]
    lengths = [[output.nbytes // 2] * 2 for output in outputs]
    parted = [f"{name}parts" for name in names]
    assert store.batch_put_from_multi_buffers(parted, halves, lengths) == [True] * 3
    assert store.batch_get_into_multi_buffers(parted, halves, lengths) == [True] * 3
    store.store.close()


def test_transfer_engine():
    """The engine that its prefill and decode servers share: registration, writes one by one and in batches, probes."""
    one, other = (mooncake_transfer_engine.MooncakeTransferEngine("127.0.0.1", 0, "mlx5_0") for _ in range(2))
    source, target = torch.arange(4096, dtype=torch.int32), torch.zeros(4096, dtype=torch.int32)
    one.register(source.data_ptr(), source.nbytes)
    assert other.batch_register([target.data_ptr()], [target.nbytes]) == 0
    assert one.send_probe(other.get_session_id()) == 0
    assert one.transfer_sync(other.get_session_id(), source.data_ptr(), target.data_ptr(), 4096) == 0
    pieces = [range(base + offset, base + 16384, 4096) for base, offset in ((source.data_ptr(), 4096),
                                                                            (target.data_ptr(), 4096))]
    assert one.batch_transfer_sync(other.get_session_id(), list(pieces[0]), list(pieces[1]), [4096] * 3) == 0
    assert torch.equal(source, target)
    assert other.batch_deregister([target.data_ptr()]) == 0
    assert one.transfer_sync(other.get_session_id(), source.data_ptr(), target.data_ptr(), 4096) < 0
    one.deregister(source.data_ptr())
    with pytest.raises(RuntimeError):
        one.deregister(Memory(8).ptr)
    for engine in (one, other):
        engine.engine.close()


def test_a_store_beside_the_engine_of_the_process(extra, key, monkeypatch):
    """The backend names its segment after the engine that the process has."""
    engine = mooncake_transfer_engine.MooncakeTransferEngine("127.0.0.1", 0, "mlx5_0")
    monkeypatch.setattr(parallel_state, "get_mooncake_transfer_engine", lambda: engine)
    backend, pool = mooncake_store.MooncakeStore(config(extra)), Pool(2)
    assert backend.store.get_hostname() == engine.get_session_id()
    backend.register_mem_pool_host(pool)
    assert backend.batch_set_v1(hashes(key, 1), indices([0])) == [True]
    assert backend.batch_get_v1(hashes(key, 1), indices([1])) == [True] and torch.equal(pool.page(0), pool.page(1))
    backend.store.close()
    engine.engine.close()
