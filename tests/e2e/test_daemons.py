"""The two services as programs: flags, configuration, readiness, logs, how they end."""
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from cluster import BIN, LOCAL, META, Daemon, Local, Meta, clean_environment, eventually, free_port, run_program

DATA = Path(__file__).resolve().parents[1] / "data"
PROGRAMS = (META, LOCAL)


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_version(program):
    done = run_program(program, "--help")
    assert done.returncode == 0
    for flag in ("--config", "--set", "--dump-conf", "--dump-doc", "--version"):
        assert flag in done.stdout
    done = run_program(program, "--version")
    assert done.returncode == 0
    assert re.search(r"\b\d+\.\d+\.\d+\b", done.stdout)


@pytest.mark.parametrize("program", PROGRAMS)
def test_unknown_flag_is_a_usage_error(program):
    done = run_program(program, "--confg", "x")
    assert done.returncode == 2
    assert "confg" in done.stderr


def test_dumped_conf_starts_daemons(cluster):
    """What --dump-conf prints is a whole conf file; only ports and folders are moved away from those of the machine."""
    meta = Meta(cluster.folder / "meta")
    meta_conf = cluster.folder / "meta.conf"
    meta_conf.write_text(run_program(META, "--dump-conf").stdout, encoding="utf-8")
    meta.conf = meta_conf
    meta.args = ["--set", f"ock.mmc.meta_service_url={meta.url}",
                 "--set", f"ock.mmc.meta_service.metrics_url={meta.http}"]
    cluster.meta = meta.start()
    assert "unknown key" not in meta.stderr()
    local = Local(cluster.folder / "local", meta.url, "by-dump" + cluster.tag)
    local_conf = cluster.folder / "local.conf"
    local_conf.write_text(run_program(LOCAL, "--dump-conf").stdout, encoding="utf-8")
    local.args = ["--set", f"ock.mmc.meta_service_url={meta.url}",
                  "--set", f"ock.mmc.local_service.name=by-dump{cluster.tag}",
                  "--set", f"ock.mmc.local_service.hcom_url=tcp://127.0.0.1:{local.port}",
                  "--set", f"ock.mmc.local_service.shm.directory={local.folder}",
                  "--set", f"ock.mmc.local_service.segment.directory={cluster.memory}",
                  "--set", f"ock.mmc.local_service.catalog.directory={cluster.memory}"]
    local.conf = local_conf
    cluster.locals.append(local.start())
    assert cluster.states() == {"by-dump": "serving"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_dumped_doc_names_every_key(program):
    conf = run_program(program, "--dump-conf").stdout
    doc = run_program(program, "--dump-doc").stdout
    keys = re.findall(r"^#? ?((?:ock\.mmc|ubsio)[\w.]+) =", conf, re.M)
    assert len(keys) > 20
    assert [key for key in keys if key not in doc] == []


def test_stop_by_signal_ends_with_0(cluster):
    cluster.start(nodes=1)
    assert cluster.locals[0].stop() == 0
    assert cluster.meta.stop() == 0
    meta = cluster.start_meta()
    meta.signal(signal.SIGINT)
    assert meta.process.wait(30) == 0


def test_systemd_hears_ready_and_stopping(tmp_path):
    url = f"tcp://127.0.0.1:{free_port()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(30)
        process = subprocess.Popen(
            [str(BIN / META), "--set", f"ock.mmc.meta_service_url={url}", "--set", "ock.mmc.meta_service.metrics_url="],
            stderr=subprocess.DEVNULL, env=clean_environment(NOTIFY_SOCKET=str(tmp_path / "notify")))
        try:
            assert b"READY=1" in notify.recv(4096)
            with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10):
                pass  # ready means reachable
            process.terminate()
            while b"STOPPING=1" not in notify.recv(4096):
                pass
            assert process.wait(30) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(30)


def test_second_meta_on_the_port_says_so_and_ends_with_1(cluster):
    cluster.start_meta()
    done = run_program(META, "--set", f"ock.mmc.meta_service_url={cluster.meta.url}",
                       "--set", "ock.mmc.meta_service.metrics_url=")
    assert done.returncode == 1
    assert cluster.meta.url.removeprefix("tcp://") in last_line(done.stderr)
    assert "in use" in last_line(done.stderr)
    assert "ock.mmc.meta_service_url" in last_line(done.stderr)
    assert cluster.meta.alive()


def test_second_local_on_the_port_says_so_and_ends_with_1(cluster):
    cluster.start(nodes=1)
    first = cluster.locals[0]
    second = Local(cluster.folder / "second", cluster.meta.url, "second" + cluster.tag, "2MB",
                   {"ock.mmc.local_service.hcom_url": f"tcp://127.0.0.1:{first.port}"}, memory=cluster.memory)
    second.start(wait=False)
    try:
        assert second.process.wait(30) == 1
    finally:
        second.cleanup()
    assert f"127.0.0.1:{first.port}" in second.stderr()
    assert "in use" in second.stderr()
    assert "ock.mmc.local_service.hcom_url" in second.stderr()
    assert cluster.states() == {"node-0": "serving"}


def test_metrics_port_taken_ends_with_1():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_program(META, "--set", f"ock.mmc.meta_service_url=tcp://127.0.0.1:{free_port()}",
                           "--set", f"ock.mmc.meta_service.metrics_url=http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert str(port) in last_line(done.stderr)


def test_local_without_meta_gives_up_after_its_time(tmp_path):
    url = f"tcp://127.0.0.1:{free_port()}"
    done = run_program(LOCAL, "--set", f"ock.mmc.meta_service_url={url}",
                       "--set", "ock.mmc.local_service.join_timeout_milliseconds=300",
                       "--set", "ock.mmc.local_service.dram.size=2MB",
                       "--set", f"ock.mmc.local_service.hcom_url=tcp://127.0.0.1:{free_port()}",
                       "--set", f"ock.mmc.local_service.shm.directory={tmp_path}")
    assert done.returncode == 1
    assert url.removeprefix("tcp://") in done.stderr


WRONG = [
    (META, "ock.mmc.evict_threshold_high = 101", ["ock.mmc.evict_threshold_high", "101", "1", "100"]),
    (META, "ock.mmc.evict_threshold_high = many", ["ock.mmc.evict_threshold_high", "many"]),
    (META, "ock.mmc.log_level = loud", ["ock.mmc.log_level", "loud", "debug", "error"]),
    (META, "ock.mmc.meta.ha.enable = maybe", ["ock.mmc.meta.ha.enable", "maybe"]),
    (META, "ock.mmc.meta_service_url = tcp://127.0.0.1:80", ["ock.mmc.meta_service_url", "80", "1025", "65535"]),
    (META, "ock.mmc.meta_service_url = 127.0.0.1", ["ock.mmc.meta_service_url", "127.0.0.1"]),
    (META, " = 5", ["key"]),
    (META, "ock.mmc.tls.enable = true", ["ock.mmc.tls.enable"]),
    (LOCAL, "ock.mmc.local_service.dram.size = 2XB", ["ock.mmc.local_service.dram.size", "2XB"]),
    (LOCAL, "ock.mmc.local_service.dram.size = 2TB", ["ock.mmc.local_service.dram.size", "2TB"]),
    (LOCAL, "ock.mmc.local_service.protocol = pigeon", ["ock.mmc.local_service.protocol", "pigeon", "host_tcp"]),
    (LOCAL, "ock.mmc.client.timeout.seconds = 0", ["ock.mmc.client.timeout.seconds", "0", "1", "600"]),
]


@pytest.mark.parametrize("program,line,expected", WRONG, ids=[f"{p}:{w}" for p, w, _ in WRONG])
def test_wrong_conf_is_one_line_and_exit_2(program, line, expected, tmp_path):
    conf = tmp_path / "wrong.conf"
    conf.write_text(f"# a comment\n\n{line}\n", encoding="utf-8")
    done = run_program(program, "--config", conf)
    assert done.returncode == 2
    message = last_line(done.stderr)
    for part in expected:
        assert part in message
    if "tls.enable = true" not in line:
        assert "wrong.conf:3" in message


def test_a_key_twice_a_link_and_a_missing_file_are_refused(tmp_path):
    conf = tmp_path / "twice.conf"
    conf.write_text("ock.mmc.log_level = info\nock.mmc.log_level = warn\n", encoding="utf-8")
    done = run_program(META, "--config", conf)
    assert done.returncode == 2
    assert "twice.conf:2" in done.stderr and "ock.mmc.log_level" in done.stderr
    link = tmp_path / "link.conf"
    link.symlink_to(conf)
    done = run_program(META, "--config", link)
    assert done.returncode == 2
    assert "link.conf" in done.stderr
    done = run_program(META, "--config", tmp_path / "none.conf")
    assert done.returncode == 2
    assert "none.conf" in done.stderr


def test_set_is_checked_like_the_file(tmp_path):
    done = run_program(META, "--set", "ock.mmc.evict_threshold_low=99")
    assert done.returncode == 2
    assert "ock.mmc.evict_threshold_low" in done.stderr and "99" in done.stderr
    conf = tmp_path / "x.conf"
    conf.write_text("ock.mmc.evict_threshold_high = 50\nock.mmc.evict_threshold_low = 60\n", encoding="utf-8")
    done = run_program(META, "--config", conf)
    assert done.returncode == 2
    assert "evict_threshold_high = 50" in done.stderr and "evict_threshold_low = 60" in done.stderr


def test_unknown_key_is_a_warning_with_the_nearest_name(cluster):
    cluster.start_meta({"ock.mmc.evict_treshold_high": "70"})
    text = cluster.meta.stderr()
    assert "ock.mmc.evict_treshold_high" in text
    assert "did you mean 'ock.mmc.evict_threshold_high'" in text


def test_conf_by_environment(cluster):
    class ByEnvironment(Meta):
        def command(self):
            return ["env", f"MMC_META_CONFIG_PATH={self.conf}", str(BIN / META)]

    cluster.meta = ByEnvironment(cluster.folder / "meta").start()
    assert cluster.cli("nodes").returncode == 0

    class LocalByEnvironment(Local):
        def command(self):
            return ["env", f"MMC_LOCAL_CONFIG_PATH={self.conf}", str(BIN / LOCAL)]

    local = LocalByEnvironment(cluster.folder / "local", cluster.meta.url, "by-env" + cluster.tag, "2MB",
                               memory=cluster.memory).start()
    cluster.locals.append(local)
    assert cluster.states() == {"by-env": "serving"}


class SeedDaemon(Daemon):
    """A conf file of a user as it stands; only ports and folders are moved away from those of the machine."""

    def __init__(self, program, folder, conf, overrides):
        super().__init__(program, folder, {})
        self.conf = conf
        for key, value in overrides.items():
            self.args += ["--set", f"{key}={value}"]


def test_conf_files_of_the_first_generation_start_daemons(cluster):
    meta_url = f"tcp://127.0.0.1:{free_port()}"
    meta = Meta(cluster.folder / "meta")
    seed = SeedDaemon(META, cluster.folder / "meta", DATA / "seed_meta.conf", {
        "ock.mmc.meta_service_url": meta_url,
        "ock.mmc.meta_service.metrics_url": meta.http,
        "ock.mmc.log_path": str(cluster.folder / "meta"),
    })
    meta.url, meta.command = meta_url, seed.command
    cluster.meta = meta.start()
    port = free_port()
    local = SeedDaemon(LOCAL, cluster.folder / "local", DATA / "seed_local.conf", {
        "ock.mmc.meta_service_url": meta_url,
        "ock.mmc.local_service.hcom_url": f"tcp://127.0.0.1:{port}",
        "ock.mmc.local_service.shm.directory": str(cluster.folder / "local"),
        "ock.mmc.local_service.segment.directory": str(cluster.memory),
        "ock.mmc.local_service.catalog.directory": str(cluster.memory),
        "ock.mmc.local_service.dram.size": "64MB",
    })
    cluster.locals.append(local.start())
    (node,) = cluster.cli_json("nodes")["nodes"]
    assert node["state"] == "serving"
    said = local.stderr()
    assert said.count("device_sdma") >= 1 or said.count("sdma") >= 1, "absent hardware is worth one warning"
    cluster.put("k", b"value")
    assert cluster.get("k") == b"value"


def test_strict_protocol_without_its_hardware_ends_with_1(cluster):
    cluster.start_meta()
    local = Local(cluster.folder / "strict", cluster.meta.url, "strict" + cluster.tag, "2MB", {
        "ock.mmc.local_service.protocol": "device_sdma", "ock.mmc.local_service.protocol.strict": "true"},
        memory=cluster.memory)
    local.start(wait=False)
    try:
        assert local.process.wait(30) in (1, 2)
    finally:
        local.cleanup()
    assert "device_sdma" in local.stderr()


def log_files(folder):
    return sorted(p for p in (folder / "logs").glob("mmc-meta*") if p.is_file() and not p.is_symlink())


def test_log_file_rotates_by_size_and_count(cluster):
    folder = cluster.folder / "meta"
    cluster.start_meta({"ock.mmc.log_path": str(folder), "ock.mmc.log_level": "debug",
                        "ock.mmc.log_rotation_file_size": "1", "ock.mmc.log_rotation_file_count": "3"})
    (current,) = log_files(folder)
    for start in range(5):
        assert cluster.meta.stop() == 0
        with open(current, "a", encoding="utf-8") as log:
            log.write(f"start {start}\n" + "x" * 2**20)
        cluster.meta.start()
        assert len(log_files(folder)) == min(start + 2, 3)
    assert "is ready" in current.read_text(encoding="utf-8")
    older = [p for p in log_files(folder) if p != current]
    assert [any(f"start {start}\n" in p.read_text(encoding="utf-8") for p in older) for start in (2, 3, 4)] == [
        False, True, True]


def test_several_metas_on_one_host(cluster):
    cluster.start(nodes=1)
    other = Meta(cluster.folder / "other").start()
    try:
        done = run_program("mmc", "--meta", other.url, "--json", "nodes")
        assert done.returncode == 0
        assert '"nodes": []' in done.stdout or '"nodes":[]' in done.stdout
    finally:
        other.cleanup()
    assert os.path.exists(cluster.meta.conf)
