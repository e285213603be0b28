"""Views: bytes in place, pinned as long as anything of them lives."""
import gc

import numpy as np
import pytest

import pymmc


def pins(client, key):
    return client.stat([key])[0].pins


def test_a_view_is_the_value(local):
    value = np.random.default_rng(5).bytes(100_000)
    local.put_one("v", value)
    with local.view("v") as view:
        assert len(view) == view.nbytes == 100_000
        assert bytes(view) == value
        with memoryview(view) as memory:
            assert memory.readonly and memory == value
        assert b"".join(view.pieces()) == value
        assert np.array_equal(np.frombuffer(view, np.uint8), np.frombuffer(value, np.uint8))


def test_pinned_until_the_last_user_is_gone(local, eventually):
    local.put_one("v", b"x" * 1000)
    view = local.view("v")
    array = np.frombuffer(view, np.uint8)
    piece = view.pieces()[0]
    assert pins(local, "v") == 1
    del view
    gc.collect()
    assert pins(local, "v") == 1 and array.sum() == 120_000
    del array
    gc.collect()
    assert pins(local, "v") == 1 and bytes(piece) == b"x" * 1000
    del piece
    eventually(lambda: pins(local, "v") == 0, "the unpin")


def test_release(local, eventually):
    local.put_one("v", b"x")
    view = local.view("v")
    memory = memoryview(view)
    with pytest.raises(BufferError):
        view.release()
    memory.release()
    view.release()
    view.release()
    assert view.released and len(view) == 1
    eventually(lambda: pins(local, "v") == 0, "the unpin")
    with pytest.raises(BufferError):
        memoryview(view)
    for use in (view.pieces, lambda: bytes(view)):
        with pytest.raises(pymmc.InvalidArgumentError, match="released"):
            use()


def test_a_pinned_value_is_not_evicted():
    with pymmc.Cluster.local("8MB", lease=0.05) as cluster, cluster.client() as client:
        value = np.random.default_rng(6).bytes(3 << 20)
        client.put_one("pinned", value)
        view = client.view("pinned")
        for i in range(8):
            assert client.put_one(f"other/{i}", b"z" * (3 << 20), timeout=30)
        assert bytes(view) == value and "pinned" in client
        view.release()


def test_a_view_outlives_its_client(local):
    client = pymmc.Client("local://?dram=16MB")
    client.put_one("v", b"still here")
    kept, closed = client.view("v"), client.view("v")
    del client
    gc.collect()
    assert bytes(kept) == b"still here"
    kept.release()
    other = pymmc.Client("local://?dram=16MB")
    other.put_one("v", b"still here")
    view = other.view("v")
    other.close()
    assert len(bytes(view)) == 10  # readable; not pinned any more
    view.release()
    closed.release()


def test_no_view(local, daemon_pool, key):
    with pytest.raises(pymmc.NotFoundError) as failed:
        local.view("nobody")
    assert failed.value.key == "nobody"
    with daemon_pool.client(same_host=False) as far, daemon_pool.client() as near:
        near.put_one(key, b"x" * 5000)
        with near.view(key) as view:
            assert bytes(view) == b"x" * 5000
        with pytest.raises(pymmc.UnsupportedError):
            far.view(key)


def test_values_in_several_extents():
    with pymmc.Cluster.local("4MB", lease=0.01) as cluster, cluster.client() as client:
        page = 64 << 10
        for i in range(40):
            assert client.put_one(f"k/{i}", bytes([i]) * page)
        for i in range(0, 40, 2):
            assert client.remove([f"k/{i}"])[0].ok
        value = np.random.default_rng(7).bytes(33 * page)
        assert client.put_one("large", value, timeout=20)
        with client.view("large") as view:
            pieces = view.pieces()
            assert b"".join(pieces) == bytes(view) == value
            if len(pieces) > 1:
                with pytest.raises(BufferError, match="pieces"):
                    memoryview(view)
            del pieces
