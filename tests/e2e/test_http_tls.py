"""The HTTP side over TLS, asked by curl: certificates and tokens, good and bad, and peers that do not behave."""
import http.client
import socket
import ssl
import subprocess

import pytest
from certs import authority
from cluster import Cluster, eventually

READ, ADMIN = "read-0123456789abcdef", "admin-0123456789abcdef"
KEYS, DRAIN = "/get_all_keys", "/api/v1/drain_jobs?node=no-such-node"
REFUSED = (35, 52, 55, 56)  # curl: no handshake; or, with TLS 1.3, an alert in place of the answer
STALLED = 60


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"read {READ}\nadmin {ADMIN}\n", encoding="ascii")
    tokens.chmod(0o600)
    made = Cluster()
    try:
        made.start_meta({**authority().settings("meta"), "ock.mmc.meta_service.http.token.path": tokens})
        yield made
    finally:
        made.cleanup()


def port_of(pool):
    return int(pool.meta.http.rsplit(":", 1)[1])


def curl(pool, page, *words, pair=None, ca=None, scheme="https"):
    """(curl's exit code, HTTP status, body, curl's words)."""
    command = ["curl", "--silent", "--show-error", "--max-time", "30", "--cacert", str(ca or authority().ca),
               "--write-out", "\n%{http_code}", *words, f"{scheme}://127.0.0.1:{port_of(pool)}{page}"]
    if pair is not None:
        command[1:1] = ["--cert", str(pair[0]), "--key", str(pair[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    body, _, status = done.stdout.rpartition("\n")
    return done.returncode, int(status or 0), body, done.stderr


def bearer(token):
    return "--header", f"Authorization: Bearer {token}"


def test_an_admin_certificate_opens_everything(pool):
    code, status, body, words = curl(pool, KEYS, pair=authority().pair("admin"))
    assert (code, status) == (0, 200), words
    code, status, body, _ = curl(pool, DRAIN, "--request", "POST", pair=authority().pair("admin"))
    assert (code, status) == (0, 200) and "no-such-node" in body


@pytest.mark.parametrize("name", ["none", "client", "local", "meta"])
def test_no_certificate_or_another_role_sees_numbers_only(pool, name):
    pair = None if name == "none" else authority().pair(name)
    for page in ("/health", "/ready", "/metrics", "/metrics/summary"):
        assert curl(pool, page, pair=pair)[:2] == (0, 200), page
    code, status, body, _ = curl(pool, KEYS, pair=pair)
    assert (code, status) == (0, 401) and "token" in body
    assert curl(pool, DRAIN, "--request", "POST", pair=pair)[:2] == (0, 401)


def test_tokens(pool):
    assert curl(pool, KEYS, *bearer(READ))[:2] == (0, 200)
    assert curl(pool, DRAIN, "--request", "POST", *bearer(READ))[:2] == (0, 403)
    assert curl(pool, DRAIN, "--request", "POST", *bearer(ADMIN))[:2] == (0, 200)
    for wrong in ("wrong-0123456789abcdef", ADMIN.upper(), ADMIN + "x", ""):
        assert curl(pool, KEYS, *bearer(wrong))[:2] == (0, 401)


BAD_CLIENTS = {
    "another authority": (lambda: authority("theirs").pair("admin"), "no authority in"),
    "expired": (lambda: authority().pair(authority().expired("admin")), "ended on 2020-02-01"),
    "not yet valid": (lambda: authority().pair(authority().not_yet_valid("admin")), "valid from 2099-01-01"),
    "revoked": (lambda: authority().pair("revoked"), "revoked"),
    "no role": (lambda: authority().pair(authority().issue("none")), "mmc:role"),
}


@pytest.mark.parametrize("kind", BAD_CLIENTS)
def test_a_bad_certificate_is_worse_than_none(pool, kind):
    make, words = BAD_CLIENTS[kind]
    pair = make()

    def refused_and_said():
        code, status, body, _ = curl(pool, "/health", pair=pair)
        assert code in REFUSED and status == 0 and body == "", (code, status, body)
        return words in pool.meta.stderr()  # at most one line a second goes to the log

    eventually(refused_and_said, f"{words!r} in the log of the meta service")
    assert curl(pool, "/health")[:2] == (0, 200)


def test_a_certificate_that_is_revoked_later_opens_nothing_any_more(pool):
    name = authority().issue("admin")
    assert curl(pool, KEYS, pair=authority().pair(name))[:2] == (0, 200)
    authority().revoke(name)
    eventually(lambda: curl(pool, KEYS, pair=authority().pair(name))[0] in REFUSED, "the new list to count")
    assert curl(pool, KEYS, pair=authority().pair("admin"))[:2] == (0, 200)


def ask(connection):
    connection.request("GET", KEYS)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_an_open_connection_of_one_that_is_revoked_opens_nothing_any_more(pool):
    name = authority().issue("admin")
    connections = {}
    for pair in (name, "admin"):
        context = ssl.create_default_context(cafile=str(authority().ca))
        context.load_cert_chain(*map(str, authority().pair(pair)))
        connections[pair] = http.client.HTTPSConnection("localhost", port_of(pool), timeout=STALLED, context=context)
        assert ask(connections[pair]) == 200
    kept = connections["admin"].sock
    authority().revoke(name)

    def shut():
        assert ask(connections["admin"]) == 200
        try:
            return ask(connections[name]) == 401
        except (ssl.SSLError, ConnectionError):
            return True  # hung up on before, and not let in again

    eventually(shut, "the open connection to be of no use")
    assert connections["admin"].sock is kept, "others keep theirs"
    for connection in connections.values():
        connection.close()


def test_the_client_judges_too(pool):
    assert curl(pool, "/health", ca=authority("theirs").ca)[0] == 60


def test_versions_before_1_3_are_refused(pool):
    code, status, _, words = curl(pool, "/health", "--tls-max", "1.2")
    assert code == 35 and status == 0 and "protocol version" in words
    assert curl(pool, "/health", "--tlsv1.3")[:2] == (0, 200)


def test_http_in_the_clear_is_answered_in_words(pool):
    code, status, body, _ = curl(pool, "/health", scheme="http")
    assert (code, status) == (0, 400) and "https://" in body
    with socket.create_connection(("127.0.0.1", port_of(pool)), timeout=20) as sock:
        sock.sendall(b"MMC1" + bytes(28))
        assert sock.recv(100).startswith(b"HTTP/1.1 400")


def test_limits_hold_over_tls(pool):
    assert curl(pool, "/query_key?key=" + "a" * 20_000)[:2] == (0, 431)
    assert curl(pool, "/health", "--data", "x" * 100_000)[1] == 413
    long_header = ["--header", "X: " + "a" * 20_000]
    assert curl(pool, "/health", *long_header)[:2] == (0, 431)


def test_slow_and_half_open_peers_are_thrown_out_and_stand_in_nobodys_way(pool):
    """Silence, half a ClientHello, a handshake without a request, half a request: all of them end by themselves."""
    context = ssl.create_default_context(cafile=str(authority().ca))
    address = ("127.0.0.1", port_of(pool))
    peers = []
    try:
        for number in range(100):
            sock = socket.create_connection(address, timeout=STALLED)
            if number % 4 == 1:
                sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            elif number % 4 >= 2:
                sock = context.wrap_socket(sock, server_hostname="localhost")
                if number % 4 == 3:
                    sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
            peers.append(sock)
        assert curl(pool, "/health")[:2] == (0, 200)
        for sock in peers:
            try:
                while sock.recv(4096):
                    pass
            except (ssl.SSLError, ConnectionError):
                pass  # closed without a farewell: closed
    finally:
        for sock in peers:
            sock.close()
    assert curl(pool, "/health")[:2] == (0, 200) and pool.meta.alive()


def test_more_connections_than_there_may_be(pool):
    address = ("127.0.0.1", port_of(pool))
    peers = [socket.create_connection(address, timeout=STALLED) for _ in range(400)]
    try:
        assert pool.meta.alive()
        # The service turns away what is too much; the calls go on at their own port.
        turned_away = 0
        for sock in peers[300:]:
            try:
                turned_away += sock.recv(1) == b""
            except ConnectionError:
                turned_away += 1
        assert turned_away == 100
    finally:
        for sock in peers:
            sock.close()
    eventually(lambda: curl(pool, "/health")[:2] == (0, 200), "a place for one more")


def test_random_bytes_after_a_good_handshake(pool):
    context = ssl.create_default_context(cafile=str(authority().ca))
    for data in (bytes(range(256)) * 20, b"\r\n" * 1000, b"GET\0 / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"):
        with socket.create_connection(("127.0.0.1", port_of(pool)), timeout=STALLED) as raw:
            with context.wrap_socket(raw, server_hostname="localhost") as sock:
                sock.sendall(data)
                try:
                    answer = sock.recv(64)
                except (ssl.SSLError, ConnectionError):
                    answer = b""
                assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert curl(pool, "/health")[:2] == (0, 200)
