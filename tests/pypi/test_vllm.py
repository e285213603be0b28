"""vLLM's own Mooncake store client for encoder outputs, its configuration and its set-up, over our modules."""
import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")

from vllm.distributed import mooncake_store  # noqa: E402
from vllm.distributed.ec_transfer.ec_connector.mooncake_store_embedding import store_client  # noqa: E402
from vllm.distributed.ec_transfer.ec_connector.mooncake_store_embedding.data import TensorSpec  # noqa: E402
from vllm.distributed.kv_transfer.kv_connector.v1.mooncake.store import worker  # noqa: E402


@pytest.fixture
def config(master, tmp_path, monkeypatch):
    path = tmp_path / "mooncake.json"
    path.write_text(json.dumps({"mode": "embedded", "metadata_server": "P2PHANDSHAKE", "protocol": "tcp",
                                "device_name": "", "master_server_address": master.address,
                                "global_segment_size": "64MB", "local_buffer_size": "16MB"}))
    monkeypatch.setenv("MOONCAKE_CONFIG_PATH", str(path))
    monkeypatch.setenv("MOONCAKE_REQUESTER_LOCAL_HOSTNAME", "127.0.0.1")
    return mooncake_store.MooncakeStoreConfig.load_from_config()


@pytest.fixture
def client(config):
    made = store_client.create_mooncake_embedding_store_client(read_buffer_bytes=8 << 20)
    yield made
    made.close()


def spec(tensor):
    return TensorSpec(tuple(tensor.shape), str(tensor.dtype), tensor.nbytes)


def test_encoder_outputs(client, key):
    tensors = {f"{key}@id:{n}": torch.randn(100 + n, 512).to(dtype) for n, dtype in enumerate(
        [torch.bfloat16, torch.float16, torch.float32])}
    assert client.batch_exists(list(tensors)) == [False] * 3
    for name, tensor in tensors.items():
        client.put_tensor(name, tensor)
    assert client.exists(next(iter(tensors))) and client.batch_exists([*tensors, key]) == [True] * 3 + [False]
    loaded = client.load_tensors({**{name: spec(t) for name, t in tensors.items()},
                                  key: spec(torch.empty(3, 4))}, "cpu")
    assert set(loaded) == set(tensors)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_an_encoder_output_is_put_once(client, key):
    first, second = torch.ones(4, 8), torch.zeros(4, 8)
    client.put_tensor(key, first)
    client.put_tensor(key, second)
    assert torch.equal(client.load_tensors({key: spec(first)}, "cpu")[key], first)


def test_what_the_kv_worker_finds_out(config, key):
    """The set-up of MooncakeStoreWorker and its questions about a store, without a model's KV cache around them."""
    from mooncake.store import MooncakeDistributedStore, ReplicateConfig

    store = MooncakeDistributedStore()
    mooncake_store.setup_mooncake_store(store, config, "127.0.0.1")
    replicas = ReplicateConfig()
    assert worker._replicate_config_supports_group_ids(ReplicateConfig, replicas)
    replicas.group_ids = [f"vllm-mooncake-store:{key}"]
    block = torch.randn(2, 16, 64)
    pieces = [block[0], block[1]]
    pointers, sizes = [[p.data_ptr() for p in pieces]], [[p.nbytes for p in pieces]]
    assert store.register_buffer(block.untyped_storage().data_ptr(), block.untyped_storage().nbytes()) == 0
    assert store.batch_put_from_multi_buffers([key], pointers, sizes, replicas) == [0]
    assert worker._get_replica_tiers_by_key(store, [key]) == {key: "memory"}
    back = torch.zeros_like(block)
    into = [[back[0].data_ptr(), back[1].data_ptr()]]
    assert store.batch_get_into_multi_buffers([key], into, sizes) == [block.nbytes]
    assert torch.equal(back, block)
    assert store.remove_all(force=True) >= 1 and store.close() == 0
