"""Values under TLS: options of pymmc, and the keys of memcache_hybrid's conf files."""
import subprocess
from pathlib import Path

import pytest

import pymmc

MAKE_CERTS = Path(__file__).resolve().parents[2] / "scripts" / "make_certs"


@pytest.fixture(name="folder", scope="module")
def folder_fixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run([str(MAKE_CERTS), "--node", "node", str(folder)], check=True, capture_output=True)
    return folder


def files(folder, role):
    return {"ca_path": str(folder / "ca.cert.pem"), "crl_path": str(folder / "ca.crl.pem"),
            "cert_path": str(folder / f"{role}.cert.pem"), "key_path": str(folder / f"{role}.key.pem")}


@pytest.fixture(name="url", scope="module")
def url_fixture(folder):
    with pymmc.MetaService("tcp://127.0.0.1:0") as meta, \
            pymmc.LocalService(meta.url, dram="32MB", name="node", shm=False, data_tls=files(folder, "local")):
        yield meta.url


def test_values_travel_under_tls(url, folder):
    with pymmc.Client(url, data_tls=files(folder, "client")) as client:
        client.put_one("k", b"v" * 100_000)
        assert client.get_one("k") == b"v" * 100_000


def test_without_a_certificate_nothing_moves_and_the_error_says_why(url, folder):
    with pymmc.Client(url, timeout=2) as client:
        with pytest.raises(pymmc.MmcError, match="hcom.tls.enable"):
            client.put_one("other", b"v")
    with pymmc.Client(url, timeout=2, data_tls=files(folder, "revoked")) as client:
        with pytest.raises(pymmc.MmcError, match="revoked"):
            client.put_one("other", b"v")


def test_options_that_cannot_be_are_refused(url, folder):
    with pytest.raises(TypeError, match="cert_file"):
        pymmc.Client(url, data_tls={"cert_file": "x"})
    with pytest.raises(pymmc.MmcError, match="ca.path"):
        pymmc.Client(url, data_tls={})
    with pytest.raises(pymmc.MmcError, match="nowhere"):
        pymmc.Client(url, data_tls={**files(folder, "client"), "key_path": "/nowhere"})
