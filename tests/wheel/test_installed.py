"""The wheels as they were installed: modules, commands, daemons."""
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.prefix) / "bin"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import cluster as daemons  # noqa: E402  (the folder must be on the path first)


@pytest.fixture(scope="module")
def pool():
    """A meta service and a node: the programs of the wheel."""
    made = daemons.Cluster()
    try:
        made.start(nodes=1, dram="64MB")
        yield made.meta.url
    finally:
        made.cleanup()


@pytest.mark.parametrize("name", ["pymmc", "memcache_hybrid", "memcache", "mooncake.store", "mooncake.engine",
                                  "mooncake.mooncake_config", "mmc_compat.codes", "pymmc.lmcache"])
def test_modules_are_those_of_the_environment(name):
    assert Path(importlib.util.find_spec(name).origin).is_relative_to(sys.prefix)


def test_nothing_else_is_needed():
    hard = [one for name in ("pymmc", "mmc-compat") for one in importlib.metadata.requires(name) or ()
            if "extra ==" not in one]
    assert hard == [f"pymmc=={importlib.metadata.version('pymmc')}"]
    with pytest.raises(ImportError):
        importlib.import_module("torch")


@pytest.mark.parametrize("name", ["pymmc", "mmc-compat"])
def test_metadata(name):
    said = importlib.metadata.metadata(name)
    assert said["Version"] == importlib.import_module("pymmc").__version__
    assert said["License-Expression"] == "Apache-2.0" and said["Requires-Python"] == ">=3.9" and said["Summary"]
    assert said.get_payload().startswith(f"# {name}\n")
    (text,) = (file for file in importlib.metadata.files(name) if file.name == "LICENSE")
    assert "Apache License" in text.read_text()


def test_types_are_there():
    files = {str(file) for file in importlib.metadata.files("pymmc")}
    assert {"pymmc/py.typed", "pymmc/__init__.pyi"} <= files


@pytest.mark.parametrize("command", ["mmc", "mmc_meta_service", "mmc_local_service", "mooncake_master",
                                     "mooncake_client", "mooncake_http_metadata_server", "mc_store_rest_server"])
def test_commands_say_what_they_are(command):
    done = subprocess.run([BIN / command, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and command in done.stdout and "--" in done.stdout


def test_values_go_round(pool):
    script = f"""
import pymmc
with pymmc.Client("{pool}") as client:
    assert client.put_one("from python", b"value" * 1000) and client.get_one("from python") == b"value" * 1000
"""
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)
    done = subprocess.run([BIN / "mmc", "--meta", pool, "get", "from python"], capture_output=True, timeout=60,
                          check=False)
    assert done.returncode == 0 and done.stdout == b"value" * 1000, done.stderr


def test_the_older_names(pool, tmp_path):
    conf = tmp_path / "mmc-local.conf"
    conf.write_text(f"ock.mmc.meta_service_url = {pool}\nock.mmc.local_service.hcom_url = tcp://127.0.0.1:0\n"
                    "ock.mmc.local_service.protocol = host_tcp\nock.mmc.local_service.dram.size = 0\n")
    for module in ("memcache_hybrid", "memcache", "pymmc"):
        script = (f"from {module} import DistributedObjectStore\nstore = DistributedObjectStore()\n"
                  f"assert store.init(0) == 0 and store.put('{module}', b'v') == 0\n"
                  f"assert store.is_exist('{module}') == 1 and store.close() == 0\n")
        subprocess.run([sys.executable, "-c", script], timeout=60, check=True,
                       env={**os.environ, "MMC_LOCAL_CONFIG_PATH": str(conf)})
