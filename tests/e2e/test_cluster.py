"""Nodes that die, stop, leave and come back, while clients read and write."""
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from cluster import MEMORY_PREFIX, SHORT_TIMES, eventually, sweep_memory

KEYS = 64
VALUE_BYTES = 100_000


def value_of(number):
    return bytes((number * 31 + i * 7) & 0xFF for i in range(256)) * (VALUE_BYTES // 256)


def put_all(cluster, replicas, keys=KEYS):
    for number in range(keys):
        cluster.put(f"key-{number}", value_of(number), "--replicas", replicas)


def check_all(cluster, keys=KEYS):
    for number in range(keys):
        assert cluster.get(f"key-{number}") == value_of(number)


def nodes_of(cluster, key):
    (found,) = cluster.cli_json("stat", key)["keys"]
    return sorted(replica["node"] for replica in found["replicas"])


def test_memory_that_a_killed_run_left_is_swept():
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    left = Path(f"/dev/shm/{MEMORY_PREFIX}{ended.pid}-left")
    kept = Path(f"/dev/shm/{MEMORY_PREFIX}{os.getpid()}-kept")
    try:
        for path in (left, kept):
            path.mkdir()
            (path / "some.segment").write_bytes(b"x")
        sweep_memory()
        assert not left.exists()
        assert kept.exists()
    finally:
        shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(kept, ignore_errors=True)


def test_replicas_lie_on_distinct_nodes(cluster):
    cluster.start(nodes=3)
    cluster.put("two", b"x" * 5000, "--replicas", 2)
    assert len(set(nodes_of(cluster, "two"))) == 2
    cluster.put("three", b"x" * 5000, "--replicas", 3)
    assert nodes_of(cluster, "three") == ["node-0", "node-1", "node-2"]


def test_nodes_of_one_host_share_the_objects(cluster):
    cluster.start(nodes=2, dram="16MB")
    result = cluster.bench("--op put --value-size 128KB --keys 150 --count 150 --keep")
    assert result["errors"] == {}
    used = [node["used_bytes"] for node in cluster.cli_json("nodes")["nodes"]]
    assert min(used) > 4 * 2**20


@pytest.mark.parametrize("same_host", [True, False], ids=["shm", "tcp"])
def test_reads_survive_kill_9_of_a_node_mid_workload(cluster, same_host):
    local_settings = {} if same_host else {"ock.mmc.local_service.shm.enable": "false"}
    cluster.start(nodes=2, meta_settings=SHORT_TIMES, local_settings=local_settings)
    put_all(cluster, replicas=2)
    before = cluster.cli_json("status")["lookups_hit"]
    bench = cluster.bench_start("--op get --value-size 64KB --replicas 2 --threads 2 --keys 100 --duration 4s --verify")
    # The bench is at work once its lookups show at the service.
    eventually(lambda: cluster.cli_json("status")["lookups_hit"] > before + 100, "the bench to read")
    cluster.locals[0].kill()
    out, err = bench.communicate(timeout=60)
    assert bench.returncode == 0, out + err
    result = json.loads(out)
    assert result["wrong_bytes"] == 0 and result["errors"] == {}
    check_all(cluster)
    cluster.wait_state("node-0", "dead")
    check_all(cluster)
    assert nodes_of(cluster, "key-0") == ["node-1"]


def test_without_a_second_replica_a_lost_node_is_a_clear_status(cluster):
    cluster.start(nodes=1, meta_settings=SHORT_TIMES)
    cluster.put("only", b"x" * 1000)
    cluster.locals[0].kill()
    done = cluster.cli("get", "only", "--timeout", "5s")
    assert done.returncode != 0
    assert "only" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    cluster.wait_state("node-0", "dead")
    done = cluster.cli("get", "only")
    assert done.returncode == 1
    assert "NOT_FOUND" in done.stderr


def test_a_node_that_leaves_drops_its_objects_at_once(cluster):
    cluster.start(nodes=2)
    put_all(cluster, replicas=1, keys=20)
    counts = {node["name"]: node["objects"] for node in cluster.cli_json("nodes")["nodes"]}
    assert sum(counts.values()) == 20
    assert cluster.locals[0].stop() == 0
    assert cluster.states().get("node-0") in (None, "leaving", "dead")
    assert cluster.cli_json("status")["objects"] == counts["node-1"]
    cluster.put("after", b"still works")
    assert cluster.get("after") == b"still works"


def test_suspect_dead_and_back_with_a_new_incarnation(cluster):
    cluster.start(nodes=2, meta_settings=SHORT_TIMES)
    put_all(cluster, replicas=2, keys=10)
    cluster.locals[0].kill()
    cluster.wait_state("node-0", "suspect")
    cluster.put("while-suspect", b"v")
    assert nodes_of(cluster, "while-suspect") == ["node-1"]
    cluster.wait_state("node-0", "dead")
    cluster.locals[0].start()
    cluster.wait_state("node-0", "serving")
    check_all(cluster, keys=10)
    cluster.put("on-both", b"v" * 1000, "--replicas", 2)
    assert nodes_of(cluster, "on-both") == ["node-0", "node-1"]


def test_a_stopped_process_comes_back_with_everything(cluster):
    """Shorter than the grace period: the same incarnation takes its place again and has lost nothing."""
    times = {**SHORT_TIMES, "ock.mmc.meta.node_grace_milliseconds": "60000"}
    cluster.start(nodes=1, meta_settings=times)
    put_all(cluster, replicas=1, keys=20)
    cluster.locals[0].signal(signal.SIGSTOP)
    cluster.wait_state("node-0", "suspect")
    cluster.locals[0].signal(signal.SIGCONT)
    cluster.wait_state("node-0", "serving")
    check_all(cluster, keys=20)


def test_a_process_stopped_beyond_grace_joins_again(cluster):
    cluster.start(nodes=1, meta_settings=SHORT_TIMES)
    put_all(cluster, replicas=1, keys=5)
    cluster.locals[0].signal(signal.SIGSTOP)
    cluster.wait_state("node-0", "dead")
    assert cluster.cli("exists", "key-0").returncode == 1
    cluster.locals[0].signal(signal.SIGCONT)
    cluster.wait_state("node-0", "serving")
    put_all(cluster, replicas=1, keys=5)
    check_all(cluster, keys=5)


def test_nodes_find_a_meta_service_that_was_restarted(cluster):
    cluster.start(nodes=2, meta_settings=SHORT_TIMES)
    cluster.put("old", b"before")
    cluster.meta.kill()
    cluster.meta.start()
    eventually(lambda: cluster.states() == {"node-0": "serving", "node-1": "serving"}, "both nodes to join again")
    cluster.put("new", b"after")
    assert cluster.get("new") == b"after"


def test_calls_without_a_meta_service_end_with_3(cluster):
    cluster.start(nodes=1)
    cluster.meta.kill()
    done = cluster.cli("exists", "k", "--timeout", "3s")
    assert done.returncode == 3
    assert cluster.meta.url.removeprefix("tcp://") in done.stderr


def test_a_killed_writer_leaves_nothing_behind(cluster):
    cluster.start(nodes=1, meta_settings=SHORT_TIMES)
    bench = cluster.bench_start("--op put --value-size 256KB --threads 2 --keys 50 --duration 30s")
    eventually(lambda: cluster.cli_json("status")["puts"] > 50, "the bench to write")
    bench.kill()
    bench.communicate(timeout=30)
    eventually(lambda: cluster.cli_json("status")["grants"] == 0, "the grants of the dead client to be collected")
    assert cluster.cli("rm", "--all").returncode == 0
    eventually(lambda: cluster.cli_json("status")["used_bytes"] == 0, "all space to be free again")
