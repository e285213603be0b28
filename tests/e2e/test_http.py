"""The meta service's HTTP side: metrics, health, the read-only routes."""
import http.client
import json
import re
import socket
from urllib.parse import quote, unquote, urlsplit

import pytest


def test_health_and_ready(shared_cluster):
    for path in ("/health", "/ready"):
        status, _, body = shared_cluster.http_get(path)
        assert status == 200, body


def test_metrics_are_prometheus_text(shared_cluster):
    shared_cluster.put("metrics-key", b"x" * 10_000)
    shared_cluster.get("metrics-key")
    status, content_type, text = shared_cluster.http_get("/metrics")
    assert status == 200 and content_type.startswith("text/plain")
    sample = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^{}]*\})? (-?[0-9.e+-]+|\+Inf|NaN)$')
    declared = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            declared.add(line.split()[2])
        elif line and not line.startswith("#"):
            assert sample.match(line), line
            name = re.split(r"[{ ]", line)[0]
            assert name in declared or re.sub(r"_(bucket|sum|count)$", "", name) in declared, line
    assert text.count("# TYPE") == text.count("# HELP")


@pytest.mark.parametrize("word", ["hit", "miss", "evict", "session", "grant", "node-0", "dram", "Lookup", "PutCommit"])
def test_metrics_speak_of(shared_cluster, word):
    shared_cluster.put("some-key", b"x", "--exist-ok")
    shared_cluster.get("some-key")
    assert word in shared_cluster.http_get("/metrics")[2]


def test_method_latencies_are_histograms(shared_cluster):
    shared_cluster.put("timed", b"x")
    text = shared_cluster.http_get("/metrics")[2]
    buckets = re.findall(r'^(\S+_seconds)_bucket\{[^}]*method="PutCommit"[^}]*le="([^"]+)"[^}]*\} (\d+)', text, re.M)
    assert buckets and buckets[-1][1] == "+Inf"
    counts = [int(count) for _, _, count in buckets]
    assert counts == sorted(counts) and counts[-1] >= 1


def test_keys_and_one_key(shared_cluster):
    shared_cluster.put("http/a b&c", b"x" * 4097)
    status, _, body = shared_cluster.http_get("/get_all_keys")
    assert status == 200 and "http/a b&c" in map(unquote, body.splitlines())
    status, _, body = shared_cluster.http_get("/query_key?key=" + quote("http/a b&c", safe=""))
    assert status == 200 and "4097" in body
    status, _, body = shared_cluster.http_get("/query_key?key=absent")
    assert "4097" not in body


def test_batch_query(shared_cluster):
    shared_cluster.put("batch-1", b"x" * 11)
    shared_cluster.put("batch-2", b"x" * 22)
    status, _, body = shared_cluster.http_get("/batch_query_keys?keys=batch-1,batch-2,absent")
    assert status == 200
    json.loads(body)
    assert "batch-1" in body and "batch-2" in body


def test_segments(shared_cluster):
    status, _, body = shared_cluster.http_get("/get_all_segments")
    assert status == 200
    for name in ("node-0", "node-1"):
        assert name in body
    status, _, body = shared_cluster.http_get("/api/v1/segments/status")
    assert status == 200
    json.loads(body)
    for path in ("/api/v1/capacity/usage", "/api/v1/capacity/segment_remaining"):
        status, _, body = shared_cluster.http_get(path)
        assert status == 200
        json.loads(body)


def test_unknown_page_and_method(shared_cluster):
    assert shared_cluster.http_get("/no/such/page")[0] == 404
    parts = urlsplit(shared_cluster.meta.http)
    for method in ("POST", "DELETE", "PUT"):
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
        connection.request(method, "/get_all_keys")
        assert connection.getresponse().status in (404, 405)
        connection.close()


def test_summary_and_role(shared_cluster):
    assert shared_cluster.http_get("/metrics/summary")[0] == 200
    assert shared_cluster.http_get("/role")[0] == 200


def test_a_request_in_pieces_and_two_in_one(shared_cluster):
    parts = urlsplit(shared_cluster.meta.http)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as sock:
        for piece in (b"GET /hea", b"lth HTT", b"P/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n",
                      b"Connection: close\r\n\r\n"):
            sock.sendall(piece)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    assert answer.count(b"HTTP/1.1 200") == 2
