"""memcache_hybrid: every call, its code, its quirk that is kept and its fault that is mended."""
import copy
import ctypes
import threading

import memcache_hybrid
import numpy
import pymmc
import pytest
from memcache_support import Block, in_threads, local_config, meta, opened, store  # noqa: F401  (fixtures)

L2G, G2L, G2H, H2G, AUTO = 0, 1, 2, 3, 9
LONG = "k" * 2049


def test_the_names_are_those_of_all_generations():
    import memcache
    for name in ("DistributedObjectStore", "KeyInfo", "LocalConfig", "MetaConfig", "MetaService", "ReplicateConfig"):
        assert getattr(memcache, name) is getattr(memcache_hybrid, name)
    assert pymmc.DistributedObjectStore is memcache_hybrid.DistributedObjectStore
    assert pymmc.LocalConfig is memcache_hybrid.LocalConfig
    assert (memcache_hybrid.COPY_L2G, memcache_hybrid.COPY_G2L, memcache_hybrid.COPY_G2H, memcache_hybrid.COPY_H2G,
            memcache_hybrid.AUTO) == (0, 1, 2, 3, 9)


def test_put_and_get(store, key):
    assert store.put(key, b"value") == 0
    assert store.get(key) == b"value"
    assert store.put_batch([key + "1", key + "2"], [bytearray(b"one"), memoryview(b"two")]) == 0
    assert store.get_batch([key + "1", "none", key + "2"]) == [b"one", b"", b"two"]
    assert store.put_batch([], []) == 0
    assert store.get_batch([]) == []


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8", "float64"])
def test_put_counts_bytes_and_not_elements(store, key, dtype):
    array = numpy.arange(3 * 5, dtype=dtype).reshape(3, 5)
    assert store.put(key, array) == 0
    assert store.get(key) == array.tobytes()


def test_a_second_put_answers_0_and_keeps_the_first_value(store, key):
    first, second = Block([100], seed=1), Block([100], seed=2)
    assert store.put(key, first.bytes()) == 0
    assert store.put(key, second.bytes()) == 0
    assert store.put_from(key, second.pointers[0], 100) == 0
    assert store.batch_put_from_layers([key], [second.pointers], [second.sizes], L2G) == [0]
    assert store.get(key) == first.bytes()


def test_pointers(store, key):
    block, out = Block([4096], seed=3), Block([4096])
    assert store.put_from(key, block.pointers[0], 4096) == 0
    assert store.get_into(key, out.pointers[0], 4096) == 0
    assert out.bytes() == block.bytes()
    keys = [f"{key}/{i}" for i in range(3)]
    blocks, outs = [Block([100 + i], seed=i) for i in range(3)], [Block([100 + i]) for i in range(3)]
    sizes = [100, 101, 102]
    assert store.batch_put_from(keys, numpy.array([b.pointers[0] for b in blocks]), sizes, L2G) == [0, 0, 0]
    assert store.batch_get_into(keys, [b.pointers[0] for b in outs], numpy.array(sizes), G2L) == [0, 0, 0]
    assert [b.bytes() for b in outs] == [b.bytes() for b in blocks]
    assert store.put_from_layers(key + "/l", block.pointers * 2, [1000, 7], AUTO) == 0
    assert store.get_into_layers(key + "/l", out.pointers, [1007], AUTO) == 0


def test_get_into_needs_exactly_the_size(store, key):
    out = Block([200])
    assert store.put(key, b"x" * 100) == 0
    assert store.get_into(key, out.pointers[0], 99) == -1
    assert store.get_into(key, out.pointers[0], 101) == -1
    assert store.batch_get_into_layers([key], [out.pointers], [[100]], G2L) == [0]


def test_what_is_not_there(store, key):
    out = Block([10])
    assert store.get(key) == b""
    assert store.get_into(key, out.pointers[0], 10) == -1
    assert store.batch_get_into([key], out.pointers, [10]) == [-1]
    assert store.batch_get_into_layers([key], [out.pointers], [[10]], G2L) == [-1]
    assert store.remove(key) == -3102
    assert store.remove_batch([key, key]) == [-3102, -3102]
    assert store.is_exist(key) == 0
    assert store.get_size(key) == -3102
    assert store.get_buffer(key) is None
    info = store.get_key_info(key)
    assert (info.size(), info.loc_list(), info.type_list(), info.gva_list()) == (0, [], [], [])
    assert str(info) == "loc: type: blobNum:0, size:0"


def test_remove(store, key):
    keys = [f"{key}/{i}" for i in range(3)]
    assert store.put_batch(keys, [b"1", b"2", b"3"]) == 0
    assert store.remove(keys[0]) == 0
    assert store.remove_batch(keys) == [-3102, 0, 0]
    assert store.put(key, b"x") == 0
    assert store.remove_all() == 0
    assert store.is_exist(key) == 0


def test_the_oldest_calls(store, key):
    assert store.put_parts(key, b"ab", numpy.array([1, 2], dtype="int32"), bytearray(b"c")) == 0
    assert store.get_size(key) == 11
    assert bytes(store.get_buffer(key)) == b"ab" + numpy.array([1, 2], dtype="int32").tobytes() + b"c"
    assert store.init_all(0) == 0
    assert store.setup_local_service() == 0


def test_key_info(store, key):
    assert store.put(key, b"x" * 5000) == 0
    info = store.get_key_info(key)
    assert info.size() == 5000
    assert info.type_list() == [1]
    assert len(info.loc_list()) == 1
    assert str(info) == repr(info) == f"loc:{info.loc_list()[0]}, type:1, blobNum:1, size:5000"
    assert [found.size() for found in store.batch_get_key_info(keys=[key, key + "no"])] == [5000, 0]
    assert store.batch_get_key_info([]) == []
    with pytest.raises(TypeError, match="No constructor"):
        memcache_hybrid.KeyInfo()


def test_directions(store, key):
    block = Block([10], seed=1)
    pointer = block.pointers[0]
    for wrong in (G2L, G2H, 4, AUTO, -1):
        assert store.put_from(key, pointer, 10, wrong) == -1
        assert store.batch_put_from([key], [pointer], [10], wrong) == [-1]
    for wrong in (L2G, H2G, 4, AUTO):
        assert store.get_into(key, pointer, 10, wrong) == -1
        assert store.batch_get_into([key], [pointer], [10], wrong) == [-1]
    for wrong in (G2L, G2H, 5):
        assert store.put_from_layers(key, [pointer], [10], wrong) == -3000
        assert store.batch_put_from_layers([key], [[pointer]], [[10]], wrong) == [-3000]
    for wrong in (L2G, H2G):
        assert store.batch_get_into_layers([key], [[pointer]], [[10]], wrong) == [-3000]
    assert store.is_exist(key) == 0


def test_lists_of_unequal_length(store, key):
    pointer = Block([10]).pointers[0]
    assert store.batch_put_from([key, key], [pointer], [10]) == [-1, -1]
    assert store.batch_get_into([key], [pointer], [10, 10]) == [-1]
    assert store.batch_put_from_layers([key], [[pointer], [pointer]], [[10]], L2G) == [-3000]
    assert store.put_batch([key], []) == -3000
    assert store.batch_put_from_layers([], [], [], L2G) == []


def test_replicate_config(store, key):
    config = memcache_hybrid.ReplicateConfig()
    assert (config.replicaNum, config.preferredLocalServiceIDs) == (1, [])
    assert store.put(key, b"x", config) == 0
    config.replicaNum = 0
    assert store.put(key + "0", b"x", config) == -1
    config.replicaNum = 9
    assert store.put_from(key + "9", Block([1]).pointers[0], 1, H2G, config) == -1
    config.replicaNum = 1
    config.preferredLocalServiceIDs = store.get_key_info(key).loc_list()
    assert store.put(key + "p", b"x", replicateConfig=config) == 0
    assert store.get_key_info(key + "p").loc_list() == config.preferredLocalServiceIDs
    config.preferredLocalServiceIDs = [1, 2]
    assert store.put(key + "q", b"x", config) == -3000
    other = copy.copy(config)
    other.replicaNum = 2
    assert config.replicaNum == 1


def test_two_replicas(daemon_pool, key):
    config = memcache_hybrid.ReplicateConfig()
    config.replicaNum = 2
    with opened(local_config(daemon_pool.meta_url, dram="0")) as made:
        assert made.put(key, b"x" * 100, config) == 0
        info = made.get_key_info(key)
        assert len(set(info.loc_list())) == 2
        assert info.type_list() == [1, 1]
        assert len(info.gva_list()) == 2
        assert len(made.get_key_info(key, 1).gva_list()) == 1


def test_register_buffer(store):
    block = Block([100])
    assert store.register_buffer(block.pointers[0], 100) == 0
    assert store.unregister_buffer(block.pointers[0], 100) == 0
    assert store.register_buffer(0, 100) == -3000
    assert store.register_buffer(block.pointers[0], 0) == -3000


def test_calls_before_init_answer_errors():
    made = memcache_hybrid.DistributedObjectStore()
    pointer = Block([10]).pointers[0]
    assert made.put("k", b"x") == -3019
    assert made.put_batch(["k"], [b"x"]) == -3019
    assert made.put_from("k", pointer, 10) == -3019
    assert made.batch_put_from(["k"], [pointer], [10]) == [-3019]
    assert made.batch_put_from_layers(["k"], [[pointer]], [[10]], L2G) == [-3019]
    assert made.get("k") == b""
    assert made.get_batch(["k"]) == [b""]
    assert made.get_into("k", pointer, 10) == -3019
    assert made.batch_get_into_layers(["k"], [[pointer]], [[10]], G2L) == [-3019]
    assert made.remove("k") == -3019
    assert made.remove_batch(["k"]) == [-3019]
    assert made.remove_all() == -3019
    assert made.is_exist("k") == -3019
    assert made.batch_is_exist(["k"]) == [-3019]
    assert made.get_key_info("k").size() == 0
    assert made.batch_get_key_info(["k"]) == []
    assert made.register_buffer(pointer, 10) == -3019
    assert made.get_local_service_id() == 4294967295
    assert made.batch_alloc(["k"], [10]) == [-3019]
    assert made.batch_copy([1], [pointer], [10], L2G) == -3019
    assert made.batch_write_finish(["k"], [0]) == [-3019]
    assert made.batch_add_lease(["k"]) == [-3019]
    assert made.batch_remove_lease(["k"]) == -3019
    assert made.close() == 0


def test_the_bytes_behind_ctypes_and_read_only_buffers(store, key):
    text = ctypes.create_string_buffer(b"abc", 8)
    assert store.put(key, text) == 0
    assert store.get(key) == b"abc\0\0\0\0\0"
    with pytest.raises(TypeError):
        store.put(key + "2", 17)
    with pytest.raises(TypeError):
        store.is_exist(17)
    with pytest.raises(TypeError):
        store.batch_is_exist("one key")


WRONG_TYPES = {
    "keys": [lambda s, k, p: s.put(None, b"x"), lambda s, k, p: s.put(1.5, b"x"), lambda s, k, p: s.get(None),
             lambda s, k, p: s.get_batch([k, None]), lambda s, k, p: s.get_batch("key"), lambda s, k, p: s.remove(None),
             lambda s, k, p: s.remove_batch("key"), lambda s, k, p: s.batch_is_exist(None),
             lambda s, k, p: s.batch_is_exist([1]), lambda s, k, p: s.get_key_info(None),
             lambda s, k, p: s.get_size(None), lambda s, k, p: s.put_batch("ab", [b"1", b"2"]),
             lambda s, k, p: s.put_batch(None, []), lambda s, k, p: s.batch_alloc("key", [1, 1, 1])],
    "values": [lambda s, k, p: s.put(k, None), lambda s, k, p: s.put(k, "text"), lambda s, k, p: s.put(k, 17),
               lambda s, k, p: s.put_batch([k], [None]), lambda s, k, p: s.put_parts(k, b"x", 1.5)],
    "numbers": [lambda s, k, p: s.put_from(k, None, 10), lambda s, k, p: s.put_from(k, 1.5, 10),
                lambda s, k, p: s.put_from(k, p, "10"), lambda s, k, p: s.batch_put_from([k], [None], [10]),
                lambda s, k, p: s.batch_put_from([k], [p], [1.5]),
                lambda s, k, p: s.batch_put_from_layers([k], [p], [10], L2G),
                lambda s, k, p: s.get_into(k, None, 10), lambda s, k, p: s.batch_get_into([k], [p], [None]),
                lambda s, k, p: s.batch_get_into_layers([k], [[None]], [[10]], G2L),
                lambda s, k, p: s.batch_alloc([k], [1.5]), lambda s, k, p: s.batch_copy([1.5], [p], [1], L2G),
                lambda s, k, p: s.batch_copy([1], [None], [1], G2L), lambda s, k, p: s.register_buffer("x", 1),
                lambda s, k, p: s.register_buffer(4096.0, 1)],
    "others": [lambda s, k, p: s.put(k, b"x", 5), lambda s, k, p: s.batch_put_from([k], [p], [10], L2G, {}),
               lambda s, k, p: s.init("0"), lambda s, k, p: s.init(None), lambda s, k, p: s.init(1.5),
               lambda s, k, p: setattr(memcache_hybrid.ReplicateConfig(), "replicaNum", "2"),
               lambda s, k, p: setattr(memcache_hybrid.ReplicateConfig(), "preferredLocalServiceIDs", [None])],
}


@pytest.mark.parametrize("kind", list(WRONG_TYPES))
def test_wrong_types_raise_and_break_nothing(store, key, kind):
    pointer = Block([10], seed=1).pointers[0]
    for number, call in enumerate(WRONG_TYPES[kind]):
        with pytest.raises(TypeError):
            pytest.fail(f"{kind} {number} answered {call(store, key, pointer)!r}")
    assert store.put(key, b"x") == 0 and store.get(key) == b"x"


def test_wrong_values_answer_codes(store, key):
    block = Block([10], seed=1)
    pointer = block.pointers[0]
    assert store.put(key, block.bytes()) == 0
    for at, size in ((-1, 10), (pointer, -1), (0, 10), (1 << 64, 10), (16, 10), ((1 << 64) - 4, 10), (pointer, 1 << 62),
                     (numpy.int64(-1), 10)):
        assert store.put_from(key + "n", at, size) == -3000, (at, size)
        assert store.get_into(key, at, size) == -3000, (at, size)
        assert store.batch_put_from([key + "n"], [at], [size]) == [-3000]
        assert store.batch_get_into_layers([key], [[at]], [[size]], G2L) == [-3000]
    assert store.put_from(key + "n", pointer, 0) == -3000
    assert store.get_into(key, pointer, 0) in (-1, -3000)
    assert store.register_buffer(-1, 5) == store.register_buffer(pointer, -5) == -3000
    released = memoryview(b"gone")
    released.release()
    for value in (b"", numpy.arange(10)[::2], memoryview(b"abcdef")[::2], released):
        assert store.put(key + "n", value) == -3000
    assert store.batch_put_from([key + "n"], [pointer], [10], None) == [-1]
    assert store.is_exist(key + "n") == 0


def test_keys_of_any_kind(store, key):
    strange = [key.encode() + b"\xff\x00", key + "\0b", numpy.str_(key + "n")]
    assert store.put_batch(strange, [b"1", b"2", b"3"]) == 0
    assert store.get_batch(strange) == [b"1", b"2", b"3"]
    assert store.batch_is_exist(numpy.array([key + "n", key])) == [1, 0]
    for keys in ((one for one in strange), tuple(strange), dict.fromkeys(strange)):
        assert store.batch_is_exist(keys) == [1, 1, 1]
    lone = key + "\udc80"
    assert (store.put(lone, b"x"), store.is_exist(lone), store.get(lone), store.remove(lone)) == (-3000, -3000, b"",
                                                                                                -3000)
    assert store.batch_is_exist([lone, strange[0]]) == [0, 1]
    assert store.get_key_info(lone).size() == 0 and store.get_size(lone) == -3000
    assert store.batch_alloc([lone], [5]) == [-3000]
    assert store.batch_add_lease([lone]) == [-3102]


def test_close_while_threads_call(meta, key):
    """Each call answers what it could do or the code of a closed store; none hangs."""
    block = Block([1 << 16], seed=1)
    wrong = []
    with opened(local_config(meta.url)) as made:
        assert made.put(key, block.bytes()) == 0
        ready = threading.Barrier(7)

        def work(number):
            ready.wait()
            if number == 6:
                made.close()
                return
            out, codes = Block(block.sizes), []
            for turn in range(200):
                codes += made.batch_put_from_layers([f"{key}/{number}/{turn}"], [block.pointers], [block.sizes], L2G)
                codes += made.batch_get_into_layers([key], [out.pointers], [out.sizes], G2L)
                assert made.get(key) in (b"", block.bytes())
                assert made.batch_is_exist([key])[0] in (1, 0, -3019)
                info = made.get_key_info(key)
                assert info.size() in (0, 1 << 16) and len(info.gva_list()) in (0, 1)
                codes.append(made.put(f"{key}/{number}/{turn}/v", b"x"))
                if codes[-1] == -3019:
                    break
            # The pool of this process holds the values: they go with it.
            wrong.extend(code for code in codes if code not in (0, -1, -3019, -3016, -3017, -3018, -3007, -3101, -3004))

        in_threads(work, 7)
    assert wrong == []


def test_the_id_of_this_process_is_where_its_values_are(meta, key):
    with opened(local_config(meta.url)) as made:
        assert made.get_local_service_id() < 2 ** 31
        assert made.put(key, b"x") == 0
        assert made.get_key_info(key).loc_list() == [made.get_local_service_id()]
