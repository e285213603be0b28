"""Services that are killed and started again: every committed object is there again, byte for byte."""
import json
import os
import signal

import pytest
from cluster import SHORT_TIMES, eventually

KEYS = 48
QUICK_RECOVERY = {"ock.mmc.meta.recovery_milliseconds": "300"}
TIMES = {**SHORT_TIMES, **QUICK_RECOVERY, "ock.mmc.meta.node_grace_milliseconds": "60000"}


def value_of(number):
    return bytes((number * 37 + i * 11) & 0xFF for i in range(1000 + number * 997))


def put_all(cluster, replicas=1):
    for number in range(KEYS):
        cluster.put(f"key-{number}", value_of(number), "--replicas", replicas)


def check_all(cluster):
    for number in range(KEYS):
        assert cluster.get(f"key-{number}") == value_of(number), f"key-{number}"


def facts(cluster):
    """Size, generation and owners of every key."""
    rows = cluster.cli_json("stat", *[f"key-{number}" for number in range(KEYS)])["keys"]
    return {row["key"]: (row["size"], row["generation"], sorted(r["node"] for r in row["replicas"])) for row in rows}


def wait_recovered(cluster, objects=KEYS):
    eventually(lambda: cluster.meta.get("/ready")[0] == 200, "the meta service to be ready", 60)
    eventually(lambda: cluster.cli_json("status")["objects"] == objects, f"{objects} objects", 60)


def wait_all_back(cluster):
    """Every node has reported what it holds: an object is there with the first of its replicas."""
    names = {local.folder.name for local in cluster.locals}
    eventually(lambda: {name for name, state in cluster.states().items() if state == "serving"} == names,
               "all nodes to serve again", 60)


def put_works_again(cluster):
    """Space is handed out again, and what is put is read back."""
    cluster.put("later", b"later" * 1000, "--timeout", "30s")
    assert cluster.get("later") == b"later" * 1000


def restart(daemon, *args):
    daemon.args = list(args)
    daemon.start()


def test_a_killed_meta_service_has_every_object_back(cluster):
    cluster.start(nodes=2, meta_settings=TIMES)
    put_all(cluster, replicas=2)
    before = facts(cluster)
    used = cluster.cli_json("status")["used_bytes"]
    for _ in range(2):
        cluster.meta.kill()
        cluster.meta.start()
        wait_recovered(cluster)
        wait_all_back(cluster)
        assert facts(cluster) == before
        assert cluster.cli_json("status")["used_bytes"] == used
        check_all(cluster)
    put_works_again(cluster)
    assert cluster.cli("rm", "key-0").returncode == 0
    assert cluster.cli("exists", "key-0").returncode == 1


def test_what_was_removed_stays_removed(cluster):
    cluster.start(nodes=1, meta_settings=TIMES)
    put_all(cluster)
    for number in range(0, KEYS, 2):
        assert cluster.cli("rm", f"key-{number}").returncode == 0
    # The node's catalog has followed once nothing waits to be freed.
    eventually(lambda: cluster.cli_json("status")["waiting_to_free_bytes"] == 0, "the removals to be recorded")
    cluster.meta.kill()
    cluster.meta.start()
    wait_recovered(cluster, KEYS // 2)
    for number in range(KEYS):
        assert cluster.cli("exists", f"key-{number}").returncode == (1 if number % 2 == 0 else 0)


def test_a_killed_node_that_starts_again_has_its_objects(cluster):
    cluster.start(nodes=1, meta_settings=TIMES)
    put_all(cluster)
    before = facts(cluster)
    for _ in range(2):
        cluster.locals[0].kill()
        restart(cluster.locals[0])
        assert facts(cluster) == before
        check_all(cluster)
    put_works_again(cluster)


def under_replicated(cluster):
    return cluster.cli_json("status")["under_replicated"]


def test_what_a_dead_node_held_is_copied_after_a_restart_too(cluster):
    cluster.start(nodes=3, meta_settings=TIMES)
    put_all(cluster, replicas=2)
    eventually(lambda: cluster.cli_json("status")["waiting_to_free_bytes"] == 0, "the catalogs to follow")
    cluster.locals[0].kill()
    cluster.meta.kill()
    cluster.meta.start()
    wait_recovered(cluster)
    eventually(lambda: under_replicated(cluster) == 0, "every object to have two replicas again", 60)
    for _, _, owners in facts(cluster).values():
        assert len(set(owners) - {"node-0"}) == 2
    check_all(cluster)


def test_a_drain_goes_on_after_a_restart_of_the_meta_service(cluster, tmp_path):
    settings = {**TIMES, "ock.mmc.meta.state_path": str(tmp_path)}
    cluster.start(nodes=2, meta_settings=settings)
    put_all(cluster)
    assert cluster.cli("drain", f"node-0{cluster.tag}", "--wait").returncode == 0
    cluster.meta.kill()
    cluster.meta.start()
    wait_recovered(cluster)
    # The drained one holds nothing, so the objects are back without it.
    eventually(lambda: cluster.states() == {"node-0": "drained", "node-1": "serving"}, "the drain to be known", 60)
    put_works_again(cluster)
    assert cluster.states()["node-0"] == "drained"
    check_all(cluster)


@pytest.mark.parametrize("first", ["node", "meta"])
def test_both_killed(cluster, first):
    cluster.start(nodes=2, meta_settings=TIMES)
    put_all(cluster)
    before = facts(cluster)
    for daemon in [*cluster.locals, cluster.meta]:
        daemon.kill()
    if first == "node":
        for local in cluster.locals:
            local.start(wait=False)
        cluster.meta.start()
    else:
        cluster.meta.start()
        for local in cluster.locals:
            local.start()
    wait_recovered(cluster)
    wait_all_back(cluster)
    assert facts(cluster) == before
    check_all(cluster)
    put_works_again(cluster)


def test_an_upgrade_keeps_the_objects(cluster):
    cluster.start(nodes=1, meta_settings=TIMES, local_settings={"ock.mmc.local_service.stop_mode": "keep"})
    put_all(cluster)
    assert cluster.locals[0].stop() == 0
    restart(cluster.locals[0])
    check_all(cluster)


def test_a_stop_leaves_nothing_behind(cluster):
    cluster.start(nodes=1, meta_settings=TIMES)
    put_all(cluster)
    assert cluster.locals[0].stop() == 0
    assert os.listdir(cluster.memory) == []


def assert_starts_empty(cluster, why):
    assert why in cluster.locals[0].stderr()
    eventually(lambda: cluster.cli_json("status")["objects"] == 0, "an empty pool")
    put_works_again(cluster)


def test_cold_starts_empty(cluster):
    cluster.start(nodes=1, meta_settings=TIMES)
    put_all(cluster)
    cluster.locals[0].kill()
    restart(cluster.locals[0], "--cold")
    assert_starts_empty(cluster, "starts empty: told to")


def test_another_size_starts_empty_and_cleans_up(cluster):
    cluster.start(nodes=1, meta_settings=TIMES)
    put_all(cluster)
    cluster.locals[0].kill()
    restart(cluster.locals[0], "--set", "ock.mmc.local_service.dram.size=32MB")
    assert_starts_empty(cluster, "ock.mmc.local_service.dram.size is 32")
    assert "deleted " in cluster.locals[0].stderr()
    (segment,) = cluster.memory.glob("*.segment")
    assert segment.stat().st_size == 32 * 2**20


def test_a_foreign_file_is_refused_with_one_line(cluster):
    cluster.start(nodes=1, meta_settings=TIMES)
    cluster.locals[0].kill()
    (segment,) = cluster.memory.glob("*.segment")
    segment.unlink()
    precious = cluster.folder / "precious"
    precious.write_text("precious", encoding="utf-8")
    segment.symlink_to(precious)
    cluster.locals[0].stderr_path.unlink()
    cluster.locals[0].start(wait=False)
    assert cluster.locals[0].process.wait(30) == 1
    assert "is not a file of this user" in cluster.locals[0].stderr()
    assert precious.read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("same_host", [True, False], ids=["shm", "tcp"])
def test_clients_ride_through_a_restart_of_the_meta_service(cluster, same_host):
    local_settings = {} if same_host else {"ock.mmc.local_service.shm.enable": "false"}
    cluster.start(nodes=2, meta_settings=TIMES, local_settings=local_settings)
    put_all(cluster, replicas=2)
    before = cluster.cli_json("status")["lookups_hit"]
    bench = cluster.bench_start("--op get --value-size 64KB --replicas 2 --threads 2 --keys 100 --duration 5s --verify")
    eventually(lambda: cluster.cli_json("status")["lookups_hit"] > before + 100, "the bench to read")
    cluster.meta.kill()
    cluster.meta.start()
    out, err = bench.communicate(timeout=90)
    assert bench.returncode == 0, out + err
    result = json.loads(out)
    assert result["wrong_bytes"] == 0 and result["errors"] == {}
    check_all(cluster)


def test_space_waits_for_a_stopped_client_of_the_killed_node(cluster):
    cluster.start(nodes=1, meta_settings=TIMES)
    put_all(cluster)
    before = cluster.cli_json("status")["lookups_hit"]
    bench = cluster.bench_start("--op get --value-size 64KB --threads 1 --keys 16 --duration 60s")
    eventually(lambda: cluster.cli_json("status")["lookups_hit"] > before + 100, "the bench to read")
    os.kill(bench.pid, signal.SIGSTOP)
    cluster.locals[0].kill()
    cluster.meta.kill()
    cluster.meta.start()
    restart(cluster.locals[0])
    eventually(lambda: cluster.meta.get("/ready")[0] == 200, "the meta service to be ready", 60)
    check_all(cluster)  # reads need not wait
    done = cluster.cli("put", "too-early", "-", "--timeout", "2s", input=b"x" * 5000, text=False)
    assert done.returncode != 0, "space was handed out that a stopped client can still write to"
    bench.kill()
    bench.wait(30)
    eventually(lambda: cluster.cli("put", "first", "-", input=b"x" * 5000, text=False).returncode == 0,
               "the client's end to give the space free", 30)
    put_works_again(cluster)
    check_all(cluster)
