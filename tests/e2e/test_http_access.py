"""Who may see which page of the meta service: tokens, loopback, and what a daemon says when it is exposed."""
import socket
import urllib.error
import urllib.request

import pytest
from cluster import LOCAL, META, Cluster, Daemon, free_port, run_program

READ, ADMIN = "read-0123456789abcdef", "admin-0123456789abcdef"
TEAM = "team-0123456789abcdef"
KEY_PAGES = ("/get_all_keys", "/query_key?key=x", "/batch_query_keys?keys=x", "/api/v1/tenants")
OPEN_PAGES = ("/metrics", "/metrics/summary", "/health", "/ready", "/get_all_segments", "/role", "/leader",
              "/get_segments_detail", "/api/v1/capacity/usage")
DRAIN = "/api/v1/drain_jobs?node=no-such-node"


def ask(url, token=None, method="GET"):
    request = urllib.request.Request(url, method=method, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"read {READ}\nadmin {ADMIN}\nread {TEAM} tenant=alpha\n", encoding="ascii")
    tokens.chmod(0o600)
    made = Cluster()
    try:
        made.start(nodes=1, meta_settings={"ock.mmc.meta_service.http.token.path": tokens})
        made.put("a-key-with-a-name", b"x")
        assert made.cli("--tenant", "alpha", "put", "of-alpha", "-", input="x").returncode == 0
        assert made.cli("--tenant", "beta", "put", "of-beta", "-", input="x").returncode == 0
        made.tokens = tokens
        yield made
    finally:
        made.cleanup()


def test_strangers_see_numbers_and_no_names(guarded):
    for page in OPEN_PAGES:
        status, body, _ = ask(guarded.meta.http + page)
        assert status == 200 and "a-key-with-a-name" not in body, page
    for page in KEY_PAGES:
        for token in (None, "wrong-0123456789abcdef", READ[:-1], READ + "0"):
            status, body, headers = ask(guarded.meta.http + page, token)
            assert status == 401 and headers["WWW-Authenticate"] == "Bearer", page
            assert "a-key-with-a-name" not in body and "token" in body
    assert ask(guarded.meta.http + DRAIN, None, "POST")[0] == 401


def test_a_token_opens_what_it_is_for(guarded):
    for token in (READ, ADMIN):
        status, body, _ = ask(guarded.meta.http + "/get_all_keys", token)
        assert status == 200 and body.split() == ["a-key-with-a-name"]
    status, body, _ = ask(guarded.meta.http + DRAIN, READ, "POST")
    assert status == 403 and "admin" in body
    status, body, _ = ask(guarded.meta.http + DRAIN, ADMIN, "POST")
    assert status == 200 and "no-such-node" in body


def test_a_token_of_a_tenant_shows_its_keys_and_no_others(guarded):
    def keys(token, more=""):
        status, body, _ = ask(guarded.meta.http + "/get_all_keys" + more, token)
        return status, body.split()

    assert keys(TEAM) == (200, ["of-alpha"])
    assert keys(TEAM, "?tenant=alpha") == (200, ["of-alpha"])
    assert keys(READ, "?tenant=beta") == (200, ["of-beta"]), "one of no tenant may see all"
    for page in ("/get_all_keys?tenant=beta", "/query_key?key=of-beta&tenant=beta", "/get_all_keys?tenant=default",
                 "/api/v1/tenants?tenant=beta"):
        status, body, _ = ask(guarded.meta.http + page, TEAM)
        assert status == 403 and "of-beta" not in body, page
    status, body, _ = ask(guarded.meta.http + "/query_key?key=of-beta", TEAM)
    assert '"success":false' in body
    status, body, _ = ask(guarded.meta.http + "/api/v1/tenants", TEAM)
    assert status == 200 and "alpha" in body and "beta" not in body
    status, body, _ = ask(guarded.meta.http + "/api/v1/tenants", READ)
    assert status == 200 and "alpha" in body and "beta" in body
    assert ask(guarded.meta.http + DRAIN, TEAM, "POST")[0] == 403


def test_new_tokens_count_at_once(guarded):
    later = "later-0123456789abcdef"
    before = guarded.tokens.read_text(encoding="ascii")
    fresh = guarded.tokens.with_suffix(".new")
    fresh.write_text(f"{before}read {later}\n", encoding="ascii")
    fresh.chmod(0o600)
    assert ask(guarded.meta.http + "/get_all_keys", later)[0] == 401
    fresh.rename(guarded.tokens)
    assert ask(guarded.meta.http + "/get_all_keys", later)[0] == 200


def test_a_file_of_tokens_that_is_wrong_or_public_is_refused(cluster):
    tokens = cluster.folder / "tokens"
    for text, mode, words in (("admin short\n", 0o600, "line 1"), (f"admin {ADMIN}\n", 0o644, "chmod"), (None, 0, "")):
        tokens.unlink(missing_ok=True)
        if text is not None:
            tokens.write_text(text, encoding="ascii")
            tokens.chmod(mode)
        done = run_program(META, "--set", f"ock.mmc.meta_service_url=tcp://127.0.0.1:{free_port()}", "--set",
                           f"ock.mmc.meta_service.metrics_url=http://127.0.0.1:{free_port()}", "--set",
                           f"ock.mmc.meta_service.http.token.path={tokens}")
        assert done.returncode == 2
        last = done.stderr.strip().splitlines()[-1]
        assert str(tokens) in last and words in last and "ock.mmc.meta_service.http.token.path" in last
        assert ADMIN not in done.stderr


def test_https_needs_tls():
    done = run_program(META, "--set", "ock.mmc.meta_service.metrics_url=https://127.0.0.1:8443")
    assert done.returncode == 2 and "ock.mmc.tls.enable" in done.stderr


def test_loopback_says_nothing_and_other_addresses_warn(cluster):
    port, http_port = free_port(), free_port()
    quiet = cluster.start_meta()
    assert "without TLS" not in quiet.stderr()
    quiet.stop()
    open_meta = Daemon(META, cluster.folder / "open", {
        "ock.mmc.meta_service_url": f"tcp://0.0.0.0:{port}",
        "ock.mmc.meta_service.metrics_url": f"http://0.0.0.0:{http_port}"}).start()
    cluster.meta = open_meta
    said = open_meta.stderr()
    assert f"ock.mmc.meta_service_url = tcp://0.0.0.0:{port} without TLS" in said
    assert f"ock.mmc.meta_service.metrics_url = http://0.0.0.0:{http_port} without TLS" in said
    # Numbers for everybody, names and changes for nobody: there is no TLS and there are no tokens.
    assert ask(f"http://127.0.0.1:{http_port}/metrics")[0] == 200
    assert ask(f"http://127.0.0.1:{http_port}/get_all_keys")[0] == 401
    assert ask(f"http://127.0.0.1:{http_port}{DRAIN}", None, "POST")[0] == 401
    local = Daemon(LOCAL, cluster.folder / "local", {
        "ock.mmc.meta_service_url": f"tcp://127.0.0.1:{port}", "ock.mmc.local_service.name": "open" + cluster.tag,
        "ock.mmc.local_service.dram.size": "4MB", "ock.mmc.local_service.hcom_url": f"tcp://0.0.0.0:{free_port()}",
        "ock.mmc.local_service.shm.directory": str(cluster.folder / "local"),
        "ock.mmc.local_service.segment.directory": str(cluster.memory),
        "ock.mmc.local_service.catalog.directory": str(cluster.memory)})
    cluster.locals.append(local)
    local.start()
    assert "ock.mmc.local_service.hcom_url" in local.stderr() and "without TLS" in local.stderr()


def test_the_port_of_tls_is_told_apart(guarded):
    """TLS to a port in the clear: an answer in words, and the service goes on."""
    host, port = "127.0.0.1", int(guarded.meta.http.rsplit(":", 1)[1])
    with socket.create_connection((host, port), timeout=20) as sock:
        sock.sendall(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(160))
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100).startswith(b"HTTP/1.1 400")
    assert ask(guarded.meta.http + "/health")[0] == 200
