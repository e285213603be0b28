"""A pool that is full, leased, small; other addresses; shared memory off."""
import json
import signal

from cluster import SHORT_TIMES, eventually

BLOCK = 256 * 1024


def block(number):
    return bytes((number * 17 + i) & 0xFF for i in range(256)) * (BLOCK // 256)


def test_a_small_pool_evicts_and_no_put_fails(cluster):
    cluster.start(nodes=1, dram="16MB", meta_settings={"ock.mmc.meta.lease_milliseconds": "50"})
    result = cluster.bench("--op put --value-size 256KB --keys 400 --count 400 --threads 2")
    assert result["errors"] == {}
    status = cluster.cli_json("status")
    assert status["evicted_objects"] > 300
    assert status["used_bytes"] <= 16 * 2**20
    # The last one written is the last one to go.
    cluster.put("last", block(1))
    assert cluster.get("last") == block(1)


def test_lru_keeps_what_is_read(cluster):
    cluster.start(nodes=1, dram="16MB", meta_settings={"ock.mmc.meta.lease_milliseconds": "20"})
    cluster.put("precious", block(0))
    for number in range(1, 120):
        cluster.put(f"filler-{number}", block(number))
        if number % 8 == 0:
            assert cluster.get("precious") == block(0)
    assert cluster.cli("exists", "filler-1").returncode == 1
    assert cluster.get("precious") == block(0)


def test_a_pool_full_of_leases_says_so_before_the_deadline_and_loses_nothing(cluster):
    cluster.start(nodes=1, dram="4MB", meta_settings={"ock.mmc.meta.lease_milliseconds": "300000",
                                                      "ock.mmc.meta.max_lease_milliseconds": "600000"})
    kept = range(13)  # of sixteen: below the threshold that starts eviction in the background
    for number in kept:
        cluster.put(f"k{number}", block(number))
        assert cluster.get(f"k{number}") == block(number)  # takes a lease of five minutes
    done = cluster.cli("put", "one-more", "-", "--timeout", "4s", input=block(99) * 8, text=False, timeout=30)
    assert done.returncode == 1
    message = done.stderr.decode()
    assert "NO_SPACE" in message and "leased" in message
    assert len(message.strip().splitlines()) == 1
    for number in kept:
        assert cluster.get(f"k{number}") == block(number)


def test_a_value_larger_than_the_pool_is_refused_at_once(cluster):
    cluster.start(nodes=1, dram="4MB")
    done = cluster.cli("put", "huge", "-", input=b"x" * (5 * 2**20), text=False, timeout=20)
    assert done.returncode == 1
    assert b"huge" in done.stderr


def test_without_nodes_a_put_says_so(cluster):
    cluster.start_meta()
    done = cluster.cli("put", "k", "-", "--timeout", "3s", input=b"x", text=False, timeout=20)
    assert done.returncode in (1, 4)
    assert b"NO_NODE" in done.stderr


def test_removed_space_comes_back(cluster):
    cluster.start(nodes=1, dram="8MB", meta_settings={"ock.mmc.meta.lease_milliseconds": "50"})
    for number in range(10):
        cluster.put(f"k{number}", block(number))
    assert cluster.cli_json("status")["used_bytes"] == 10 * BLOCK
    assert cluster.cli("rm", "--prefix", "k").returncode == 0
    eventually(lambda: cluster.cli_json("status")["used_bytes"] == 0, "the space of removed objects")


def test_ipv6(cluster):
    cluster.start(nodes=1, host="::1", local_settings={"ock.mmc.local_service.shm.enable": "false"})
    assert cluster.meta.url.startswith("tcp://[::1]:")
    cluster.put("k", block(3))
    assert cluster.get("k") == block(3)
    (node,) = cluster.cli_json("nodes")["nodes"]
    assert any("[::1]" in endpoint for endpoint in node["endpoints"])


def test_tcp_only(cluster):
    cluster.start(nodes=2, local_settings={"ock.mmc.local_service.shm.enable": "false"})
    for node in cluster.cli_json("nodes")["nodes"]:
        assert all(not endpoint.startswith("shm") for endpoint in node["endpoints"])
    cluster.put("k", block(5) * 20, "--replicas", 2)
    assert cluster.get("k") == block(5) * 20


def test_shm_only(cluster):
    cluster.start(nodes=1, local_settings={"ock.mmc.local_service.tcp.enable": "false"})
    cluster.put("k", block(6))
    assert cluster.get("k") == block(6)


def test_a_reader_stopped_past_its_lease_never_returns_other_bytes(cluster):
    """Readers are stopped in the middle of their work while the pool turns over; every byte they return is checked."""
    cluster.start(nodes=1, dram="16MB", meta_settings={**SHORT_TIMES, "ock.mmc.meta.lease_milliseconds": "30",
                                                       "ock.mmc.meta.session_expiry_milliseconds": "60000"})
    bench = cluster.bench_start("--op mixed --value-size 1MB --keys 40 --threads 2 --duration 6s --verify")
    eventually(lambda: cluster.cli_json("status")["puts"] > 20, "the bench to write")
    for _ in range(10):
        evicted = cluster.cli_json("status")["evicted_objects"]
        bench.send_signal(signal.SIGSTOP)
        result = cluster.bench("--op put --value-size 1MB --keys 20 --count 20")
        assert result["errors"] == {}
        bench.send_signal(signal.SIGCONT)
        eventually(lambda before=evicted: cluster.cli_json("status")["evicted_objects"] > before, "evictions")
    out, err = bench.communicate(timeout=60)
    assert bench.returncode == 0, out + err
    assert json.loads(out)["wrong_bytes"] == 0
