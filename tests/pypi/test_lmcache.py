"""LMCache's own connector, lookup client and L2 adapter over our modules, with its memory objects on a CPU."""
import asyncio
import os
import select
import threading

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lmcache")

from lmcache.utils import CacheEngineKey  # noqa: E402
from lmcache.v1.config import LMCacheEngineConfig  # noqa: E402
from lmcache.v1.distributed.api import ObjectKey  # noqa: E402
from lmcache.v1.distributed.l2_adapters import native_plugin_l2_adapter as native_plugin  # noqa: E402
from lmcache.v1.lookup_client.mooncake_lookup_client import MooncakeLookupClient  # noqa: E402
from lmcache.v1.memory_management import MemoryFormat  # noqa: E402
from lmcache.v1.metadata import LMCacheMetadata  # noqa: E402
from lmcache.v1.storage_backend.connector import CreateConnector  # noqa: E402
from lmcache.v1.storage_backend.local_cpu_backend import LocalCPUBackend  # noqa: E402

CHUNK, LAYERS, HEADS, HEAD = 64, 4, 2, 32


def values(seed, tokens=CHUNK):
    return torch.randn((2, LAYERS, tokens, HEADS * HEAD),
                       generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


class Engine:
    """What LMCache's engine has around a connector: a loop on a thread, a backend of pinned memory, metadata."""

    def __init__(self, master, save_chunk_meta):
        extra = {"local_hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE", "protocol": "tcp",
                 "master_server_address": master, "global_segment_size": 256 << 20, "local_buffer_size": 16 << 20,
                 "transfer_timeout": 30, "save_chunk_meta": save_chunk_meta}
        self.config = LMCacheEngineConfig.from_defaults(
            chunk_size=CHUNK, local_cpu=False, max_local_cpu_size=0.25, remote_url=f"mooncakestore://{master}",
            remote_serde="naive", extra_config=extra)
        self.metadata = LMCacheMetadata("a/model-name", 1, 1, 0, 0, torch.bfloat16, (LAYERS, 2, CHUNK, HEADS, HEAD),
                                        chunk_size=CHUNK)
        self.memory = LocalCPUBackend(self.config, self.metadata, "cpu")
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.connector = CreateConnector(self.config.remote_url, self.loop, self.memory, self.config, self.metadata)

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def chunk(self, seed, tokens=CHUNK):
        """A memory object of LMCache; a put gives it back to the backend, so what it held is values(seed)."""
        made = self.memory.allocate(torch.Size((2, LAYERS, tokens, HEADS * HEAD)), torch.bfloat16, MemoryFormat.KV_2LTD)
        made.tensor.copy_(values(seed, tokens))
        return made

    def key(self, number):
        return CacheEngineKey("a/model-name", 1, 0, number, torch.bfloat16)

    def close(self):
        self.run(self.connector.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)


@pytest.fixture(params=[True, False], ids=["with metadata", "without metadata"])
def engine(request, master):
    made = Engine(master.address, request.param)
    yield made
    made.close()


def test_connector(engine):
    keys = [engine.key(number) for number in range(8)]
    chunks = [engine.chunk(number) for number in range(8)]
    assert not engine.run(engine.connector.exists(keys[0]))
    engine.run(engine.connector.put(keys[0], chunks[0]))
    engine.run(engine.connector.batched_put(keys[1:], chunks[1:]))
    assert engine.run(engine.connector.exists(keys[3])) and engine.connector.exists_sync(keys[3])
    assert engine.run(engine.connector.batched_async_contains("a lookup", [*keys, engine.key(99)])) == 8
    got = engine.run(engine.connector.batched_get([*keys, engine.key(99)]))
    assert got[8] is None
    for number in range(8):
        assert torch.equal(got[number].tensor, values(number))


def test_a_chunk_that_is_not_full(engine):
    if not engine.connector._connector.save_chunk_meta:  # the short read is what matters here
        engine.run(engine.connector.put(engine.key(1000), engine.chunk(5, CHUNK // 4)))
        back = engine.run(engine.connector.batched_get([engine.key(1000)]))[0]
        assert torch.equal(back.tensor, values(5, CHUNK // 4))


def test_many_calls_at_once(engine):
    async def all_of_them():
        await asyncio.gather(*(engine.connector.put(engine.key(n), chunks[n]) for n in range(32)))
        return await asyncio.gather(*(engine.connector.batched_get([engine.key(n)]) for n in range(32)))

    chunks = [engine.chunk(n) for n in range(32)]
    for number, (back,) in enumerate(engine.run(all_of_them())):
        assert torch.equal(back.tensor, values(number))


def test_lookup_client(engine, master):
    lookup = MooncakeLookupClient(engine.config, engine.metadata, master.address)
    tokens = torch.arange(CHUNK * 4)
    assert lookup.lookup(tokens, "a lookup") == 0
    stored = list(lookup.token_database.process_tokens(tokens))
    for start, end, key in stored[:3]:
        engine.run(engine.connector.put(key, engine.chunk(start)))
    assert lookup.lookup(tokens, "a lookup") == CHUNK * 3
    lookup.close()


@pytest.fixture
def adapter(meta):
    config = native_plugin.NativePluginL2AdapterConfig.from_dict({
        "type": "native_plugin", "module_path": "pymmc.lmcache", "class_name": "Connector",
        "adapter_params": {"meta_url": meta.url}, "max_capacity_gb": 1})
    made = native_plugin._create_native_plugin_l2_adapter(config)
    yield made
    made.close()


def wait(fd):
    assert select.select([fd], [], [], 30)[0]
    os.eventfd_read(fd)


def test_native_plugin(adapter, engine):
    keys = [ObjectKey(bytes([number]) * 32, "a/model-name", 3) for number in range(6)]
    chunks = [engine.chunk(number) for number in range(5)]
    task = adapter.submit_store_task(keys[:5], chunks)
    wait(adapter.get_store_event_fd())
    assert adapter.pop_completed_store_tasks()[task]
    task = adapter.submit_lookup_and_lock_task(keys, {})
    wait(adapter.get_lookup_and_lock_event_fd())
    found = adapter.query_lookup_and_lock_result(task)
    assert [found.test(number) for number in range(6)] == [True] * 5 + [False]
    room = [engine.chunk(number + 100) for number in range(6)]
    task = adapter.submit_load_task(keys, room)
    wait(adapter.get_load_event_fd())
    loaded = adapter.query_load_result(task)
    assert [loaded.test(number) for number in range(6)] == [True] * 5 + [False]
    assert all(torch.equal(room[number].tensor, values(number)) for number in range(5))
    adapter.submit_unlock(keys)
    adapter.delete(keys[:2])
    task = adapter.submit_lookup_and_lock_task(keys, {})
    wait(adapter.get_lookup_and_lock_event_fd())
    found = adapter.query_lookup_and_lock_result(task)
    assert [found.test(number) for number in range(6)] == [False] * 2 + [True] * 3 + [False]
