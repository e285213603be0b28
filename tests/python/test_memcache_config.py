"""memcache_hybrid: conf files of every generation, LocalConfig, MetaConfig, and a meta service that is a process."""
import logging
import re
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import memcache_hybrid
import numpy
import pymmc
import pytest
from memcache_hybrid import _conf_file
from memcache_support import Script, conf_text, daemons, local_config, meta, opened  # noqa: F401  (fixtures)

ROOT = Path(__file__).resolve().parents[2]

MAIN = "import sys; from memcache_hybrid import MetaService; sys.exit(MetaService.main())"


def init_with(tmp_path, monkeypatch, text):
    path = tmp_path / "local.conf"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("MMC_LOCAL_CONFIG_PATH", str(path))
    store = memcache_hybrid.DistributedObjectStore()
    code = store.init(0)
    works = code == 0 and store.put("k", b"v") == 0 and store.remove("k") == 0
    store.close()
    return code, works


def test_a_conf_file_of_the_first_generation(meta, tmp_path, monkeypatch):
    assert init_with(tmp_path, monkeypatch, conf_text(meta.url)) == (0, True)


def test_a_conf_file_of_the_newest_generation(meta, tmp_path, monkeypatch):
    text = conf_text(meta.url, **{
        "ock.mmc.local_service.protocol": "device_uboe",
        "ock.mmc.local_service.dram.size": "64MB # of this node",
        "ock.mmc.local_service.max.dram.size": "64GB",
        "ock.mmc.local_service.storage.enabled": "false  # no disks",
        "ock.mmc.client.batch_option.chunk.size": "8MB",
        "ubsio.mem.size_in_gb": "10",
    })
    assert init_with(tmp_path, monkeypatch, text) == (0, True)


def test_the_local_conf_file_of_the_guide(meta, tmp_path, monkeypatch):
    text = (ROOT / "tests" / "data" / "seed_local.conf").read_text(encoding="utf-8")
    text = text.replace("tcp://127.0.0.1:5000", meta.url).replace("= 1024MB", "= 32MB")
    assert init_with(tmp_path, monkeypatch, text) == (0, True)


def test_every_key_of_the_local_service_is_known():
    """Files are shared with mmc_local_service: what it heeds must not be taken for a mistake here."""
    said = (ROOT / "docs" / "reference" / "local_conf.md").read_text(encoding="utf-8")
    keys = set(re.findall(r"^\| `((?:ock\.mmc|ubsio)[\w.]+)` \|", said, re.MULTILINE))
    assert len(keys) > 80
    assert keys - set(_conf_file._LOCAL) == set()


def test_tenant_and_integrity(meta, tmp_path, monkeypatch):
    path = tmp_path / "local.conf"
    monkeypatch.setenv("MMC_LOCAL_CONFIG_PATH", str(path))
    keys = {"ock.mmc.client.tenant": "alpha", "ock.mmc.integrity": "off"}
    path.write_text(conf_text(meta.url, **keys), encoding="utf-8")
    store = memcache_hybrid.DistributedObjectStore()
    assert store.init(0) == 0
    try:
        assert store.put("k", b"v") == 0
        with pymmc.Client(meta.url) as other, pymmc.Client(meta.url, tenant="alpha") as same:
            assert (other.exists(["k"]), same.exists(["k"])) == ([False], [True])
            assert same.stat(["k"])[0].checksum == 0
    finally:
        store.close()


def test_an_unknown_key_is_a_warning(meta, tmp_path, monkeypatch, caplog):
    text = conf_text(meta.url) + "ock.mmc.local_service.dram.sise = 1GB\nno equals sign here\n"
    with caplog.at_level(logging.WARNING, "memcache_hybrid"):
        assert init_with(tmp_path, monkeypatch, text) == (0, True)
    assert "dram.sise is not known" in caplog.text
    assert "did you mean ock.mmc.local_service.dram.size" in caplog.text


@pytest.mark.parametrize("key, value", [
    ("ock.mmc.local_service.dram.size", "10 bananas"),
    ("ock.mmc.local_service.dram.size", "2TB"),
    ("ock.mmc.local_service.dram.size", "9" * 400),
    ("ock.mmc.integrity", "sometimes"),
    ("ock.mmc.local_service.hcom.tls.access.client", "maybe"),
    ("ock.mmc.local_service.world_size", "1025"),
    ("ock.mmc.client.timeout.seconds", "0"),
    ("ock.mmc.client.timeout.seconds", "60s"),
    ("ock.mmc.tls.enable", "true"),
    ("ock.mmc.tls.enable", "maybe"),
    ("ock.mmc.local_service.hcom_url", "127.0.0.1"),
])
def test_a_wrong_value_is_an_error_that_is_named(meta, tmp_path, monkeypatch, caplog, key, value):
    assert init_with(tmp_path, monkeypatch, conf_text(meta.url, **{key: value})) == (-3000, False)
    assert key in caplog.text and "local.conf" in caplog.text


def test_values_are_encrypted_with_the_files_of_calls_when_they_have_none_of_their_own():
    tls = {"ock.mmc.tls.enable": "true", "ock.mmc.tls.top.path": "/tls", "ock.mmc.tls.ca.path": "ca",
           "ock.mmc.tls.cert.path": "cert", "ock.mmc.tls.key.path": "/own/key"}
    on = {"ock.mmc.local_service.hcom.tls.enable": "true"}
    both = _conf_file.LocalSettings({**tls, **on})
    assert both.client["data_tls"] == both.node["data_tls"] == both.client["tls"] == {
        "ca_path": "/tls/ca", "cert_path": "/tls/cert", "key_path": "/own/key"}
    own = {"ock.mmc.local_service.hcom.tls.ca.path": "data/ca"}
    assert _conf_file.LocalSettings({**tls, **on, **own}).client["data_tls"] == {"ca_path": "/tls/data/ca"}
    assert "data_tls" not in _conf_file.LocalSettings({**tls, **own}).client


def test_conf_files_that_are_none(meta, tmp_path, monkeypatch):
    store = memcache_hybrid.DistributedObjectStore()
    monkeypatch.delenv("MMC_LOCAL_CONFIG_PATH", raising=False)
    assert store.init(0) == -3000
    monkeypatch.setenv("MMC_LOCAL_CONFIG_PATH", str(tmp_path / "none"))
    assert store.init(0) == -3000
    monkeypatch.setenv("MMC_LOCAL_CONFIG_PATH", str(tmp_path))
    assert store.init(0) == -3000
    repeated = conf_text(meta.url) + "ock.mmc.log_level = info\n"
    assert init_with(tmp_path, monkeypatch, repeated) == (-3000, False)
    (tmp_path / "link").symlink_to(tmp_path / "local.conf")
    monkeypatch.setenv("MMC_LOCAL_CONFIG_PATH", str(tmp_path / "link"))
    assert store.init(0) == -3000


def test_a_data_port_that_is_taken_is_passed_over(meta, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = {"ock.mmc.local_service.hcom_url": f"tcp://127.0.0.1:{taken.getsockname()[1]}"}
        assert init_with(tmp_path, monkeypatch, conf_text(meta.url, **url)) == (0, True)


def test_device_memory_cannot_be_lent(meta, tmp_path, monkeypatch):
    only = {"ock.mmc.local_service.hbm.size": "1GB", "ock.mmc.local_service.dram.size": "0"}
    assert init_with(tmp_path, monkeypatch, conf_text(meta.url, **only)) == (-3000, False)
    both = {"ock.mmc.local_service.hbm.size": "1GB"}
    assert init_with(tmp_path, monkeypatch, conf_text(meta.url, **both)) == (0, True)


def test_local_config_is_typed_and_prints_itself():
    config = memcache_hybrid.LocalConfig()
    for name in dir(config):
        if not name.startswith("_") and name != "str":
            setattr(config, name, getattr(config, name))
    assert (config.world_size, config.protocol, config.dram_size, config.max_dram_size) == (256, "host_rdma", "1GB",
                                                                                            "64GB")
    assert (config.aggregate_io, config.read_thread_pool_size, config.tls_enable) == (True, 32, False)
    for name, wrong in (("world_size", "16"), ("world_size", 1.5), ("world_size", None), ("world_size", 1 << 31),
                        ("world_size", 10 ** 5000), ("aggregate_io", 2), ("aggregate_io", "true"), ("dram_size", 1024),
                        ("dram_size", None)):
        with pytest.raises(TypeError, match=name):
            setattr(config, name, wrong)
    with pytest.raises(AttributeError):
        config.no_such_field = 1
    for name, given, kept in (("aggregate_io", 0, False), ("tls_enable", numpy.bool_(True), True),
                              ("world_size", numpy.int64(16), 16), ("world_size", True, 1)):
        setattr(config, name, given)
        assert getattr(config, name) == kept and type(getattr(config, name)) is type(kept)
    config = memcache_hybrid.LocalConfig()
    text = config.str()
    assert text == str(config) == repr(config)
    assert text.startswith("LocalConfig {\n  meta_service_url: tcp://127.0.0.1:5000\n") and text.endswith("\n}")


@pytest.mark.parametrize("wrong", [None, {}, "conf", memcache_hybrid.MetaConfig()])
def test_setup_takes_a_configuration(wrong):
    with pytest.raises(TypeError, match="LocalConfig"):
        memcache_hybrid.DistributedObjectStore().setup(wrong)
    if not isinstance(wrong, memcache_hybrid.MetaConfig):
        with pytest.raises(TypeError, match="MetaConfig"):
            memcache_hybrid.MetaService.setup(wrong)


def test_setup_takes_one_configuration_until_close(meta):
    store = memcache_hybrid.DistributedObjectStore()
    wrong = local_config("tcp://127.0.0.1:1", dram="much")
    assert store.setup(wrong) == -1
    assert store.setup(local_config(meta.url)) == 0
    assert store.setup(wrong) == 0
    assert store.init(0) == 0
    assert store.init(0) == 0
    assert store.init(384) == -3000
    assert store.init(-1) == -3000
    assert store.close() == 0
    # The size of the second setup counts.
    assert store.setup(local_config(meta.url, dram="4MB")) == 0
    assert store.init(0) == 0
    assert store.put("big", bytes(8 << 20)) == -3016
    assert store.put("small", bytes(1 << 20)) == 0
    assert store.close() == 0


def test_a_meta_service_that_is_not_there(monkeypatch):
    store = memcache_hybrid.DistributedObjectStore()
    port = daemons.free_port()
    assert store.setup(local_config(f"tcp://127.0.0.1:{port}", client_retry_milliseconds=200)) == 0
    assert store.init(0) == -3017
    assert store.put("k", b"v") == -3019
    assert store.close() == 0


def test_meta_config():
    config = memcache_hybrid.MetaConfig()
    assert (config.evict_threshold_high, config.evict_threshold_low, config.ha_enable) == (90, 80, False)
    assert (config.metrics_url, config.log_path) == ("http://127.0.0.1:8000", "/var/log/memcache_hybrid")
    assert config.str().startswith("MetaConfig {\n")
    config.evict_threshold_high = 70
    assert memcache_hybrid.MetaService.setup(config) == -1
    config.evict_threshold_high = 100  # as the first generation allowed
    config.kv_events_enable = True
    assert memcache_hybrid.MetaService.setup(config) == 0
    memcache_hybrid.MetaService._keys = None
    config.tls_enable = True
    assert memcache_hybrid.MetaService.setup(config) == -1
    assert pymmc.MetaService.setup(config) == -1


def meta_conf(tmp_path, **more):
    ports = {name: daemons.free_port() for name in ("meta", "store", "http")}
    lines = {
        "ock.mmc.meta_service_url": f"tcp://127.0.0.1:{ports['meta']}",
        "ock.mmc.meta_service.config_store_url": f"tcp://127.0.0.1:{ports['store']}",
        "ock.mmc.meta_service.metrics_url": f"http://127.0.0.1:{ports['http']}",
        "ock.mmc.meta.ha.enable": "false",
        "ock.mmc.meta.recovery_milliseconds": "0",
        "ock.mmc.log_path": ".",
        "ock.mmc.evict_threshold_high": "70",
        "ock.mmc.evict_threshold_low": "60",
        "ock.mmc.tls.top.path": "/opt/ock/security/",
        **more,
    }
    path = tmp_path / "meta.conf"
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()), encoding="utf-8")
    return ports, str(path)


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def test_meta_service_main_heeds_every_key_of_the_service(tmp_path, eventually):
    """Those of later generations too: here the tokens of its pages."""
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text("read let-me-in-for-a-look\n", encoding="utf-8")
    ports, path = meta_conf(tmp_path, **{"ock.mmc.meta_service.http.token.path": str(tokens),
                                         "ock.mmc.meta.evict_treshold_high": "1"})
    page = urllib.request.Request(f"http://127.0.0.1:{ports['http']}/get_all_keys")
    with Script(MAIN, stderr=True, MMC_META_CONFIG_PATH=path) as script:
        eventually(lambda: connects(ports["http"]), "a listener on the http port")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(page, timeout=30)
        page.add_header("Authorization", "Bearer let-me-in-for-a-look")
        with urllib.request.urlopen(page, timeout=30) as answer:
            assert answer.status == 200
        script.process.send_signal(signal.SIGTERM)
        assert script.end() == 0
        assert f"{path}:11: unknown key 'ock.mmc.meta.evict_treshold_high'" in script.process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_meta_service_main(tmp_path, eventually, number):
    ports, path = meta_conf(tmp_path)
    with Script(MAIN, MMC_META_CONFIG_PATH=path) as script:
        for name in ("meta", "store", "http"):
            eventually(lambda name=name: connects(ports[name]), f"a listener on the {name} port")
        assert connects(ports["store"])
        with opened(local_config(f"tcp://127.0.0.1:{ports['meta']}")) as store:
            assert store.put("k", b"v") == 0
            assert store.get("k") == b"v"
        script.process.send_signal(number)
        assert script.end() == 0


def test_meta_service_main_with_setup(tmp_path, eventually):
    ports, _ = meta_conf(tmp_path)
    text = f"""
import sys
from memcache_hybrid import MetaConfig, MetaService
config = MetaConfig()
config.meta_service_url = "tcp://127.0.0.1:{ports['meta']}"
config.config_store_url = "tcp://127.0.0.1:{ports['store']}"
config.metrics_url = "http://127.0.0.1:{ports['http']}"
assert MetaService.setup(config) == 0
sys.exit(MetaService.main())
"""
    with Script(text) as script:
        eventually(lambda: connects(ports["store"]), "a listener on the config store's port")
        script.process.send_signal(signal.SIGTERM)
        assert script.end() == 0


def test_meta_service_main_that_cannot_start(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        _, path = meta_conf(tmp_path, **{"ock.mmc.meta_service_url": url})
        with Script(MAIN, MMC_META_CONFIG_PATH=path) as script:
            assert script.end() == 255
    for wrong in ({"ock.mmc.meta.ha.enable": "true"}, {"ock.mmc.evict_threshold_low": "99"}):
        _, path = meta_conf(tmp_path, **wrong)
        with Script(MAIN, stderr=True, MMC_META_CONFIG_PATH=path) as script:
            assert script.end() == 255
            said = script.process.stderr.read()
            assert path in said and next(iter(wrong)) in said
