"""AsyncClient."""
import asyncio
import gc
import os
import select
import threading

import numpy as np
import pytest

import pymmc
from pymmc import Code, lmcache


def test_all_calls(daemon_pool, key):
    async def main():
        async with pymmc.AsyncClient(daemon_pool.meta_url) as client:
            assert all(await client.put({f"{key}/{i}": bytes([i]) * 1000 for i in range(1, 4)}))
            assert await client.put_one(f"{key}/1", b"again") is False
            keys = [f"{key}/{i}" for i in range(1, 6)]
            assert await client.exists(keys) == [True, True, True, False, False]
            assert await client.prefix(keys) == 3
            assert await client.get(keys[1:4]) == [b"\x02" * 1000, b"\x03" * 1000, None]
            assert await client.get_one(keys[0]) == b"\x01" * 1000
            out = np.zeros(1000, np.uint8)
            end = np.zeros(10, np.uint8)
            results = await client.get_into([(keys[0], out), ("", bytearray(3)), (keys[1], end, 990)])
            assert [r.code for r in results] == [Code.OK, Code.INVALID_ARGUMENT, Code.OK]
            assert (out == 1).all() and (end == 2).all()
            assert [i.size for i in await client.stat(keys[:2])] == [1000, 1000]
            assert sorted((await client.list(key)).keys) == keys[:3]
            view = await client.view(keys[0])
            assert bytes(view) == b"\x01" * 1000
            view.release()
            assert (await client.cluster()).objects >= 3
            assert (await client.remove([keys[0], keys[4]])) == [Code.OK, Code.NOT_FOUND]
            assert await client.remove_by_prefix(key) == 2
            assert client.client.stats().put_bytes >= 3000

    asyncio.run(main())


def test_errors_arrive_at_the_caller(local):
    async def main():
        async with pymmc.AsyncClient(client=local) as client:
            with pytest.raises(pymmc.NotFoundError):
                await client.view("nobody")
            with pytest.raises(pymmc.NotFoundError):
                await client.get_one("nobody")
            with pytest.raises(TypeError):
                await client.put([("k", "text")])
            assert await client.put([]) == [] and await client.get([]) == []
            assert await client.put([("", b"x")]) == [Code.INVALID_ARGUMENT]
        with pytest.raises(pymmc.ClosedError):
            await client.exists(["k"])
        await client.close()

    asyncio.run(main())
    assert not local.closed


def test_before_connecting():
    client = pymmc.AsyncClient("local://?dram=16MB")
    with pytest.raises(pymmc.ClosedError):
        asyncio.run(client.exists(["k"]))


def test_many_calls_at_once_need_few_threads(local):
    async def main():
        async with pymmc.AsyncClient(client=local) as client:
            before = threading.active_count()
            tasks_before = len(os.listdir("/proc/self/task"))
            values = {f"k/{i}": np.random.default_rng(i).bytes(20_000) for i in range(500)}
            await asyncio.gather(*(client.put_one(k, v) for k, v in values.items()))
            assert await asyncio.gather(*(client.get_one(k) for k in values)) == list(values.values())
            assert threading.active_count() == before
            assert len(os.listdir("/proc/self/task")) <= tasks_before + 10  # a few, not one per call

    asyncio.run(main())


def test_a_full_queue_is_an_error():
    async def main():
        client = pymmc.AsyncClient(client=pinned_full)
        async with client:
            calls = [asyncio.ensure_future(client.put([(f"w/{i}", b"x" * (7 << 20))], timeout=1)) for i in range(4)]
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert any(isinstance(d, pymmc.QueueFullError) for d in done)
            # One that has waited in the queue may have too little time left to be told why.
            assert all(isinstance(d, pymmc.QueueFullError) or d[0] in (Code.NO_SPACE, Code.DEADLINE) for d in done)

    with pymmc.Cluster.local("8MB") as cluster:
        with cluster.client(async_threads=1, async_queue=1) as pinned_full:
            pinned_full.put_one("pinned", b"x" * (7 << 20))
            view = pinned_full.view("pinned")
            asyncio.run(main())
            view.release()


def test_cancelled_transfers_end_before_the_await_does():
    """The put waits for space; cancelled, it must still hold its buffer until it is over."""
    data = bytearray(b"x" * (7 << 20))

    async def main(client, view):
        async with pymmc.AsyncClient(client=client) as asynchronous:
            put = asyncio.ensure_future(asynchronous.put([("wanted", data)], timeout=60))
            while not asynchronous._calls:
                await asyncio.sleep(0)
            put.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not put.done()
            with pytest.raises(BufferError):
                data.extend(b"more")
            view.release()
            with pytest.raises(asyncio.CancelledError):
                await put
            data.extend(b"more")

    with pymmc.Cluster.local("8MB", lease=0.05) as cluster, cluster.client() as client:
        client.put_one("pinned", b"y" * (7 << 20))
        asyncio.run(main(client, client.view("pinned")))
        assert client.get_one("wanted") == b"x" * (7 << 20)


def test_a_queue_left_behind_holds_its_buffers():
    with pymmc.Cluster.local("8MB", lease=0.05) as cluster, cluster.client() as client:
        client.put_one("pinned", b"y" * (7 << 20))
        view = client.view("pinned")
        data = bytearray(b"x" * (7 << 20))
        queue = pymmc._pymmc.AsyncQueue(client)
        queue.put([("wanted", data)], timeout=60)
        del queue
        gc.collect()
        with pytest.raises(BufferError):
            data.extend(b"more")
        view.release()
        client.close()  # ends what runs
        data.extend(b"more")


def test_two_loops_share_a_client(local):
    async def main(name):
        async with pymmc.AsyncClient(client=local) as client:
            for i in range(50):
                await client.put_one(f"{name}/{i}", f"{name}{i}".encode())
            return await client.get([f"{name}/{i}" for i in range(50)])

    answers = {}
    threads = [threading.Thread(target=lambda n=n: answers.update({n: asyncio.run(main(n))})) for n in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: [f"{n}{i}".encode() for i in range(50)] for n in ("a", "b", "c")}


def test_exists_with_a_lease(key):
    async def run():
        async with pymmc.AsyncClient("local://?dram=64MB") as client:
            assert all(await client.put({key: b"value"}))
            assert await client.exists([key, "absent"], lease=60) == [True, False]
            assert (await client.stat([key]))[0].lease_left > 30

    asyncio.run(run())


def test_closed_and_connected_again():
    async def run():
        client = pymmc.AsyncClient("local://?dram=16MB")
        for turn in range(2):
            assert await client.connect() is await client.connect() is client
            assert await client.put_one(f"k{turn}", b"x")
            await asyncio.gather(client.close(), client.close())
            with pytest.raises(pymmc.ClosedError):
                await client.exists(["k"])
            assert client.client.closed

    asyncio.run(run())


def test_two_connect_at_once():
    async def run():
        client = pymmc.AsyncClient("local://?dram=16MB")
        await asyncio.gather(client.connect(), client.connect())
        assert await client.put_one("k", b"x") and await client.get_one("k") == b"x"
        await client.close()

    asyncio.run(run())


def test_close_goes_on_when_its_caller_is_cancelled():
    async def main(view):
        async with pymmc.AsyncClient(cluster.meta_url) as client:
            put = asyncio.ensure_future(client.put([("wanted", b"x" * (7 << 20))], timeout=60))
            while not client._calls:
                await asyncio.sleep(0)
            closing = asyncio.ensure_future(client.close())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            view.release()
            assert (await put)[0].ok
            await client.close()
            assert client.client.closed

    with pymmc.Cluster.local("8MB", lease=0.05) as cluster, cluster.client() as other:
        other.put_one("pinned", b"y" * (7 << 20))
        asyncio.run(main(other.view("pinned")))


def test_the_native_plug_in_of_lmcache(daemon_pool, key):
    """Its calls as an L2 adapter makes them: submit, wait for the descriptor, drain."""
    connector = lmcache.Connector(daemon_pool.meta_url, timeout=30)

    def ended(future):
        assert select.select([connector.event_fd()], [], [], 60)[0]
        ((number, fine, error, bools),) = connector.drain_completions()
        assert number == future
        return fine, bool(error), bools

    keys = [f"{key}@{n:08x}" for n in range(3)]
    values = [bytes([n]) * 5000 for n in (1, 2)]
    try:
        assert ended(connector.submit_batch_set(keys[:2], list(map(memoryview, values)))) == (True, False, [True, True])
        assert ended(connector.submit_batch_set(keys[:1], [memoryview(b"other")])) == (True, False, [True])
        assert ended(connector.submit_batch_exists(keys)) == (True, False, [True, True, False])
        rooms = [bytearray(5000) for _ in keys]
        assert ended(connector.submit_batch_get(keys, list(map(memoryview, rooms)))) == (False, True,
                                                                                         [True, True, False])
        assert rooms[:2] == values
        assert ended(connector.submit_batch_delete(keys[1:])) == (False, True, [True, False])
        assert ended(connector.submit_batch_exists(keys)) == (True, False, [True, False, False])
        with pytest.raises(ValueError, match="3 keys with 2"):
            connector.submit_batch_get(keys, list(map(memoryview, values)))
        with pytest.raises(ValueError, match="1 keys with 2"):
            connector.submit_batch_set(keys[:1], list(map(memoryview, values)))
        assert connector.drain_completions() == []
    finally:
        connector.close()
        connector.close()
    with pytest.raises(pymmc.ClosedError):
        connector.submit_batch_exists(keys)
