"""The code around mooncake.engine of LMCache (transfer channel), vLLM (encoder outputs) and vllm-ascend, over ours."""
import threading

import pytest

torch = pytest.importorskip("torch")

from mooncake_support import daemons  # noqa: E402


def numbers(count, start=0):
    return torch.arange(start, start + count, dtype=torch.int32)


@pytest.fixture
def channels():
    """Two contexts of LMCache's transfer channel, over two arenas of memory."""
    pytest.importorskip("lmcache")
    from lmcache.v1.distributed.internal_api import L1MemoryDesc
    from lmcache.v1.distributed.transfer_channel.impl import mooncake_te_impl

    arenas = [numbers(1 << 16), torch.zeros(1 << 16, dtype=torch.int32)]
    made = []
    for arena in arenas:
        url = f"127.0.0.1:{daemons.free_port()}"
        made.append(mooncake_te_impl.create_mooncake_te_transfer_channel_context(
            L1MemoryDesc(ptr=arena.data_ptr(), size=arena.nbytes, align_bytes=4096), url, url))
    yield made, arenas
    for one in made:
        one.close()
        one.mooncake_te_engine.close()


def finished(client, task):
    result = client.query_read_status(task)
    while not result.is_finished():
        result = client.query_read_status(task)
    return result.succeeded_mask


def test_lmcache_reads_objects_of_a_peer(channels):
    (holder, reader), (source, target) = channels
    client = reader.get_transfer_channel_client(holder.advertise_url)
    objects = [(offset, 4096) for offset in range(0, 1 << 18, 8192)]
    here, there = (one.get_transfer_channel_address(objects) for one in (reader, holder))
    tasks = [client.submit_read(here[n:n + 8], there[n:n + 8]) for n in range(0, 32, 8)]
    for task in tasks:
        assert finished(client, task) == [True] * 8
        with pytest.raises(KeyError):
            client.query_read_status(task)
    for offset in range(0, 1 << 16, 2048):
        assert torch.equal(target[offset:offset + 1024], source[offset:offset + 1024])
        assert not target[offset + 1024:offset + 2048].any()
    assert holder.get_num_connected_clients() == 1  # it has learned of the reader


def test_lmcache_and_memory_that_is_gone(channels):
    (holder, reader), _ = channels
    client = reader.get_transfer_channel_client(holder.advertise_url)
    where = reader.get_transfer_channel_address([(0, 4096)])
    assert holder.mooncake_te_engine.unregister_memory(holder.l1_memory_desc.ptr) == 0
    assert finished(client, client.submit_read(where, where)) == [False]
    holder.mooncake_te_engine.close()
    assert finished(client, client.submit_read(where, where)) == [False]


def test_vllm_pushes_encoder_outputs():
    pytest.importorskip("vllm")
    from vllm.distributed.ec_transfer.ec_connector.mooncake.transfer import MooncakeTransfer

    producer, consumer = MooncakeTransfer("127.0.0.1", "tcp"), MooncakeTransfer("127.0.0.1", "rdma")
    batch, cache = numbers(3 * 4096), torch.zeros(3 * 4096, dtype=torch.int32)
    assert consumer.register_memory(cache) == 0
    outputs = batch.split(4096)  # views of one storage, each registered for itself
    failed = []

    def push(number):
        try:
            addresses = producer.acquire_sources([outputs[number]])
            producer.write(consumer.local_session(), addresses, [cache.data_ptr() + number * 16384], [16384])
            assert producer.release_sources(addresses)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and torch.equal(cache, batch)
    assert consumer.unregister_memory(cache) is True and consumer.unregister_memory(cache) is False
    with pytest.raises(RuntimeError):
        producer.write(consumer.local_session(), [batch.data_ptr()], [cache.data_ptr()], [16384])
    for one in (producer, consumer):
        one.close()
        one._engine.close()


def test_vllm_ascend_has_one_engine_for_the_process():
    pytest.importorskip("vllm_ascend")
    from vllm_ascend.distributed.kv_transfer.utils.mooncake_transfer_engine import GlobalTE

    prefill, decode = GlobalTE(), GlobalTE()
    engines = [one.get_transfer_engine("127.0.0.1", None) for one in (prefill, decode)]
    assert prefill.get_transfer_engine("127.0.0.1:1:npu_0", "npu_0") is engines[0]
    keys, values = numbers(8192), numbers(8192, 100_000)
    mine = [torch.zeros(8192, dtype=torch.int32) for _ in range(2)]
    prefill.register_buffer([keys.data_ptr(), values.data_ptr()], [keys.nbytes, values.nbytes])
    decode.register_buffer([one.data_ptr() for one in mine], [one.nbytes for one in mine])
    session = f"127.0.0.1:{engines[0].get_rpc_port()}"
    here = [one.data_ptr() + block * 4096 for one in mine for block in (1, 3, 5)]
    there = [one.data_ptr() + block * 4096 for one in (keys, values) for block in (2, 4, 6)]
    assert engines[1].batch_transfer_sync_read(session, here, there, [4096] * 6) == 0
    for one, of in zip(mine, (keys, values)):
        for to, start in ((1, 2), (3, 4), (5, 6)):
            assert torch.equal(one[to * 1024:to * 1024 + 1024], of[start * 1024:start * 1024 + 1024])
        assert not one[:1024].any() and not one[2048:3072].any()
    for engine in engines:
        engine.close()
