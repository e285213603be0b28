"""Values under TLS: options of pymmc, and the keys of memcache_hybrid's conf files."""
import pytest

import pymmc


@pytest.fixture(name="url", scope="module")
def url_fixture(certificates):
    with pymmc.MetaService("tcp://127.0.0.1:0") as meta, \
            pymmc.LocalService(meta.url, dram="32MB", name="node", shm=False, data_tls=certificates.files("local")):
        yield meta.url


def test_values_travel_under_tls(url, certificates):
    with pymmc.Client(url, data_tls=certificates.files("client")) as client:
        client.put_one("k", b"v" * 100_000)
        assert client.get_one("k") == b"v" * 100_000


def test_without_a_certificate_nothing_moves_and_the_error_says_why(url, certificates):
    with pymmc.Client(url, timeout=2) as client:
        with pytest.raises(pymmc.MmcError, match="hcom.tls.enable"):
            client.put_one("other", b"v")
    with pymmc.Client(url, timeout=2, data_tls=certificates.files("revoked")) as client:
        with pytest.raises(pymmc.MmcError, match="revoked"):
            client.put_one("other", b"v")


def test_options_that_cannot_be_are_refused(url, certificates):
    with pytest.raises(TypeError, match="cert_file"):
        pymmc.Client(url, data_tls={"cert_file": "x"})
    with pytest.raises(pymmc.MmcError, match="ca.path"):
        pymmc.Client(url, data_tls={})
    with pytest.raises(pymmc.MmcError, match="nowhere"):
        pymmc.Client(url, data_tls={**certificates.files("client"), "key_path": "/nowhere"})
