"""The commands: flags, pages, metadata, REST, and the client for processes without memory of their own."""
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mooncake_support import (Command, Master, daemons, environment, http, master, own, pattern,  # noqa: F401
                              run_command, set_up)
from mooncake import _flags
from mooncake.master import FLAGS, meta_options
from mooncake.store import MooncakeDistributedStore


@pytest.mark.parametrize("flags, named", [
    (["--nosuchflag=1"], "nosuchflag"), (["-rpc_prot", "1"], "rpc_prot"), (["--rpc_port"], "rpc_port"),
    (["--rpc_port=abc"], "rpc_port"), (["--enable_ha=maybe"], "enable_ha"), (["stray"], "stray"),
    (["--metrics_port=70000"], "metrics_port"), (["--default_kv_lease_ttl=5x"], "default_kv_lease_ttl"),
    (["--max_kv_soft_pin_ttl=week"], "max_kv_soft_pin_ttl"), (["--eviction_ratio=nan"], "eviction_ratio"),
    (["--eviction_high_watermark_ratio=inf"], "eviction_high_watermark_ratio"), (["--rpc_port=-1"], "rpc_port"),
    (["--eviction_high_watermark_ratio=90"], "eviction_high_watermark_ratio"), (["--client_ttl=1e3"], "client_ttl"),
    (["--config_path=/nowhere.json"], "/nowhere.json"), (["--config_path=/dev/null.json"], "/dev/null.json")])
def test_wrong_flags_are_refused_by_name(flags, named):
    done = run_command("master", *flags)
    assert done.returncode == 1 and named in done.stderr and not done.stdout


def test_help_lists_the_flags():
    done = run_command("master", "--help")
    assert done.returncode == 0 and all(f"--{name}=" in done.stdout for name in ("rpc_port", "eviction_ratio", "v"))
    assert run_command("mooncake_client", "-version").stdout.startswith("mooncake_client ")


def test_flags_of_the_guides(tmp_path):
    config = tmp_path / "m.yaml"
    config.write_text("# a comment\neviction_ratio: 0.1\nclient_live_ttl_sec: 20\ndefault_kv_lease_ttl: 5s\n")
    made = Master("-v=1", "--logtostderr", "true", "--log_year_in_prefix=false", "--eviction_high_watermark_ratio",
                  "0.8", "--eviction_ratio", "0.05",
                  "--rpc_thread_num", "128", "--enable_http_metadata_server=true",
                  "--http_metadata_server_host=127.0.0.1", "--http_metadata_server_port=0", "--noenable_ha",
                  "--config_path", config)
    try:
        joined = set_up(made.address, 4 << 20)
        assert joined.put("k", b"x") == 0
        url = f"http://127.0.0.1:{made.port('metadata at port')}/metadata?key="
        assert http(url + "a")[0] == 404
        assert http(url + "a", "PUT", b'{"x": 1}')[0] == 200 and http(url + "a")[2] == '{"x": 1}'
        joined.close()
    finally:
        assert made.stop() == 0


def test_all_flags_are_taken():
    """Those of the reference, with the values that they have without them; in a file as well as on the line."""
    given = [f"--{name}={value}" for name, value in FLAGS.items() if name != "config_path"]
    assert {**FLAGS, "config_path": ""} == _flags.parse(given, FLAGS) | {"config_path": ""}
    assert len(FLAGS) > 110 and meta_options(FLAGS)[1]["lease"] == 10.0


@pytest.mark.parametrize("text, named", [("[1]", "JSON object"), ("{", "Expecting"), ('{"rpc_prot": 1}', "rpc_prot"),
                                         ('{"cluster_id": {}}', "cluster_id")])
def test_wrong_files(tmp_path, text, named):
    config = tmp_path / "m.json"
    config.write_text(text)
    done = run_command("master", "--config_path", config)
    assert done.returncode == 1 and named in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command, flags, named", [
    ("mooncake_client", ["--port=70000"], "port"), ("mooncake_client", ["--global_segment_size=many"], "many"),
    ("mooncake_client", ["--local_buffer_size=50%"], "50%"), ("http_metadata_server", ["--port", "70000"], "70000"),
    ("http_metadata_server", ["--prot", "1"], "--prot"), ("mooncake_store_service", ["--port=-1"], "-1"),
    ("mooncake_store_service", ["-D", "nosuch=1"], "nosuch"), ("mooncake_store_service", ["-D", "x"], "key=value")])
def test_other_commands_refuse_by_name(command, flags, named):
    done = run_command(command, *flags, MOONCAKE_MASTER="127.0.0.1:1")
    assert done.returncode != 0 and named in done.stderr and "Traceback" not in done.stderr


def test_flags_of_mindies_guide():
    port = daemons.free_port()
    made = Command("master", "--port", port, "--eviction_high_watermark_ratio", "0.8", "--eviction_ratio", "0.05",
                   "--rpc_thread_num", "128", "--metrics_port=0", ready="pages at port")
    try:
        joined = set_up(f"127.0.0.1:{port}", 4 << 20)
        assert joined.put("k", b"x") == 0 and joined.close() == 0
    finally:
        assert made.stop() == 0


def test_options_of_the_meta_service():
    url, options = meta_options({**FLAGS, "rpc_address": "::", "rpc_port": 0, "port": 12345,
                                 "default_kv_lease_ttl": "5000", "eviction_high_watermark_ratio": 0.8})
    assert url == "tcp://[::]:12345"
    assert (options["lease"], options["evict_threshold_high"], options["evict_threshold_low"]) == (5.0, 80, 75)
    _, least = meta_options({**FLAGS, "default_kv_lease_ttl": "0", "put_start_release_timeout_sec": 0, "client_ttl": 0})
    assert (least["lease"], least["grant"], least["session_expiry"]) == (1.0, 1.0, 2.0)


def test_ipv6():
    made = Master("--rpc_address=::1", "--metrics_host=::1")
    try:
        joined = set_up(f"[::1]:{made.rpc_port}", 4 << 20, "[::1]")
        assert joined.put("k", b"x") == 0 and joined.get("k") == b"x"
        assert http(f"http://[::1]:{made.http_port}/health")[0] == 200
        joined.close()
    finally:
        made.stop()


def test_pages(own):
    made, joined = own
    joined.put("k", bytes(5000))
    joined.get("k")
    name = joined.get_hostname()
    status, kind, text = made.get("/health")
    health = json.loads(text)
    assert status == 200 and kind == "application/json" and health["status"] == "ok" and health["service_ready"] is True
    assert set(health) == {"status", "role", "ha_state", "service_ready", "leader_address", "view_version"}
    assert made.get("/role")[2] == "leader" and made.get("/ha_status")[0] == 200
    assert json.loads(made.get("/leader")[2])["leader_address"] == made.address
    assert made.get("/get_all_segments")[2].splitlines() == [name]
    assert made.get("/get_all_keys")[2] == "k\n"
    assert made.get(f"/query_segment?segment={name}")[2].startswith(f"{name}\nUsed(bytes): 8192\nCapacity(bytes) : ")
    assert made.get("/query_segment?segment=no")[0] == 404
    assert json.loads(made.get(f"/api/v1/segments/status?segment={name}")[2])["status"] == "serving"
    assert json.loads(made.get("/get_segments_detail")[2])["data"][0]["segment"] == name
    found = json.loads(made.get("/query_key?key=k")[2])
    assert found["success"] is True and found["data"][0]["size_"] == 5000
    assert found["data"][0]["transport_endpoint_"] == name
    status, _, text = made.get("/query_key?key=no")
    assert status == 404 and json.loads(text)["error_code"] == -704
    assert made.get("/query_key")[0] == 400
    both = json.loads(made.get("/batch_query_keys?keys=k,no")[2])["data"]
    assert both["k"]["ok"] is True and both["no"]["ok"] is False
    assert json.loads(made.get("/kv_events/status")[2])["enabled"] is False
    assert made.get("/nowhere")[0] == 404 and made.get("/api/v1/tenant_quotas")[0] == 501
    assert "Keys: 1 " in made.get("/metrics/summary")[2]


def test_query_key_takes_a_lease(own):
    made, joined = own
    joined.put("k", b"x")
    assert made.get("/query_key?key=k")[0] == 200
    assert joined.remove("k") == -706


def test_metrics(own):
    made, joined = own
    joined.put("k", bytes(5000))
    joined.get("k")
    status, kind, text = made.get("/metrics")
    rows = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert status == 200 and kind.startswith("text/plain; version=0.0.4")
    assert rows["master_key_count"] == "1" and rows["master_value_size_bytes"] == "5000"
    assert rows["master_active_clients"] == "1" and int(rows["master_total_capacity_bytes"]) == 32 << 20
    assert rows[f'segment_allocated_bytes{{segment="{joined.get_hostname()}"}}'] == "8192"
    assert rows["master_put_end_requests_total"] == "1" and int(rows["valid_get_nums_"]) >= 1
    assert rows["master_batch_put_end_requests_total"] == rows["master_batch_put_end_items_total"] == "1"
    assert rows["master_batch_put_end_failures_total"] == "0" and rows["master_mount_segment_requests_total"] == "1"
    assert int(rows["master_ping_requests_total"]) >= 0 and rows["master_evicted_key_count_mem"] == "0"
    assert rows['mooncake_tenant_quota_charged_bytes{tenant_id="default"}'] == "8192"
    assert "mmc_meta_objects" in rows
    assert len(rows) == sum(bool(line) and not line.startswith("#") for line in text.splitlines())  # none twice


def test_drain_jobs(own):
    made, joined = own
    joined.put("k", pattern(5000))
    second = set_up(made.address, 8 << 20)
    name = joined.get_hostname()
    asked = json.dumps({"segments": [name]}).encode()
    assert json.loads(made.get("/api/v1/drain_jobs", "POST", asked)[2]) == {
        "success": True, "job_id": name, "status": "CREATED"}
    query = f"/api/v1/drain_jobs/query?job_id={name}"
    daemons.eventually(lambda: json.loads(made.get(query)[2])["status_name"] == "SUCCEEDED", "an empty node", 60)
    where = joined.get_replica_desc("k")[0].get_memory_descriptor().buffer_descriptor.transport_endpoint
    assert where == second.get_hostname() and joined.get("k") == pattern(5000)
    assert json.loads(made.get(f"/api/v1/drain_jobs/cancel?job_id={name}", "POST", b"")[2])["status"] == "CANCELED"
    assert json.loads(made.get(query)[2])["status_name"] == "CANCELED"
    for body in (b"", b"{}", b'{"segments": []}', b'{"segments": ["a", "b"]}', b'{"segments": 5}', b"[" * 100000):
        assert made.get("/api/v1/drain_jobs", "POST", body)[0] == 400
    status, _, text = made.get("/api/v1/drain_jobs", "POST", b'{"segments": ["no"]}')
    assert status == 404 and json.loads(text)["error_code"] == -101
    assert json.loads(made.get("/api/v1/drain_jobs/query?job_id=no")[2])["error_code"] == -1402
    second.close()


def test_more_connections_than_a_page_server_has_threads(own):
    made, _ = own
    held = [socket.create_connection(("127.0.0.1", made.http_port)) for _ in range(300)]
    try:
        for one in held[:150]:  # more than wait to be let in
            one.close()
        daemons.eventually(lambda: answers(made), "an answer again")
    finally:
        for one in held:
            one.close()


def answers(made):
    try:
        return made.get("/role")[2] == "leader"
    except OSError:
        return False


def test_remove_all_page(own):
    made, joined = own
    joined.put_batch(["a", "b"], [b"1", b"2"])
    joined.get("a")
    assert json.loads(made.get("/api/v1/remove_all", "POST", b"")[2]) == {"success": True, "removed_count": 1}
    assert json.loads(made.get("/api/v1/remove_all?force=true", "POST", b"")[2])["removed_count"] == 1
    assert made.get("/api/v1/remove_all")[0] == 405


def test_metadata_server():
    made = Command("http_metadata_server", "--port", 0, "--host", "127.0.0.1", ready="/metadata")
    try:
        base = made.output.split()[-1]
        assert http(base.replace("/metadata", "/health")) == (200, "text/plain; charset=utf-8", "OK")
        key = base + "?key=mooncake%2Frpc_meta%2Fnode"
        assert http(key) == (404, "text/plain; charset=utf-8", "metadata not found")
        assert http(key, "PUT", b"one")[0] == 200 and http(key, "PUT", b"one")[0] == 200
        assert http(key, "PUT", b"two") == (400, "text/plain; charset=utf-8", "Duplicate rpc_meta key not allowed")
        assert http(key)[2] == "one" and http(key, "DELETE")[0] == 200 and http(key, "DELETE")[0] == 404
        assert http(base)[0] == 400
    finally:
        assert made.stop() == 0


def test_client_command_and_dummy_clients(master):
    made = Command("mooncake_client", f"--master_server_address={master.address}", "--port=0", "-host", "127.0.0.1",
                   "--global_segment_size=8 MB", "--enable_http_server", "--http_port=0", ready="pages at port")
    try:
        pages = f"http://127.0.0.1:{made.port('pages at port')}"
        assert json.loads(http(pages + "/health")[2]) == {"status": "healthy", "code": 0}
        assert "mooncake_transfer_read_bytes" in http(pages + "/metrics")[2]
        dummy = MooncakeDistributedStore()
        assert dummy.setup_dummy(1 << 20, 16 << 20, f"127.0.0.1:{made.port('serving at port')}") == 0
        assert dummy.put("of a dummy", b"value") == 0 and dummy.get("of a dummy") == b"value"
        memory = dummy.alloc_from_mem_pool(4096)
        assert memory and dummy.register_buffer(memory, 4096) == 0
        assert dummy.get_into("of a dummy", memory, 4096) == 5
        dummy.remove("of a dummy", True)
        dummy.close()
    finally:
        assert made.stop() == 0
    assert MooncakeDistributedStore().setup_dummy(0, 0, f"127.0.0.1:{daemons.free_port()}") == -600
    assert "nosuch" in run_command("mooncake_client", "--nosuch=1").stderr


@pytest.mark.parametrize("command, flags", [
    ("mooncake_client", ["--port=0", "--host=127.0.0.1", "--global_segment_size=4MB", "--master_server_address={}"]),
    ("mooncake_store_service", ["--port=0", "-D", "master_server_address={}"])])
def test_a_command_that_waits_for_a_master_can_be_ended(command, flags):
    nowhere = f"127.0.0.1:{daemons.free_port()}"
    waiting = subprocess.Popen([sys.executable, "-m", f"mooncake.{command}", *(flag.format(nowhere) for flag in flags)],
                               stderr=subprocess.PIPE, text=True,
                               env=environment(MMC_SETUP_WAIT_SECONDS="60", MOONCAKE_MASTER=nowhere))

    def takes_signals():
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{waiting.pid}/status").read_text().splitlines()
                      if ":\t" in line)
        return int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1

    try:
        daemons.eventually(takes_signals, "a handler of SIGTERM")
        waiting.terminate()
        assert waiting.wait(30) == 0, waiting.stderr.read()
    finally:
        waiting.kill()
        waiting.communicate(timeout=30)


def test_rest_server(tmp_path, master):
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"local_hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE",
                                  "master_server_address": "wrong:1", "global_segment_size": "8MB"}))
    made = Command("mooncake_store_service", "--config", config, "-D", f"master_server_address={master.address}",
                   "--port", 0, "--host", "127.0.0.1")
    base = f"http://127.0.0.1:{made.port('serving at port')}/api"
    try:
        assert http(base + "/put", "PUT", b'{"key": "rest/k", "value": "v"}')[0] == 200
        assert http(base + "/get/rest%2Fk")[2] == "v"
        assert json.loads(http(base + "/exist/rest/k")[2]) == {"exists": True}
        assert json.loads(http(base + "/exist/no")[2]) == {"exists": False}
        assert http(base + "/get/no")[0] == 404 and http(base + "/put", "PUT", b"[]")[0] == 400
        assert http(base + "/remove/no", "DELETE")[0] == 404 and http(base + "/remove/rest/k", "DELETE")[0] == 409
        mounted = json.loads(http(base + "/mount", "POST", b'{"size": "4MB"}')[2])
        assert mounted["status"] == "success"
        assert http(base + "/unmount", "POST", json.dumps(mounted).encode())[0] == 200
        for wrong in (b"{}", b'{"segment_ids": 5}', b'{"segment_ids": [5]}', b"[]"):
            assert http(base + "/unmount", "POST", wrong)[0] == 400
        assert http(base + "/mount_shm", "POST", b"{}")[0] == 501
        assert http(base + "/remove_all", "DELETE")[0] == 200
    finally:
        assert made.stop() == 0
    done = run_command("mooncake_store_service", "--config", tmp_path / "none.json")
    assert done.returncode == 1 and "none.json" in done.stderr
