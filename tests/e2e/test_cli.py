"""The command line against a real pool: every command, its JSON, its exit code."""
import json
import os
import random
import re
import signal

import pytest
from cluster import eventually, free_port, run_program

DICE = random.Random(7)


def key(name):
    return f"cli/{name}/{DICE.random()}"


def test_put_and_get_a_file_and_stdin(shared_cluster, tmp_path):
    value = DICE.randbytes(3_000_001)
    source, back = tmp_path / "in", tmp_path / "out"
    source.write_bytes(value)
    name = key("file")
    put = shared_cluster.cli_json("put", name, source)
    assert put["key"] == name and put["size"] == len(value) and put["stored"] is True
    got = shared_cluster.cli_json("get", name, back)
    assert got["size"] == len(value)
    assert back.read_bytes() == value
    name = key("stdin")
    shared_cluster.put(name, b"\x00\xff binary \n")
    assert shared_cluster.get(name) == b"\x00\xff binary \n"


def test_values_of_every_awkward_size(shared_cluster):
    for size in (1, 2, 4095, 4096, 4097, 65_537, 2**20 - 1, 2**20 + 1, 9_000_001):
        name, value = key(f"size-{size}"), DICE.randbytes(size)
        shared_cluster.put(name, value)
        assert shared_cluster.get(name) == value


def test_a_key_that_is_there_keeps_its_value(shared_cluster):
    name = key("twice")
    shared_cluster.put(name, b"first")
    again = shared_cluster.cli("put", name, "-", input="second")
    assert again.returncode == 1 and "EXISTS" in again.stderr
    assert shared_cluster.cli_json("put", name, "-", "--exist-ok", input="third")["stored"] is False
    assert shared_cluster.get(name) == b"first"


def test_exists_and_its_exit_code(shared_cluster):
    there, absent = key("there"), key("absent")
    shared_cluster.put(there, b"x")
    assert shared_cluster.cli("exists", there).returncode == 0
    assert shared_cluster.cli("exists", absent).returncode == 1
    answer = shared_cluster.cli_json("exists", there, absent, expect=1)
    assert [k["present"] for k in answer["keys"]] == [True, False]
    assert answer["absent"] == 1


def test_stat(shared_cluster):
    name = key("stat")
    shared_cluster.put(name, b"x" * 12_345, "--replicas", 2)
    (info,) = shared_cluster.cli_json("stat", name)["keys"]
    assert info["size"] == 12_345 and info["present"] is True
    assert {r["node"] for r in info["replicas"]} == {"node-0", "node-1"}
    assert all(r["medium"] == "dram" for r in info["replicas"])
    (info,) = shared_cluster.cli_json("stat", key("absent"), expect=1)["keys"]
    assert info["present"] is False and info["status"] == "NOT_FOUND"
    assert "dram" in shared_cluster.cli("stat", name).stdout


def test_rm_by_key_and_prefix(shared_cluster):
    names = [key("rm") for _ in range(3)]
    for name in names:
        shared_cluster.put(name, b"x")
    assert shared_cluster.cli_json("rm", names[0])["removed"] == 1
    answer = shared_cluster.cli_json("rm", names[0], names[1], expect=1)
    assert answer["removed"] == 1
    assert [k["status"] for k in answer["keys"]] == ["NOT_FOUND", "OK"]
    shared_cluster.put("cli/prefix-a/1", b"x")
    shared_cluster.put("cli/prefix-a/2", b"x")
    shared_cluster.put("cli/prefix-b/1", b"x")
    assert shared_cluster.cli_json("rm", "--prefix", "cli/prefix-a/")["removed"] == 2
    assert shared_cluster.cli("exists", "cli/prefix-b/1").returncode == 0
    for words in (["rm"], ["rm", "--all", "k"], ["rm", "--prefix", ""]):
        assert shared_cluster.cli(*words).returncode == 2


def test_rm_all_and_ls_of_nothing(cluster):
    cluster.start(nodes=1)
    for number in range(5):
        cluster.put(f"k{number}", b"x")
    assert cluster.cli_json("rm", "--all")["removed"] == 5
    assert cluster.cli_json("ls")["keys"] == []
    assert cluster.cli("ls").stdout == ""


def test_ls_pages_through_everything(cluster):
    cluster.start(nodes=1, dram="64MB")
    result = cluster.bench("--op put --value-size 100 --keys 3000 --count 3000 --batch 500 --key-prefix many/ --keep")
    assert result["errors"] == {}
    listed = cluster.cli_json("ls", "many/")
    assert listed["count"] == 3000 and listed["more"] is False
    assert sorted(int(k["key"].removeprefix("many/")) for k in listed["keys"]) == list(range(3000))
    assert all(k["size"] == 100 for k in listed["keys"])
    few = cluster.cli_json("ls", "many/", "--limit", "7")
    assert len(few["keys"]) == 7 and few["more"] is True
    assert cluster.cli_json("ls", "other/")["keys"] == []
    assert len(cluster.cli("ls", "many/").stdout.splitlines()) == 3000


def test_keys_are_bytes(shared_cluster):
    for raw in (b"\xff\xfe\x80", "schlüssel".encode(), b"with space", b"line\nbreak", b"x" * 2048):
        name = b"cli/bytes/" + raw if len(raw) < 2000 else raw
        argument = os.fsdecode(name)
        shared_cluster.put(argument, b"value")
        assert shared_cluster.get(argument) == b"value"
        assert shared_cluster.cli("rm", argument).returncode == 0
    listed = shared_cluster.cli("ls", "cli/bytes/").stdout
    assert listed == ""


def test_bad_input_is_said_in_one_line(shared_cluster, tmp_path):
    empty = tmp_path / "empty"
    empty.touch()
    cases = [
        (["put", "", "-"], 1, "key"), (["put", "k" * 2049, "-"], 1, "2048"), (["put", "k", empty], 2, "empty"),
        (["put", "k", tmp_path / "none"], 1, "none"), (["put", "k"], 2, "operand"), (["get"], 2, "operand"),
        (["get", "absent"], 1, "NOT_FOUND"), (["get", ""], 1, "key"), (["frobnicate"], 2, "frobnicate"),
        (["nods"], 2, "did you mean 'nodes'"), (["nodes", "--jsn"], 2, "did you mean --json"),
        (["put", "k", "-", "--replicas", "9"], 2, "8"), (["nodes", "--timeout", "soon"], 2, "soon"),
        (["bench", "--op", "dance"], 2, "dance"), (["bench", "--value-size", "0"], 2, "value-size"),
        (["get", "k", "--json"], 2, "FILE"),
    ]
    for words, code, part in cases:
        done = shared_cluster.cli(*words, input="value")
        said = done.stderr.strip().splitlines()
        assert len(said) == 1 and part in said[0], (words, done.stderr)
        assert done.returncode in ({code, 2} if code == 1 else {code}), (words, done.returncode, done.stderr)


def test_replicas_more_than_nodes(shared_cluster):
    done = shared_cluster.cli("put", key("three"), "-", "--replicas", "3", "--timeout", "2s", input="x")
    assert done.returncode in (0, 1)
    if done.returncode == 1:
        assert re.search(r"NO_NODE|NO_SPACE", done.stderr)


def test_nodes_status_top(shared_cluster):
    nodes = shared_cluster.cli_json("nodes")["nodes"]
    assert {n["name"]: n["state"] for n in nodes} == {"node-0": "serving", "node-1": "serving"}
    assert all(n["capacity_bytes"] == 64 * 2**20 for n in nodes)
    status = shared_cluster.cli_json("status")
    assert status["capacity_bytes"] == 128 * 2**20 and len(status["nodes"]) == 2
    text = shared_cluster.cli("status").stdout
    assert "node-0" in text and "serving" in text
    done = shared_cluster.cli("top", "--json", "--interval", "100ms", "-n", "2")
    assert done.returncode == 0
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(frames) == 2 and all("gets_per_s" in frame for frame in frames)


def test_config_file_and_environment_name_the_pool(shared_cluster, tmp_path):
    conf = tmp_path / "local.conf"
    conf.write_text(f"ock.mmc.meta_service_url = {shared_cluster.meta.url}\nock.mmc.client.shm.enable = false\n",
                    encoding="utf-8")
    assert run_program("mmc", "--config", conf, "nodes").returncode == 0
    env = {**os.environ, "MMC_META_URL": shared_cluster.meta.url}
    assert run_program("mmc", "nodes", env=env).returncode == 0
    conf.write_text("ock.mmc.client.timeout.seconds = never\n", encoding="utf-8")
    done = run_program("mmc", "--config", conf, "nodes")
    assert done.returncode == 2 and "local.conf:1" in done.stderr


def test_unreachable_meta_service(tmp_path):
    url = f"tcp://127.0.0.1:{free_port()}"
    for words in (["nodes"], ["get", "k"], ["exists", "k"], ["status", "--json"]):
        done = run_program("mmc", "--meta", url, "--timeout", "3s", *words)
        assert done.returncode == 3, (words, done.stderr)
        assert url.removeprefix("tcp://") in done.stderr
    assert run_program("mmc", "--meta", "carrier-pigeon", "nodes").returncode == 2


def test_help_of_everything():
    overview = run_program("mmc", "--help")
    assert overview.returncode == 0
    for command in ("put", "get", "exists", "stat", "rm", "ls", "nodes", "status", "top", "bench", "replay", "doctor"):
        assert command in overview.stdout
        done = run_program("mmc", command, "--help")
        assert done.returncode == 0 and "usage: mmc " + command in done.stdout
    codes = run_program("mmc", "help", "exit-codes").stdout
    assert all(re.search(rf"^{code}\b", codes, re.M) for code in (0, 1, 2, 3, 4, 130))
    assert run_program("mmc").returncode == 2


def test_doctor(shared_cluster):
    done = shared_cluster.cli("doctor")
    assert done.returncode in (0, 1)
    assert "node-0" in done.stdout or "meta" in done.stdout
    answer = json.loads(shared_cluster.cli("--json", "doctor").stdout)
    assert answer
    bad = run_program("mmc", "--meta", f"tcp://127.0.0.1:{free_port()}", "--timeout", "2s", "doctor")
    assert bad.returncode in (1, 3)


def test_bench_json(shared_cluster):
    for op in ("put", "get", "exists", "mixed"):
        result = shared_cluster.bench(f"--op {op} --value-size 64KB --buffers 7 --keys 50 --count 200 --batch 4 "
                                      "--threads 2 --verify")
        assert result["op"] == op and result["errors"] == {}
        assert result["wrong_bytes"] == 0 and result["stale_values"] == 0
        assert result["ops"] + result["misses"] >= 200
        if op != "exists":
            assert result["gb_per_s"] > 0 and result["cpu_seconds_per_gb"] > 0
        latency = result["put" if op == "put" else "get" if op in ("get", "mixed") else "exists"]["latency_us"]
        assert 0 < latency["p50"] <= latency["p99"] <= latency["p99_9"] <= latency["max"]


def test_bench_stopped_by_ctrl_c_prints_its_summary(shared_cluster):
    bench = shared_cluster.bench_start("--op put --value-size 16KB --keys 20 --duration 60s")
    before = shared_cluster.cli_json("status")["puts"]
    eventually(lambda: shared_cluster.cli_json("status")["puts"] > before + 50, "the bench to write")
    bench.send_signal(signal.SIGINT)
    out, err = bench.communicate(timeout=30)
    assert bench.returncode == 130, err
    assert json.loads(out)["interrupted"] is True


def test_a_reader_that_goes_away(shared_cluster):
    name = key("pipe")
    shared_cluster.put(name, b"x" * 5_000_000)
    process = shared_cluster.cli_start("get", name)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=30)
    assert process.returncode in (0, 141), err


@pytest.mark.parametrize("words", [["nodes"], ["status"], ["exists", "k"], ["stat", "k"], ["ls"], ["rm", "k"]])
def test_json_is_one_object(shared_cluster, words):
    done = shared_cluster.cli("--json", *words)
    assert isinstance(json.loads(done.stdout), dict)


def test_a_pool_inside_the_process(tmp_path):
    value = tmp_path / "value"
    value.write_bytes(b"x" * 1000)
    assert run_program("mmc", "--meta", "local://?dram=64MB", "put", "k", value).returncode == 0
    words = "--json bench --pool 64MB --op mixed --value-size 256KB --keys 100 --count 500 --verify"
    done = run_program("mmc", *words.split())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["wrong_bytes"] == 0
