"""memcache_hybrid: values written and read by address."""
import ctypes
import threading

import numpy
import pytest
from memcache_hybrid import _gva
from memcache_support import Block, in_threads, local_config, meta, opened, store  # noqa: F401  (fixtures)

L2G, G2L, G2H, H2G = 0, 1, 2, 3


def test_layer_by_layer_with_addresses_that_the_client_adds_to(store, key):
    layers = [1000, 24, 4096]
    keys = [f"model@{key}@{i}" for i in range(5)]
    blocks = [Block(layers, seed=i) for i in range(5)]
    gvas = numpy.array(store.batch_alloc(keys, [sum(layers)] * 5), dtype=numpy.int64)
    assert (gvas > 0).all()
    assert store.batch_is_exist(keys) == [0] * 5
    offset = 0
    for layer, size in enumerate(layers):
        pointers = numpy.array([block.pointers[layer] for block in blocks])
        assert store.batch_copy(gvas + offset, pointers, numpy.full(5, size), L2G) == 0
        offset += size
    assert store.batch_write_finish(keys, [0] * 5) == [0] * 5
    assert store.batch_is_exist(keys) == [1] * 5
    assert store.get_batch(keys) == [block.bytes() for block in blocks]

    infos = store.batch_get_key_info(keys, flag=1)
    assert [info.size() for info in infos] == [sum(layers)] * 5
    bases = numpy.array([info.gva_list()[0] for info in infos], dtype=numpy.int64)
    assert store.batch_add_lease(keys, 300000) == [0] * 5
    outs = [Block(layers) for _ in range(5)]
    offset = 0
    for layer, size in enumerate(layers):
        assert store.batch_copy(bases + offset, [out.pointers[layer] for out in outs], [size] * 5, G2L) == 0
        offset += size
    assert [out.bytes() for out in outs] == [block.bytes() for block in blocks]
    assert store.batch_remove_lease(keys) == 0


def test_rows_of_layers(store, key):
    block, out = Block([10, 0x10000, 3], seed=1), Block([0x10000, 13])
    gva = store.batch_alloc([key], [sum(block.sizes)])[0]
    assert store.batch_copy_layers([gva], [block.pointers], [block.sizes], H2G) == 0
    assert store.batch_write_finish([key], [0]) == [0]
    assert store.batch_copy_layers([gva], [out.pointers], [out.sizes], G2H) == 0
    assert out.bytes() == block.bytes()


def test_an_address_of_a_written_value_reads_it_and_refuses_writes(store, key):
    block = Block([100], seed=1)
    gva = store.batch_alloc([key], [100])[0]
    assert store.batch_copy([gva], block.pointers, [100], L2G) == 0
    assert store.batch_copy([gva], block.pointers, [100], G2L) == -3101
    assert store.batch_add_lease([key]) == [-3101]
    assert store.batch_write_finish([key], [0]) == [0]
    assert store.batch_copy([gva], block.pointers, [100], L2G) == -3108
    out = Block([50])
    assert store.batch_copy([gva + 50], out.pointers, [50], G2L) == 0
    assert out.bytes() == block.bytes()[50:]
    assert store.batch_write_finish([key], [0]) == [0]


def test_codes_of_alloc(store, key):
    assert store.put(key, b"there") == 0
    gvas = store.batch_alloc([key, key + "1", "", key + "2", key + "3"], [5, 5, 5, 0, -1])
    assert (gvas[0], gvas[2], gvas[3], gvas[4]) == (-3006, -3000, -3000, -3000)
    assert gvas[1] > 0
    assert store.batch_alloc([key + "1"], [5]) == [-3006]
    assert store.batch_alloc([key], [1, 2]) == [-3000]
    assert store.batch_alloc([], []) == []


def test_a_failed_write_leaves_nothing(store, key):
    gva = store.batch_alloc([key], [10])[0]
    assert store.batch_write_finish([key], [-1]) == [0]
    assert store.is_exist(key) == 0
    assert store.batch_copy([gva], Block([10]).pointers, [10], L2G) == -3000
    assert store.batch_write_finish([key], [0]) == [-3102]
    assert store.batch_alloc([key], [10])[0] > 0
    assert store.remove(key) == 0
    assert store.batch_write_finish([key], [0]) == [-3102]


def test_codes_of_copy(store, key):
    block = Block([10], seed=1)
    gva = store.batch_alloc([key], [10])[0]
    pointer = block.pointers[0]
    assert store.batch_copy([gva], [pointer], [11], L2G) == -3000
    assert store.batch_copy([gva + 5], [pointer], [6], L2G) == -3000
    assert store.batch_copy([12345], [pointer], [1], L2G) == -3000
    assert store.batch_copy([gva], [0], [1], L2G) == -3000
    assert store.batch_copy([gva], [pointer], [-1], L2G) == -3000
    assert store.batch_copy([gva], [pointer], [1], 9) == -3000
    assert store.batch_copy([gva], [pointer, pointer], [1], L2G) == -3000
    assert store.batch_copy([], [], [], G2L) == 0
    assert store.batch_add_lease([key + "none"]) == [-3102]


def test_memory_that_cannot_be_read_or_written_is_refused(store, key):
    """As that of a device: a code, and the process lives."""
    good = Block([64], seed=1)
    gvas = store.batch_alloc([key + "1", key + "2"], [64, 64])
    for nowhere in (16, (1 << 64) - 8, 1 << 64, 1 << 70):
        assert store.batch_copy(gvas, [good.pointers[0], nowhere], [64, 64], L2G) == -3000
    assert store.batch_copy_layers(gvas[:1], [[good.pointers[0], 4096]], [[32, 32]], L2G) == -3000
    assert store.batch_copy(gvas, good.pointers * 2, [64, 64], L2G) == 0
    assert store.batch_write_finish([key + "1", key + "2"], [0, 0]) == [0, 0]
    assert store.batch_copy(gvas, [good.pointers[0], 16], [64, 64], G2L) == -3000
    constant = ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p).value  # code is not written
    assert store.batch_copy(gvas[:1], [constant], [64], G2L) == -3000


def test_an_address_is_never_given_to_another_value(meta, key, monkeypatch):
    config = local_config(meta.url)
    with opened(config) as made:
        first = made.batch_alloc([key], [10])
    with opened(config) as made:
        assert made.batch_alloc([key], [10]) != first
        assert made.batch_copy(first, Block([10]).pointers, [10], L2G) == -3000
    monkeypatch.setattr(_gva, "ENTRIES", 4)  # after so many they begin again, and leave out what is in use
    with opened(config) as made:
        held = made.batch_alloc([key + "1", key + "2"], [10, 10])
        for turn in range(9):
            (gva,) = made.batch_alloc([f"{key}/{turn}"], [10])
            assert 0 < gva < 1 << 63 and gva not in held
            assert made.batch_write_finish([f"{key}/{turn}"], [1]) == [0]


def test_another_writer_of_the_key_was_faster(store, key):
    block = Block([10], seed=1)
    gva = store.batch_alloc([key], [10])[0]
    assert store.put(key, b"the first!") == 0
    assert store.batch_copy([gva], block.pointers, [10], L2G) == 0
    assert store.batch_write_finish([key], [0]) == [0]
    assert store.get(key) == b"the first!"


def test_a_removed_value_cannot_be_read_by_address_for_ever(store, key):
    assert store.put(key, b"x" * 10) == 0
    gva = store.get_key_info(key).gva_list()[0]
    assert store.get_key_info(key).gva_list() == [gva]
    assert store.remove(key) == 0
    assert store.batch_copy([gva], Block([10]).pointers, [10], G2L) == -3102


def test_memory_for_writes_is_bounded(meta, key, monkeypatch):
    monkeypatch.setenv("MMC_COMPAT_STAGING_SIZE", "1MB")
    with opened(local_config(meta.url)) as made:
        gvas = made.batch_alloc([key + "1", key + "2"], [900 << 10, 900 << 10])
        assert gvas[0] > 0 and gvas[1] == -3016
        assert made.batch_write_finish([key + "1"], [1]) == [0]
        assert made.batch_alloc([key + "2"], [900 << 10])[0] > 0


def test_a_full_pool_refuses_the_finish(meta, key):
    with opened(local_config(meta.url, dram="4MB")) as made:
        gva = made.batch_alloc([key], [16 << 20])[0]
        assert gva > 0
        assert made.batch_write_finish([key], [0]) == [-3016]
        assert made.is_exist(key) == 0
        assert made.batch_copy([gva], Block([10]).pointers, [10], L2G) == -3000


def test_memory_is_used_again_for_values_of_the_same_size(meta, key, monkeypatch):
    monkeypatch.setenv("MMC_COMPAT_STAGING_SIZE", "8MB")
    block = Block([1 << 20], seed=1)
    with opened(local_config(meta.url)) as made:
        for turn in range(20):
            names = [f"{key}/{turn}/{i}" for i in range(4)]
            gvas = made.batch_alloc(names, [1 << 20] * 4)
            assert len(set(gvas)) == 4 and min(gvas) > 0
            assert made.batch_copy(gvas, block.pointers * 4, block.sizes * 4, L2G) == 0
            assert made.batch_write_finish(names, [0, 0, 1, 0]) == [0] * 4
            assert made.batch_is_exist(names) == [1, 1, 0, 1]
            assert made.get_batch(names[:2]) == [block.bytes()] * 2
            assert made.remove_batch(names) == [0, 0, -3102, 0]


def test_threads_write_and_read_by_address(store, key):
    def work(number):
        for turn in range(5):
            name = f"{key}/{number}/{turn}"
            block, out = Block([5000, 70], seed=number * 100 + turn), Block([5070])
            gva = store.batch_alloc([name], [5070])[0]
            assert store.batch_copy([gva, gva + 5000], block.pointers, block.sizes, L2G) == 0
            assert store.batch_write_finish([name], [0]) == [0]
            assert store.batch_add_lease([name], 300000) == [0]
            assert store.batch_copy([gva], out.pointers, [5070], G2L) == 0
            assert out.bytes() == block.bytes()

    in_threads(work, 16)


def test_close_while_others_copy(meta, key):
    block = Block([1 << 20], seed=1)
    with opened(local_config(meta.url)) as made:
        started = threading.Event()
        seen = []

        def copy():
            gva = made.batch_alloc([key], [1 << 20])[0]
            while True:
                code = made.batch_copy([gva], block.pointers, block.sizes, L2G)
                started.set()
                if code != 0:
                    seen.append(code)
                    return

        thread = threading.Thread(target=copy)
        thread.start()
        started.wait()
        assert made.close() == 0
        thread.join()
        assert seen[0] in (-3000, -3019)


@pytest.mark.parametrize("split", [[8000], [1, 7999], [4000, 4000]])
def test_read_by_another_split_than_written(store, key, split):
    block, out = Block([3000, 5000], seed=9), Block(split)
    assert store.batch_put_from_layers([key], [block.pointers], [block.sizes], L2G) == [0]
    gva = store.get_key_info(key).gva_list()[0]
    assert store.batch_copy_layers([gva], [out.pointers], [out.sizes], G2L) == 0
    assert out.bytes() == block.bytes()
