"""Traces and benchmarks through real daemons, every byte checked."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import clean_environment

ROOT = Path(__file__).resolve().parents[2]
MAKE_TRACE = ROOT / "scripts" / "make_trace"


def make_trace(path, *args):
    done = subprocess.run([sys.executable, str(MAKE_TRACE), *map(str, args)], capture_output=True, text=True,
                          timeout=60, env=clean_environment(), check=True)
    path.write_text(done.stdout, encoding="utf-8")
    return path


def hand_made(path, requests):
    rows = [{"timestamp": number, "input_length": 512 * len(ids), "output_length": 1, "hash_ids": ids}
            for number, ids in enumerate(requests)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_replay_counts_a_hand_made_trace_right(cluster, tmp_path):
    cluster.start(nodes=2)
    trace = hand_made(tmp_path / "t.jsonl", [[1, 2, 3], [1, 2, 4, 5], [6], [1, 2, 4, 5], [2, 1]])
    result = cluster.cli_json("replay", trace, "--block-bytes", "64KB", "--buffers", "4")
    assert result["requests"] == 5 and result["blocks"] == 14
    assert result["hit_blocks"] == 0 + 2 + 0 + 4 + 2
    assert result["blocks_put"] == 3 + 2 + 1
    assert result["blocks_verified"] == 8
    assert result["wrong_bytes"] == 0 and result["errors"] == {}
    # Again: everything is there.
    result = cluster.cli_json("replay", trace, "--block-bytes", "64KB")
    assert result["hit_blocks"] == 14 and result["blocks_put"] == 0
    result = cluster.cli_json("replay", trace, "--block-bytes", "64KB", "--fresh")
    assert result["blocks_put"] == 6


@pytest.mark.parametrize("replicas", [1, 2])
def test_replay_of_a_made_trace_with_evictions(cluster, tmp_path, replicas):
    cluster.start(nodes=2, dram="32MB", meta_settings={"ock.mmc.meta.lease_milliseconds": "100"})
    trace = make_trace(tmp_path / "t.jsonl", "--requests", 400, "--seed", 5)
    result = cluster.cli_json("replay", trace, "--block-bytes", "128KB", "--concurrency", "3", "--replicas", replicas,
                              timeout=120)
    assert result["requests"] == 400
    assert result["wrong_bytes"] == 0 and result["wrong_blocks"] == 0 and result["errors"] == {}
    assert result["evicted_objects"] > 0
    assert result["get"]["bytes"] > 0


def test_replay_over_tcp(cluster, tmp_path):
    cluster.start(nodes=2, local_settings={"ock.mmc.local_service.shm.enable": "false"})
    trace = make_trace(tmp_path / "t.jsonl", "--requests", 100, "--seed", 6)
    result = cluster.cli_json("replay", trace, "--block-bytes", "64KB", "--concurrency", "2")
    assert result["wrong_bytes"] == 0 and result["errors"] == {}
    assert result["blocks_verified"] > 0


def test_wrong_traces_name_file_and_line(cluster, tmp_path):
    cluster.start(nodes=1)
    good = '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1]}\n'
    for bad in ("nonsense\n", "[]\n", '{"timestamp": 0}\n', good.replace("[1]", '["x"]'), good.replace("[1]", "[-1]")):
        trace = tmp_path / "bad.jsonl"
        trace.write_text(good + bad, encoding="utf-8")
        done = cluster.cli("replay", trace, "--block-bytes", "4KB")
        assert done.returncode != 0
        assert re.search(r"bad\.jsonl:2\b", done.stderr), done.stderr
    assert cluster.cli("replay", tmp_path / "none.jsonl").returncode != 0


@pytest.mark.parametrize("settings", [{}, {"ock.mmc.local_service.shm.enable": "false"}], ids=["shm", "tcp"])
def test_bench_verifies_the_layout_of_a_real_model(cluster, settings):
    cluster.start(nodes=2, dram="128MB", local_settings=settings,
                  meta_settings={"ock.mmc.meta.lease_milliseconds": "100"})
    result = cluster.bench("--op mixed --layout deepseek --keys 40 --count 300 --threads 2 --verify", timeout=120)
    assert result["buffers"] == 122 and result["value_bytes"] == 61 * (128 + 16) * 1024
    assert result["wrong_bytes"] == 0 and result["stale_values"] == 0 and result["errors"] == {}
    assert result["verified_values"] > 0


def test_make_trace_is_seeded(tmp_path):
    one = make_trace(tmp_path / "1", "--requests", 50, "--seed", 1).read_text(encoding="utf-8")
    again = make_trace(tmp_path / "2", "--requests", 50, "--seed", 1).read_text(encoding="utf-8")
    other = make_trace(tmp_path / "3", "--requests", 50, "--seed", 2).read_text(encoding="utf-8")
    assert one == again != other
    assert len(one.splitlines()) == 50


def test_the_programs_need_no_environment(cluster):
    cluster.start(nodes=1)
    done = subprocess.run([str(Path(os.environ.get("MMC_BIN_DIR", ROOT / "build" / "debug" / "bin")) / "mmc"), "--meta",
                           cluster.meta.url, "nodes"], capture_output=True, text=True, timeout=30, env={}, check=False)
    assert done.returncode == 0, done.stderr
