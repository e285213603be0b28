"""`mmc doctor --tls`: what is wrong with a file or a handshake, said so that a person can mend it."""
import json
import shutil
import socket
import subprocess
import threading

import pytest
from certs import authority, private_copy
from cluster import Cluster, eventually, free_port, run_program


@pytest.fixture(scope="module")
def pool():
    made = Cluster()
    try:
        made.start_meta(authority().settings("meta"))
        local = authority().issue("local", node="node-0" + made.tag)
        made.add_local("node-0", settings=authority().both_planes(local))
        yield made
    finally:
        made.cleanup()


def doctor(settings, meta_url, folder, *words):
    """{name: check} of the report, and the exit code."""
    conf = folder / "client.conf"
    settings = {"ock.mmc.meta_service_url": meta_url, "ock.mmc.client.timeout.seconds": "2",
                "ock.mmc.local_service.hcom_url": f"tcp://127.0.0.1:{free_port()}", **settings}
    conf.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()), encoding="utf-8")
    done = run_program("mmc", "--config", conf, "--json", "--timeout", "2s", "doctor", "--tls", *words)
    checks = json.loads(done.stdout)["checks"]
    named = {}
    for check in checks:  # of several of one name the worst
        if check["verdict"] != "ok" or check["name"] not in named:
            named[check["name"]] = check
    return named, done.returncode


def failed(checks):
    return {name: check for name, check in checks.items()
            if check["verdict"] == "fail" and ("TLS" in name or "tls" in name or name == "own certificate")}


def test_a_good_setup_is_good(pool, tmp_path):
    checks, code = doctor(authority().both_planes("client"), pool.meta.url, tmp_path, "--http",
                          pool.meta.http.replace("http:", "https:"))
    assert failed(checks) == {} and code == 0, checks
    assert "CN=meta" in checks["TLS with the meta service"]["saw"]
    assert "CN=client" in checks["TLS with the meta service"]["saw"]
    assert "role client" in checks["ock.mmc.tls.cert.path"]["saw"]
    assert "role local" in checks["TLS with the local service node-0" + pool.tag]["saw"]
    assert "CN=meta" in checks["TLS with the meta service's HTTP side"]["saw"]


def test_an_encrypted_key(pool, tmp_path):
    settings = {**authority().both_planes("client"), **authority().settings("client", encrypted=True)}
    checks, code = doctor(settings, pool.meta.url, tmp_path)
    assert failed(checks) == {} and code == 0, checks
    del settings["ock.mmc.tls.key.pass.path"]
    checks, code = doctor(settings, pool.meta.url, tmp_path)
    assert code == 1 and "key.pass.path" in failed(checks)["ock.mmc.tls.key.path"]["remedy"]


def test_tls_that_is_off_is_said(pool, tmp_path):
    checks, code = doctor({}, pool.meta.url, tmp_path)
    assert code == 1 and "ock.mmc.tls.enable is false" in failed(checks)["TLS"]["saw"]


def own(**changes):
    """The settings of a client with some of them changed: `cert_path` for ock.mmc.tls.cert.path."""
    settings = authority().settings("client")
    return {**settings, **{"ock.mmc.tls." + key.replace("_", "."): str(value) for key, value in changes.items()}}


def pair(name, of=None):
    cert, key = (of or authority()).pair(name)
    return own(cert_path=cert, key_path=key)


def bad_file(folder):
    path = folder / "not.pem"
    path.write_text("this is no PEM\n", encoding="ascii")
    return path


# What is set, the check that must fail, the words that it must say.
BAD_FILES = {
    "no such authority": (lambda f: own(ca_path=f / "none.pem"), "ca.path", ("none.pem", "opened")),
    "authority is no PEM": (lambda f: own(ca_path=bad_file(f)), "ca.path", ("not.pem",)),
    "list is no PEM": (lambda f: own(ca_crl_path=bad_file(f)), "ca.crl.path", ("not.pem",)),
    "list of another": (lambda f: own(ca_crl_path=authority("theirs").crl), "ca.crl.path", ("has signed this list",)),
    "no such certificate": (lambda f: own(cert_path=f / "none.pem"), "cert.path", ("none.pem", "opened")),
    "expired": (lambda f: pair(authority().expired("client")), "cert.path", ("ended on 2020-02-01", "role client")),
    "not yet valid": (lambda f: pair(authority().not_yet_valid("client")), "cert.path", ("begins on 2099-01-01",)),
    "no role": (lambda f: pair(authority().issue("none")), "cert.path", ("role",)),
    "key of another": (lambda f: own(key_path=authority().pair("admin")[1]), "key.path", ("does not belong",)),
    "public key file": (lambda f: own(key_path=private_copy(authority().pair("client")[1], f, 0o644)), "key.path",
                        ("chmod",)),
    "key is no PEM": (lambda f: own(key_path=shutil.copy(authority().folder / "key.pass", f)), "key.path",
                      ("key.pass",)),
    "wrong pass phrase": (lambda f: own(key_path=authority().folder / "client.encrypted.key.pem",
                                        key_pass_path=private_copy(authority().pair("client")[1], f, 0o600)),
                          "key.path", ("client.encrypted.key.pem",)),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_named(pool, tmp_path, kind):
    make, setting, words = BAD_FILES[kind]
    checks, code = doctor(make(tmp_path), pool.meta.url, tmp_path)
    found = failed(checks)
    assert code == 1 and f"ock.mmc.tls.{setting}" in found, (kind, checks)
    check = found[f"ock.mmc.tls.{setting}"]
    for word in words:
        assert word in check["saw"] + check["remedy"], (kind, check)
    assert check["remedy"]


@pytest.mark.parametrize("kind", ["revoked", "another authority"])
def test_an_own_certificate_that_no_peer_would_take(pool, tmp_path, kind):
    settings = pair("revoked") if kind == "revoked" else pair("client", authority("theirs"))
    checks, code = doctor(settings, pool.meta.url, tmp_path)
    saw = failed(checks)["own certificate"]["saw"]
    assert code == 1 and ("revoked" if kind == "revoked" else "no authority in") in saw


class Peer:
    """`openssl s_server` in place of a meta service."""

    def __init__(self, name, of=None, *words, host="127.0.0.1", trusts=None):
        cert, key = (of or authority()).pair(name)
        self.port = free_port()
        self.url = f"tcp://{host}:{self.port}"
        self.process = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"{host}:{self.port}", "-cert", cert, "-key", key, "-CAfile",
             (trusts or of or authority()).ca, "-Verify", "2", "-verify_return_error", "-quiet", *words],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def listens():
            with socket.socket() as sock:
                return sock.connect_ex((host, self.port)) == 0

        eventually(listens, "openssl s_server to listen")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.communicate()


# How the peer is made, and the words of the check.
BAD_PEERS = {
    "another authority": (lambda: Peer("meta", authority("theirs")), ("no authority in", "ca.cert.pem", "it shows")),
    "expired": (lambda: Peer(authority().expired("meta")), ("ended on 2020-02-01", "it is 20")),
    "not yet valid": (lambda: Peer(authority().not_yet_valid("meta")), ("valid from 2099-01-01",)),
    "revoked": (lambda: Peer("revoked"), ("revoked", "ca.crl.pem", "CN=revoked")),
    "wrong role": (lambda: Peer("client"), ("role", "client", "meta")),
    "no role": (lambda: Peer(authority().issue("none")), ("mmc:role",)),
    "wrong host": (lambda: Peer("meta", host="127.0.0.2"), ("127.0.0.2", "localhost")),
    "TLS 1.2": (lambda: Peer("meta", None, "-no_tls1_3"), ("TLS 1.3",)),
    "refuses us": (lambda: Peer("meta", trusts=authority("theirs")),
                   ("peer refuses the certificate", "client.cert.pem")),
}


@pytest.mark.parametrize("kind", BAD_PEERS)
def test_a_bad_peer_is_described(pool, tmp_path, kind):
    make, words = BAD_PEERS[kind]
    with make() as peer:
        checks, code = doctor(authority().settings("client"), peer.url, tmp_path)
    check = failed(checks).get("TLS with the meta service")
    assert code == 1 and check is not None, (kind, checks)
    for word in words:
        assert word in check["saw"], (kind, check)
    assert check["remedy"]


def test_a_peer_in_the_clear_and_none_at_all(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()

    def answer():
        for _ in range(8):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(b"MMC1" + bytes(28))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        checks, code = doctor(authority().settings("client"), f"tcp://127.0.0.1:{address[1]}", tmp_path)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
    assert code == 1 and "does not speak TLS" in failed(checks)["TLS with the meta service"]["saw"]
    url = f"tcp://127.0.0.1:{free_port()}"
    checks, code = doctor(authority().settings("client"), url, tmp_path)
    assert code == 1 and "refused" in failed(checks)["TLS with the meta service"]["saw"]
