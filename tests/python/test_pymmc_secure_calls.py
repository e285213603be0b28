"""Calls under TLS: the option `tls` of pymmc, and ock.mmc.tls.* in conf files of memcache_hybrid."""
import certs
import cluster as daemons
import memcache_hybrid
import pytest
from memcache_hybrid import _conf_file

import pymmc


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
    assert "tls" not in _conf_file.LocalSettings({**keys, "ock.mmc.tls.enable": "false"}).client
    with pytest.raises(_conf_file.ConfigError, match="needs ock.mmc.tls.key.path"):
        _conf_file.LocalSettings({**keys, "ock.mmc.tls.key.path": ""})
    with pytest.raises(_conf_file.ConfigError, match="set ock.mmc.tls.enable = true"):
        _conf_file.LocalSettings({"ock.mmc.config_store.tls.enable": "true"})


def test_a_meta_service_of_a_conf_file_speaks_tls(certificates, tmp_path):
    files = certificates.files("meta")
    conf = tmp_path / "meta.conf"
    conf.write_text("ock.mmc.meta_service_url = tcp://127.0.0.1:0\nock.mmc.meta_service.metrics_url =\n"
                    f"ock.mmc.tls.enable = true\nock.mmc.tls.ca.path = {files['ca_path']}\n"
                    f"ock.mmc.tls.cert.path = {files['cert_path']}\nock.mmc.tls.key.path = {files['key_path']}\n",
                    encoding="utf-8")
    with pymmc.MetaService.from_conf(str(conf)) as meta:
        with pytest.raises(pymmc.MmcError, match="speaks TLS only"):
            pymmc.Client(meta.url, timeout=2)
        with pymmc.Client(meta.url, tls=certificates.files("client")) as client:
            assert client.cluster().nodes == []


@pytest.fixture(name="both", scope="module")
def both_fixture(tmp_path_factory):
    """A meta service that lets nodes be clients too, and the certificates of two."""
    made = daemons.Cluster()
    folder = certs.make_certs("--node", "worker", tmp_path_factory.mktemp("both") / "certs")
    certs.make_certs("--issue", "other", "--role", "local", "--node", "other", folder)
    try:
        made.start_meta({**certs.settings(folder, "meta"), "ock.mmc.meta.access.local": "@local, @client"})
        yield made.meta.url, folder
    finally:
        made.cleanup()


def test_a_process_that_lends_memory_and_puts_shows_one_certificate(both, tmp_path, monkeypatch):
    url, folder = both
    conf = tmp_path / "local.conf"
    keys = {"ock.mmc.meta_service_url": url, "ock.mmc.local_service.hcom_url": "tcp://127.0.0.1:0",
            "ock.mmc.local_service.dram.size": "32MB", **certs.settings(folder, "local"),
            **certs.settings(folder, "local", prefix="ock.mmc.local_service.hcom.tls.")}
    conf.write_text("".join(f"{key} = {value}\n" for key, value in keys.items()), encoding="utf-8")
    monkeypatch.setenv("MMC_LOCAL_CONFIG_PATH", str(conf))
    files = {"ca_path": str(folder / "ca.cert.pem"), "crl_path": str(folder / "ca.crl.pem"),
             "cert_path": str(folder / "other.cert.pem"), "key_path": str(folder / "other.key.pem")}
    # Values reach it over TCP only, and under tickets: TLS is on for calls and values.
    with pymmc.LocalService(url, dram="32MB", shm=False, tls=files, data_tls=files) as other:
        assert other.name == "other", "as the certificate says"
        store = memcache_hybrid.DistributedObjectStore()
        assert store.init(0, init_bm=True) == 0
        try:
            twice = memcache_hybrid.ReplicateConfig()
            twice.replicaNum = 2
            value = bytes(range(256)) * 1000
            assert store.put("both/key", value, twice) == 0
            assert store.get("both/key") == value
        finally:
            store.close()
