"""vLLM's own MooncakeStoreWorker, its sending and receiving threads, and its lookup server and client, with KV caches
in host memory. What stands around a worker in an engine is put in its place: the settings it reads, and its ranks."""
import json
import tempfile
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")

from vllm.distributed.kv_transfer.kv_connector.v1.mooncake.store import data, worker  # noqa: E402
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec  # noqa: E402

LAYERS, BLOCKS, TOKENS, HEADS, SIZE = 8, 32, 16, 2, 64
NAMES = [f"layers.{n}.attention" for n in range(LAYERS)]


def settings():
    return SimpleNamespace(
        model_config=SimpleNamespace(model="an/org/model", get_num_layers=lambda _: LAYERS, enable_sleep_mode=False,
                                     get_total_num_kv_heads=lambda: HEADS, enable_cumem_allocator=False),
        parallel_config=SimpleNamespace(data_parallel_index=0, pipeline_parallel_size=1, rank=0,
                                        decode_context_parallel_size=1),
        kv_transfer_config=SimpleNamespace(kv_role="kv_both", kv_connector_extra_config={}),
        cache_config=SimpleNamespace(block_size=TOKENS, prefix_match_unit=None, enable_prefix_caching=True,
                                     num_gpu_blocks=BLOCKS),
        kv_events_config=None, speculative_config=None)


def caches(seed):
    torch.manual_seed(seed)
    return {name: torch.randn(BLOCKS, 2, TOKENS, HEADS, SIZE).to(torch.bfloat16) for name in NAMES}


@pytest.fixture
def made(master, tmp_path, monkeypatch):
    path = tmp_path / "mooncake.json"
    path.write_text(json.dumps({"metadata_server": "P2PHANDSHAKE", "protocol": "tcp", "local_buffer_size": "16MB",
                                "master_server_address": master.address, "global_segment_size": "64MB"}))
    monkeypatch.setenv("MOONCAKE_CONFIG_PATH", str(path))
    monkeypatch.setenv("MOONCAKE_REQUESTER_LOCAL_HOSTNAME", "127.0.0.1")
    sockets = tempfile.TemporaryDirectory()  # their paths must be short
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", sockets.name)
    alone = SimpleNamespace(world_size=1, rank_in_group=0)
    monkeypatch.setattr(worker, "get_tensor_model_parallel_rank", lambda: 0)
    monkeypatch.setattr(worker, "get_tensor_model_parallel_world_size", lambda: 1)
    monkeypatch.setattr(worker, "get_pcp_group", lambda: alone)
    monkeypatch.setattr(worker, "get_dcp_group", lambda: alone)
    spec = FullAttentionSpec(block_size=TOKENS, num_kv_heads=HEADS, head_size=SIZE, dtype=torch.bfloat16)
    config = KVCacheConfig(num_blocks=BLOCKS, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(NAMES, spec)])
    one = worker.MooncakeStoreWorker(settings(), config)
    client = worker.LookupKeyClient(settings())
    yield one, client
    client.close()
    one.close()
    sockets.cleanup()


def request(name, blocks, hashes, **more):
    return data.ReqMeta(req_id=name, token_len_chunk=len(blocks) * TOKENS, block_ids=(list(blocks),),
                        block_hashes=hashes, token_ids=list(range(len(blocks) * TOKENS)),
                        num_prompt_tokens=len(blocks) * TOKENS, prefill_end_tokens=len(blocks) * TOKENS, **more)


def test_blocks_are_stored_looked_up_and_loaded(made, eventually):
    one, client = made
    mine = caches(1)
    one.register_kv_caches(mine)
    hashes = [bytes([n]) * 32 for n in range(10)]
    tokens = 10 * TOKENS
    assert client.lookup("before", tokens + 1, hashes).hit_length == 0
    # Block 0 is the one that stands for none.
    one.kv_send_thread.add_request(request("a", range(1, 11), hashes, can_save=True, store_job_id=1))
    eventually(lambda: one.kv_send_thread.take_completed_saves() or None, "the blocks to be stored")
    assert client.lookup("after", tokens + 1, hashes).hit_length == tokens
    assert client.lookup("a longer one", tokens + TOKENS + 1, [*hashes, b"\x99" * 32]).hit_length == tokens

    before = {name: cache.clone() for name, cache in mine.items()}
    load = data.LoadSpec(vllm_cached_tokens=0, kvpool_cached_tokens=tokens, can_load=True, token_len=tokens)
    meta = data.MooncakeStoreConnectorMetadata(set(), set())
    meta.add_request(request("b", range(20, 30), hashes, load_spec=load))
    one.start_load_kv(meta)
    eventually(lambda: "b" in one.get_finished(set(), meta)[1], "the blocks to be loaded")
    assert not one.get_block_ids_with_load_errors()
    for name, cache in mine.items():
        assert torch.equal(cache[20:30], before[name][1:11]) and torch.equal(cache[:20], before[name][:20])


def test_blocks_that_are_gone_are_reported(made, eventually):
    one, client = made
    one.register_kv_caches(caches(2))
    hashes = [bytes([100 + n]) * 32 for n in range(4)]
    one.kv_send_thread.add_request(request("a", range(1, 5), hashes, can_save=True, store_job_id=1))
    eventually(lambda: one.kv_send_thread.take_completed_saves() or None, "the blocks to be stored")
    assert client.reset()  # remove_all on the way of an engine's reset
    load = data.LoadSpec(vllm_cached_tokens=0, kvpool_cached_tokens=4 * TOKENS, can_load=True, token_len=4 * TOKENS)
    meta = data.MooncakeStoreConnectorMetadata(set(), set())
    meta.add_request(request("b", range(20, 24), hashes, load_spec=load))
    one.start_load_kv(meta)
    failed = set()
    eventually(lambda: failed.update(one.get_block_ids_with_load_errors()) or failed, "errors of the load")
    assert failed <= set(range(20, 24))
