"""Benchmarks that check every byte while the meta service is killed and started again under them."""
import json

import pytest
from cluster import eventually

META = {
    "ock.mmc.meta.recovery_milliseconds": "3000",
    "ock.mmc.meta.heartbeat_milliseconds": "100",
    "ock.mmc.meta.commit_mode": "sync",  # what a put answered for is in the catalogs: no miss is excused
}


def objects(cluster):
    # Not by the command line: a benchmark may be over before that has started.
    return cluster.counters()["mmc_meta_objects"]


def finish(bench):
    out, err = bench.communicate(timeout=180)
    assert bench.returncode == 0, f"{out}\n{err}"
    result = json.loads(out)
    assert result["wrong_bytes"] == 0 and result["wrong_values"] == 0 and result["errors"] == {}, result
    return result


def restart_meta(cluster):
    cluster.meta.kill()
    cluster.meta.start()


@pytest.mark.parametrize("settings", [{}, {"ock.mmc.local_service.shm.enable": "false"}], ids=["shm", "tcp"])
def test_gets_ride_through_a_killed_meta_service(cluster, settings):
    cluster.start(nodes=2, dram="128MB", meta_settings=META, local_settings=settings)
    bench = cluster.bench_start("--op get --verify --integrity verify --value-size 64KB --keys 800 --threads 2 "
                                "--batch 4 --duration 12s --keep")
    eventually(lambda: objects(cluster) == 800, "the values of the benchmark", 60)
    for _ in range(2):
        restart_meta(cluster)
        eventually(lambda: objects(cluster) == 800, "all values again", 30)
    result = finish(bench)
    assert result["get"]["items"] > 0 and result["misses"] == 0


def test_puts_ride_through_a_killed_meta_service(cluster):
    cluster.start(nodes=2, dram="256MB", meta_settings=META)
    keys = 40_000
    bench = cluster.bench_start(f"--op put --verify --integrity verify --value-size 4KB --keys {keys} --count {keys} "
                                "--threads 4 --batch 2 --keep")
    eventually(lambda: objects(cluster) > 500, "the first values of the benchmark", 60)
    assert objects(cluster) < keys
    restart_meta(cluster)
    result = finish(bench)
    assert result["put"]["items"] == keys
    assert objects(cluster) == keys


def test_integrity_is_one_of_three(cluster):
    cluster.start(nodes=1)
    done = cluster.cli("--integrity", "sometimes", "exists", "k")
    assert done.returncode == 2 and "off, put or verify" in done.stderr, done.stderr
    for mode in ("off", "put", "verify"):
        cluster.put(mode, b"value", "--integrity", mode)
        assert cluster.get(mode) == b"value"
