"""Every call of pymmc.Client on every kind of pool."""
import ctypes

import numpy as np
import pytest

import pymmc
from pymmc import Code


def test_bytes_come_back(client, key):
    value = bytes(range(256)) * 40
    assert [s.code for s in client.put({key: value})] == [Code.OK]
    assert client.get([key, key + "/absent"]) == [value, None]
    assert client.get_one(key) == value


def test_a_value_is_the_concatenation_of_its_pieces(client, key):
    pieces = [b"abc", np.arange(1000, dtype=np.int32), bytearray(b"\x00\xff" * 7), memoryview(b"tail")[1:],
              (ctypes.c_char * 5)(*b"ctype")]
    assert client.put([(key, pieces)])[0].ok
    assert client.get_one(key) == b"".join(bytes(p) for p in pieces)


def test_reads_with_another_split(client, key):
    value = np.random.default_rng(1).integers(0, 256, 10_000, dtype=np.uint8)
    assert client.put([(key, value)])[0].ok
    head, tail = np.zeros((3, 1000), np.uint8), bytearray(7000)
    result = client.get_into([(key, [head, tail])])[0]
    assert (result.code, result.bytes, result.size) == (Code.OK, 10_000, 10_000)
    assert np.array_equal(head.ravel(), value[:3000])
    assert bytes(tail) == value[3000:].tobytes()


def test_large_values_of_many_buffers(client, key):
    rng = np.random.default_rng(2)
    sizes = [128 << 10, 16 << 10] * 61
    block = [rng.integers(0, 256, n, dtype=np.uint8) for n in sizes]
    out = [np.zeros(n, np.uint8) for n in sizes]
    assert client.put({key: block})[0].ok
    assert client.get_into({key: out})[0].ok
    assert all(np.array_equal(a, b) for a, b in zip(block, out))
    assert client.get_one(key) == b"".join(b.tobytes() for b in block)


def test_get_learns_sizes_in_both_directions(client, key):
    values = {f"{key}/{n}": np.random.default_rng(n).bytes(n) for n in (1, 100, 70_000, 3_000_000, 5)}
    assert all(client.put(values))
    for order in (list(values), list(reversed(values))):
        assert client.get(order) == [values[k] for k in order]
        assert [client.get_one(k) for k in order] == [values[k] for k in order]


def test_a_second_put_keeps_the_old_value(client, key):
    assert client.put_one(key, b"first") is True
    assert client.put_one(key, b"second") is False
    status = client.put({key: b"third"})[0]
    assert status == Code.EXISTS and status.code is Code.EXISTS and not status
    assert client.get_one(key) == b"first"


def test_keys_are_text_or_bytes(client, key):
    keys = [key + "/läge/@model:x_1-2", (key + "/raw").encode() + b"\xff\x00", key + "/" + "k" * (2048 - len(key) - 1)]
    assert all(client.put([(k, k if isinstance(k, bytes) else k.encode()) for k in keys]))
    assert client.get(keys) == [k if isinstance(k, bytes) else k.encode() for k in keys]
    assert client.get_one(keys[0].encode()) == keys[0].encode()
    assert {k for k, _ in client.scan(key)} == set(keys)


def test_a_bad_key_fails_alone(client, key):
    long = "k" * 2049
    codes = [s.code for s in client.put([("", b"1"), (key, b"2"), (long, b"3"), ("\ud800", b"4")])]
    assert codes[1] == Code.OK
    assert all(c in (Code.INVALID_ARGUMENT, Code.TOO_LARGE) for c in (codes[0], codes[2], codes[3]))
    assert client.get(["", key, long]) == [None, b"2", None]
    assert client.exists([key, "", long, "\ud800"]) == [True, False, False, False]
    assert client.prefix([key, "", key]) == 1
    assert client.prefix(["", key]) == 0
    assert client.stat(["", key])[1].ok
    assert client.remove(["", key])[1].ok


def test_ranges(client, key):
    client.put_one(key, bytes(range(200)))
    one, two, three = bytearray(10), bytearray(100), bytearray(4)
    results = client.get_into([(key, one, 50), (key, two, 150), (key, three, 200)])
    assert [r.code for r in results] == [Code.OK, Code.OK, Code.OUT_OF_RANGE]
    assert bytes(one) == bytes(range(50, 60))
    assert results[1].bytes == 50 and bytes(two[:50]) == bytes(range(150, 200))


def test_whole_reads_need_the_exact_size(client, key):
    client.put_one(key, b"12345")
    small, large = bytearray(4), bytearray(9)
    results = client.get_into([(key, small), (key, large)])
    assert [r.code for r in results] == [Code.SIZE_MISMATCH] * 2
    results = client.get_into([(key, small), (key, large)], allow_short=True)
    assert [(r.code, r.bytes, r.size) for r in results] == [(Code.OK, 4, 5), (Code.OK, 5, 5)]
    assert bytes(large[:5]) == b"12345"


def test_exists_prefix_stat_sizes_remove(client, key):
    keys = [f"{key}/{i}" for i in range(5)]
    client.put({k: b"x" * (i + 1) for i, k in enumerate(keys[:3])})
    assert client.exists(keys) == [True, True, True, False, False]
    assert client.exists_codes(keys) == [1, 1, 1, 0, 0]
    assert all(type(one) is int for one in client.exists_codes(keys))
    assert client.prefix(keys) == 3
    info = client.stat(keys)
    assert [(i.ok, i.size) for i in info[:3]] == [(True, 1), (True, 2), (True, 3)]
    assert info[0].replicas[0].medium == "dram" and info[3].status == Code.NOT_FOUND
    assert client.sizes(keys) == [1, 2, 3, -Code.NOT_FOUND, -Code.NOT_FOUND]
    assert client.remove(keys)[0].ok and client.remove(keys)[0] == Code.NOT_FOUND
    assert client.remove_codes(keys) == [Code.NOT_FOUND] * 5
    assert keys[0] not in client


def test_list_and_remove_by_prefix(client, key):
    client.put({f"{key}/a/{i}": b"x" for i in range(25)})
    client.put_one(f"{key}/b", b"xyz")
    page = client.list(f"{key}/a/", limit=10)
    assert len(page.keys) == 10 and page.next_page_token
    assert sorted(k for k, _ in client.scan(f"{key}/a/", page=7)) == sorted(f"{key}/a/{i}" for i in range(25))
    assert dict(client.scan(f"{key}/b")) == {f"{key}/b": 3}
    assert client.remove_by_prefix(f"{key}/a/") == 25
    assert [k for k, _ in client.scan(key)] == [f"{key}/b"]


def test_pointers(client, key):
    source = np.random.default_rng(3).integers(0, 256, 6000, dtype=np.uint8)
    target = np.zeros(6000, np.uint8)
    at, to = source.ctypes.data, target.ctypes.data
    keys = [f"{key}/a", f"{key}/b", f"{key}/c"]
    codes = client.put_ptrs(keys, [[at, at + 1000], [at], [0]], [[1000, 5000], [17], [9]])
    assert codes == [Code.OK, Code.OK, Code.INVALID_ARGUMENT] and all(type(c) is int for c in codes)
    codes, read = client.get_ptrs(keys[:2], [[to, to + 10], [to]], [[10, 5990], [16]])
    assert (codes, read) == ([Code.OK, Code.SIZE_MISMATCH], [6000, 0])
    assert np.array_equal(source, target)
    target[:] = 0
    assert client.get_ptrs([keys[1]], [[to]], [[6000]], allow_short=True) == ([Code.OK], [17])
    codes, read = client.get_ranges([keys[0], keys[0], keys[0]], [0, 5990, 7000], [[to], [to + 50], [to]],
                                    [[20], [100], [1]])
    assert (codes, read) == ([Code.OK, Code.OK, Code.OUT_OF_RANGE], [20, 10, 0])
    assert np.array_equal(target[:20], source[:20]) and np.array_equal(target[50:60], source[5990:])


def test_bad_pointers_fail_their_own_key(client, key):
    value = np.ones(8, np.uint8)
    at = value.ctypes.data
    codes = client.put_ptrs([f"{key}/{i}" for i in range(4)], [[at], [-1], [1 << 64], [at]], [[8], [8], [8], [-8]])
    assert codes == [Code.OK] + [Code.INVALID_ARGUMENT] * 3
    for ptrs, sizes in (([[at]], [[1], [2]]), ([[at, at]], [[8]]), ([], [])):
        with pytest.raises(pymmc.InvalidArgumentError):
            client.put_ptrs([key], ptrs, sizes)


def test_raw_pairs_and_numpy_integers(client, key):
    value = np.arange(4, dtype=np.uint64)
    pair = (value.ctypes.data, value.nbytes)
    assert all(client.put([(f"{key}/1", pair), (f"{key}/2", [pair, pair]),
                           (f"{key}/3", (np.uint64(pair[0]), np.int64(pair[1])))]))
    assert client.get([f"{key}/{i}" for i in (1, 2, 3)]) == [value.tobytes(), value.tobytes() * 2, value.tobytes()]


def test_large_batches(client, key):
    values = {f"{key}/{i}": i.to_bytes(4, "little") for i in range(16_384)}
    assert all(client.put(values))
    assert client.get(list(values)) == list(values.values())
    assert client.prefix(list(values)) == len(values)
    over = [s.code for s in client.put([(f"{key}/x{i}", b"x") for i in range(16_385)])]
    assert set(over) == {Code.TOO_LARGE}
    assert client.remove_by_prefix(key) == len(values)


def test_empty_batches(client):
    assert client.put([]) == [] and client.put({}) == [] and client.get([]) == [] and client.get_into([]) == []
    assert client.exists([]) == [] and client.prefix([]) == 0 and client.stat([]) == [] and client.remove([]) == []
    assert client.put_ptrs([], [], []) == [] and client.get_ptrs([], [], []) == ([], [])


def test_cluster_and_stats(client, key):
    before = client.stats()
    client.put_one(key, b"x" * 1000)
    client.get_one(key)
    after = client.stats()
    assert after.put_bytes - before.put_bytes == 1000 and after.get_bytes - before.get_bytes == 1000
    status = client.cluster()
    assert status.objects >= 1 and status.capacity_bytes > 0
    assert all(n.state == "serving" for n in status.nodes) and "nodes" in repr(status)


def test_replicas_lie_on_distinct_nodes(cluster_pool, key):
    with cluster_pool.client() as client:
        names = [n.name for n in client.cluster().nodes]
        assert client.put_one(key, b"twice" * 100, replicas=2)
        assert sorted(r.node for r in client.stat([key])[0].replicas) == sorted(names)
        assert client.put_one(key + "/there", b"x", preferred_nodes=[names[1]], prefer_local=False)
        assert client.stat([key + "/there"])[0].replicas[0].node == names[1]


def test_memory_contributed_by_a_client(cluster_pool, key):
    more = {"name": "lent-" + key[-8:]}
    with cluster_pool.client(contribute_dram="4MB", contribute=more) as lender:
        assert more == {"name": lender.node_name}
        assert lender.node_name == "lent-" + key[-8:]
        with cluster_pool.client() as client:
            assert client.put_one(key, b"here", preferred_nodes=[lender.node_name])
            assert client.stat([key])[0].replicas[0].node == lender.node_name
            assert lender.get_one(key) == b"here"
    with cluster_pool.client() as client:
        assert client.node_name is None


def test_exists_with_a_lease(client, key):
    keys = [f"{key}/{n}" for n in range(4)]
    assert all(client.put({k: b"value" for k in keys[:3]}))
    assert client.exists(keys) == [True, True, True, False]
    assert [info.lease_left for info in client.stat(keys[:3])] == [0, 0, 0]
    assert client.exists([keys[0], keys[3]], lease=60) == [True, False]
    assert client.exists_codes([keys[1], keys[3]], 0) == [1, 0]  # 0: the service's default
    left = [info.lease_left for info in client.stat(keys[:3])]
    assert 30 < left[0] <= 60 and 0 < left[1] <= left[0] and left[2] == 0
    with pytest.raises(pymmc.InvalidArgumentError):
        client.exists(keys, lease=-1)


def test_integrity(daemon_pool, key):
    with daemon_pool.client(integrity="off") as without, daemon_pool.client(integrity="verify") as verifying:
        assert without.put_one(key + "/without", b"value") and verifying.put_one(key + "/with", b"value")
        assert [info.checksum != 0 for info in verifying.stat([key + "/without", key + "/with"])] == [False, True]
        assert verifying.get([key + "/without", key + "/with"]) == [b"value"] * 2
        assert verifying.stats().corrupt_reads == 0
    with pytest.raises(pymmc.InvalidArgumentError, match="off, put or verify"):
        daemon_pool.client(integrity="maybe")


def test_what_is_kept_longer():
    with pymmc.Client("local://?dram=32MB") as client:
        assert client.put([("h", b"x")], hard_pin=True) == [Code.OK]
        assert client.put([("s", b"x")], soft_pin=0) == [Code.OK]
        assert client.put_one("one", b"x", soft_pin=60, group="g") is True
        data = np.ones(10, dtype=np.uint8)
        assert client.put_ptrs(["p"], [[data.ctypes.data]], [[10]], hard_pin=True, groups=[b"g"]) == [Code.OK]
        status = client.cluster()
        assert (status.hard_pinned, status.soft_pinned) == (2, 2)
        for wrong in ({"soft_pin": 1, "hard_pin": True}, {"soft_pin": -1}, {"groups": ["a", "b"]}):
            with pytest.raises(pymmc.InvalidArgumentError):
                client.put([("wrong", b"x")], **wrong)
        assert client.put([("wrong", b"x")], groups=["g" * 2049])[0].code == Code.INVALID_ARGUMENT
        with pytest.raises(TypeError):
            client.put([("wrong", b"x")], groups=[7])
        assert client.remove(["h", "s"]) == [Code.OK] * 2 and "wrong" not in client
        status = client.cluster()
        assert (status.hard_pinned, status.soft_pinned) == (1, 1)
