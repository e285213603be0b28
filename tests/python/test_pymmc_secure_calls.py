"""Calls under TLS: the option `tls` of pymmc, and ock.mmc.tls.* in conf files of memcache_hybrid."""
import pytest

import pymmc
from memcache_hybrid import _conf_file


@pytest.fixture(name="url", scope="module")
def url_fixture(certificates):
    with pymmc.MetaService("tcp://127.0.0.1:0", tls=certificates.files("meta")) as meta, \
            pymmc.LocalService(meta.url, dram="32MB", name="node", tls=certificates.files("local")):
        yield meta.url


def test_calls_travel_under_tls(url, certificates):
    with pymmc.Client(url, tls=certificates.files("client")) as client:
        client.put_one("k", b"v" * 1000)
        assert client.get_one("k") == b"v" * 1000


def test_who_is_refused_learns_why(url, certificates):
    with pytest.raises(pymmc.MmcError, match="speaks TLS only"):
        pymmc.Client(url, timeout=2)
    with pytest.raises(pymmc.MmcError, match="it is revoked"):
        pymmc.Client(url, timeout=2, tls=certificates.files("revoked"))
    with pytest.raises(pymmc.MmcError, match="ca.path"):
        pymmc.Client(url, tls={})
    with pytest.raises(TypeError, match="cert_file"):
        pymmc.Client(url, tls={"cert_file": "x"})


def test_conf_keys_become_the_option():
    keys = {"ock.mmc.tls.enable": "true", "ock.mmc.tls.top.path": "/opt/ock/security/",
            "ock.mmc.tls.ca.path": "certs/ca.cert.pem", "ock.mmc.tls.cert.path": "/etc/own.pem",
            "ock.mmc.tls.key.path": "certs/key.pem"}
    paths = {"ca_path": "/opt/ock/security/certs/ca.cert.pem", "cert_path": "/etc/own.pem",
             "key_path": "/opt/ock/security/certs/key.pem"}
    settings = _conf_file.LocalSettings(keys)
    assert settings.client["tls"] == settings.node["tls"] == paths
    assert _conf_file.MetaSettings(keys).options["tls"] == paths
    assert "tls" not in _conf_file.LocalSettings({**keys, "ock.mmc.tls.enable": "false"}).client
    with pytest.raises(_conf_file.ConfigError, match="needs ock.mmc.tls.key.path"):
        _conf_file.LocalSettings({**keys, "ock.mmc.tls.key.path": ""})
    with pytest.raises(_conf_file.ConfigError, match="set ock.mmc.tls.enable = true"):
        _conf_file.LocalSettings({"ock.mmc.config_store.tls.enable": "true"})
