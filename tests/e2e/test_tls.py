"""TLS on the control protocol, with real daemons: who gets in, what others are told, reloads, what the wire shows."""
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.request

import pytest

from capture import Capture
from certs import flags, make_certs, settings
from cluster import LOCAL, META, Cluster, Daemon, Local, eventually, free_port, run_program

RELOADS = 'mmc_tls_reloads_total{result="done"}'


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = make_certs(tmp_path_factory.mktemp("certs") / "own")
    make_certs("--issue", "expired", "--role", "client", "--from", "2 days ago", "--until", "1 day ago", folder)
    make_certs("--issue", "early", "--role", "client", "--from", "1 day", "--until", "2 days", folder)
    make_certs("--issue", "nobody", "--role", "none", folder)
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    return make_certs(tmp_path_factory.mktemp("certs") / "strangers")


def started(certs, nodes=1):
    cluster = Cluster()
    try:
        cluster.start_meta(settings(certs, "meta"))
        for number in range(nodes):
            issue = f"node{number}-{cluster.tag[1:]}"
            name = f"node-{number}" + cluster.tag
            make_certs("--issue", issue, "--role", "local", "--node", name, certs)
            cluster.add_local(f"node-{number}", settings=settings(certs, issue))
        return cluster
    except BaseException:
        cluster.cleanup()
        raise


@pytest.fixture(scope="module")
def secure(certs):
    cluster = started(certs)
    yield cluster
    cluster.cleanup()


def admin(cluster, certs, *args, who="client", **kwargs):
    return cluster.cli(*flags(certs, who), *args, **kwargs)


def works(cluster, certs, key):
    done = admin(cluster, certs, "put", key, "-", input="here")
    assert done.returncode == 0, done.stderr
    done = admin(cluster, certs, "get", key)
    assert (done.returncode, done.stdout) == (0, "here"), done.stderr


def openssl(port, *args):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *map(str, args)], input=b"",
                          capture_output=True, timeout=60, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def counters(cluster, certs):
    """The numbers of /metrics, which is asked for under TLS where it is offered so."""
    _, _, text = cluster.meta.get("/metrics")
    if "use https" in text:
        context = ssl.create_default_context(cafile=str(certs / "ca.cert.pem"))
        with urllib.request.urlopen(cluster.meta.http.replace("http:", "https:") + "/metrics", timeout=10,
                                    context=context) as answer:
            text = answer.read().decode()
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def meta_port(cluster):
    return int(cluster.meta.url.rsplit(":", 1)[1])


def test_pool_over_tls(secure, certs):
    works(secure, certs, "tls/one")
    numbers = counters(secure, certs)
    assert numbers['mmc_rpc_tls_handshakes_total{result="done"}'] >= 3
    left = {name: seconds for name, seconds in numbers.items()
            if name.startswith("mmc_tls_expiry_seconds{") and 'plane="rpc"' in name}
    assert len(left) == 3, left
    assert all(300 * 86400 < seconds < 400 * 86400 for seconds in left.values()), left
    assert any(f'path="{certs}/meta.cert.pem"' in name for name in left), left


def test_the_conf_file_turns_it_on(secure, certs, tmp_path):
    conf = tmp_path / "client.conf"
    keys = {"ock.mmc.meta_service_url": secure.meta.url, **settings(certs, "client")}
    keys["ock.mmc.tls.top.path"] = str(certs)
    keys["ock.mmc.tls.cert.path"] = "client.cert.pem"
    keys["ock.mmc.tls.key.path"] = "client.encrypted.key.pem"
    keys["ock.mmc.tls.key.pass.path"] = "key.pass"
    conf.write_text("".join(f"{k} = {v}\n" for k, v in keys.items()), encoding="utf-8")
    done = run_program("mmc", "--config", conf, "put", "tls/conf", "-", input="x")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name, said", [
    ("revoked", ["revoked.cert.pem", "it is revoked"]),
    ("nobody", ["nobody.cert.pem", "names no role"]),
    ("expired", ["expired.cert.pem", "ended on 20"]),
    ("early", ["early.cert.pem", "is valid from 20"]),
])
def test_certificates_that_do_not_get_in(secure, certs, name, said):
    done = admin(secure, certs, "put", "tls/no", "-", who=name, input="x")
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in said:
        assert part in done.stderr
    works(secure, certs, "tls/after-" + name)


def test_another_authority_is_refused_by_both(secure, certs, strangers):
    done = secure.cli(*flags(strangers, "client", authorities=certs), "status")
    assert done.returncode != 0
    assert "its authority is not among those that the peer trusts" in done.stderr
    done = secure.cli(*flags(certs, "client", authorities=strangers), "status")
    assert done.returncode != 0
    assert f"no authority in {strangers}/ca.cert.pem has signed it" in done.stderr
    works(secure, certs, "tls/after-strangers")


def test_plain_and_secure_tell_each_other(secure, certs):
    done = secure.cli("status")
    assert done.returncode == 3, done.stderr
    assert "this service speaks TLS only" in done.stderr
    plain = Cluster()
    try:
        plain.start_meta()
        done = plain.cli(*flags(certs, "client"), "status")
        assert done.returncode == 3, done.stderr
        assert "the service does not speak TLS" in done.stderr
        assert "these bytes are TLS" in plain.meta.stderr()
    finally:
        plain.cleanup()


def test_a_name_that_the_certificate_has_not(secure, certs):
    # 127.0.0.2 is this host too, and in no certificate.
    listener = f"tcp://127.0.0.2:{free_port('127.0.0.2')}"
    meta = Daemon(META, secure.folder / "elsewhere", {
        "ock.mmc.meta_service_url": listener, "ock.mmc.meta_service.metrics_url": "", **settings(certs, "meta")})
    try:
        meta.start()
        done = run_program("mmc", "--meta", listener, *flags(certs, "client"), "status")
        assert done.returncode != 0
        assert "it is for localhost, 127.0.0.1, ::1, not for 127.0.0.2" in done.stderr
    finally:
        meta.cleanup()


@pytest.mark.parametrize("program, name, said", [
    (META, "client", "the certificate's role is client, and meta is needed here"),
    (META, "local", "the certificate's role is local, and meta is needed here"),
    (LOCAL, "client", "the certificate's role is client, and local is needed here"),
    (LOCAL, "local", "the certificate names no node"),
    (META, "expired", "ended on 20"),
])
def test_services_need_their_own_role(certs, tmp_path, program, name, said):
    args = [f"--set={key}={value}" for key, value in settings(certs, name).items()]
    done = run_program(program, *args)
    assert done.returncode == 2
    assert said in done.stderr.strip().splitlines()[-1]


def test_a_node_has_the_name_of_its_certificate(certs):
    make_certs("--issue", "named", "--role", "local", "--node", "one", certs)
    args = [f"--set={key}={value}" for key, value in settings(certs, "named").items()]
    done = run_program(LOCAL, "--set=ock.mmc.local_service.name=other", *args)
    assert done.returncode == 2
    assert "speaks for node 'one', and ock.mmc.local_service.name is 'other'" in done.stderr


def test_keys_that_others_may_read(certs, tmp_path):
    keys = settings(certs, "meta")
    loose = tmp_path / "loose.key.pem"
    shutil.copy(certs / "meta.key.pem", loose)
    loose.chmod(0o644)
    keys["ock.mmc.tls.key.path"] = str(loose)
    done = run_program(META, *[f"--set={key}={value}" for key, value in keys.items()])
    assert done.returncode == 2
    assert f"{loose}: has mode 0644" in done.stderr


def test_openssl_as_peer(secure, certs):
    port = meta_port(secure)
    own = ["-cert", certs / "client.cert.pem", "-key", certs / "client.key.pem"]
    trust = ["-CAfile", certs / "ca.cert.pem", "-verify_return_error"]
    said = openssl(port, *own, *trust, "-verify_ip", "127.0.0.1")
    assert "Verify return code: 0 (ok)" in said and "TLSv1.3" in said, said
    said = openssl(port, *own, *trust, "-verify_hostname", "elsewhere")
    assert "ostname mismatch" in said, said
    said = openssl(port, *trust, "-ign_eof")
    assert "certificate required" in said, said
    said = openssl(port, *own, "-tls1_2")
    assert "protocol version" in said, said
    works(secure, certs, "tls/after-openssl")


def test_silent_and_slow_callers_keep_nobody_out(secure, certs):
    port = meta_port(secure)
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(600)]
    try:
        for index, sock in enumerate(silent):
            if index % 2:
                sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        works(secure, certs, "tls/crowd")
    finally:
        for sock in silent:
            sock.close()
    assert counters(secure, certs)['mmc_rpc_tls_handshakes_total{result="dropped"}'] > 0


@pytest.mark.parametrize("name, said", [
    ("theirs", "its authority is not among those that the peer trusts"),
    ("gone-node", "it is revoked"),
    ("plain", "this service speaks TLS only"),
])
def test_a_node_without_a_good_certificate_does_not_join(secure, certs, strangers, tmp_path, name, said):
    node, before = name + secure.tag, counters(secure, certs)[RELOADS]
    if name == "theirs":
        make_certs("--issue", node, "--role", "local", "--node", node, strangers)
        keys = {**settings(strangers, node), "ock.mmc.tls.ca.path": str(certs / "ca.cert.pem"),
                "ock.mmc.tls.ca.crl.path": str(certs / "ca.crl.pem")}
    elif name == "gone-node":
        make_certs("--issue", node, "--role", "local", "--node", node, certs)
        make_certs("--revoke", node, certs)
        eventually(lambda: counters(secure, certs)[RELOADS] > before, "the new list to count")
        # It does not know yet; the meta service does, and says so.
        keys = {key: value for key, value in settings(certs, node).items() if not key.endswith("crl.path")}
    else:
        keys = {}
    local = Local(tmp_path / "node", secure.meta.url, node, "64MB",
                  {**keys, "ock.mmc.local_service.join_timeout_milliseconds": "3000"}, memory=secure.memory)
    done = run_program(LOCAL, "--config", local.conf)
    assert done.returncode != 0
    assert said in done.stderr, done.stderr
    assert name not in admin(secure, certs, "nodes").stdout
    works(secure, certs, "tls/after-" + name)


def test_a_node_that_is_revoked_is_heard_no_more(certs, tmp_path):
    copies = tmp_path / "certs"
    shutil.copytree(certs, copies)
    cluster = started(copies, nodes=2)
    try:
        def states():
            rows = json.loads(admin(cluster, copies, "--json", "nodes").stdout)["nodes"]
            return sorted((row["name"], row["state"]) for row in rows)

        assert states() == [("node-0", "serving"), ("node-1", "serving")]
        make_certs("--revoke", f"node1-{cluster.tag[1:]}", copies)
        # Its connection is open, and its heartbeats and polls come over it.
        eventually(lambda: states() == [("node-0", "serving"), ("node-1", "suspect")], "the node to be silent")
        works(cluster, copies, "tls/on-the-other")
    finally:
        cluster.cleanup()


def test_reload_under_load_loses_nothing(certs, tmp_path):
    copies = tmp_path / "certs"
    shutil.copytree(certs, copies)
    cluster = started(copies)
    try:
        # Small values: space that is not free again yet must not make the pool evict.
        bench = cluster.cli_start("--json", *flags(copies, "client"), "bench", "--op", "mixed", "--value-size", "1KB",
                                  "--keys", "40", "--threads", "2", "--duration", "6s", "--verify")
        for number in range(3):
            make_certs("--issue", f"meta{number}", "--role", "meta", copies)
            before = counters(cluster, copies)[RELOADS]  # the service may see the new files by itself at any time
            for kind in ("cert", "key"):
                os.replace(copies / f"meta{number}.{kind}.pem", copies / f"meta.{kind}.pem")
            if number < 2:
                cluster.meta.signal(signal.SIGHUP)
            eventually(lambda: counters(cluster, copies)[RELOADS] > before, "a reload")
            works(cluster, copies, f"tls/reload-{number}")
        out, err = bench.communicate(timeout=60)
        assert bench.returncode == 0, err
        assert json.loads(out)["errors"] == {}, out

        # A client that is revoked now is out without a signal; the service goes on.
        make_certs("--issue", "leaver", "--role", "client", copies)
        works(cluster, copies, "tls/stays")
        assert admin(cluster, copies, "status", who="leaver").returncode == 0
        make_certs("--revoke", "leaver", copies)
        eventually(lambda: "it is revoked" in admin(cluster, copies, "status", who="leaver").stderr, "the revocation")
        works(cluster, copies, "tls/still")

        # Files that make no sense change nothing.
        (copies / "meta.cert.pem").write_text("nonsense", encoding="utf-8")
        eventually(lambda: "the old ones stay in use" in cluster.meta.stderr(), "the refusal")
        works(cluster, copies, "tls/unshaken")
    finally:
        cluster.cleanup()


def test_the_wire_shows_no_key(secure, certs):
    key = "the-name-of-a-conversation"
    plain = Cluster()
    try:
        plain.start(nodes=1)
        with Capture([meta_port(plain)]) as wire:
            plain.put(key, b"x")
        assert key.encode() in wire.bytes()  # what the capture sees without TLS
    finally:
        plain.cleanup()
    with Capture([meta_port(secure)]) as wire:
        done = admin(secure, certs, "put", key, "-", input="x")
        assert done.returncode == 0, done.stderr
        done = admin(secure, certs, "ls")
        assert key in done.stdout
    captured = wire.bytes()
    assert len(captured) > 1000
    assert key.encode() not in captured
    assert b"MMC1" not in captured
