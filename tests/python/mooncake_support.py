"""Masters and stores for the tests of the mooncake modules."""
import ctypes
import os
import re
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
COMPAT = str(Path(__file__).resolve().parents[2] / "client_sdk" / "python" / "compat" / "src")
sys.path.insert(0, COMPAT)

import cluster as daemons  # noqa: E402
from mooncake.store import MooncakeDistributedStore  # noqa: E402

START_SECONDS = 60


def environment(**extra):
    """Of commands and scripts that use the modules."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MOONCAKE_")}
    path = [COMPAT, os.environ.get("PYTHONPATH", "")]
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, path)), **extra}


class Command:
    """A command that says when it serves. Ended by its pid."""

    def __init__(self, module, *args, ready="serving"):
        self.process = subprocess.Popen([sys.executable, "-m", f"mooncake.{module}", *map(str, args)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env=environment())
        self.output = ""
        deadline = time.monotonic() + START_SECONDS
        while ready not in self.output:
            got, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 65536).decode() if got else ""
            self.output += data
            if not data:
                self.stop()
                raise AssertionError(f"{module} is not ready:\n{self.output}")

    def port(self, word):
        """The port number behind `word` in what it said."""
        return int(re.search(rf"{word} (\d+)", self.output).group(1))

    def stop(self):
        """The exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


def run_command(module, *args, timeout=60, **env):
    return subprocess.run([sys.executable, "-m", f"mooncake.{module}", *map(str, args)], capture_output=True, text=True,
                          timeout=timeout, env=environment(**env), check=False)


def http(url, method="GET", body=None):
    """(status, content type, text)"""
    request = urllib.request.Request(url, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


class Master(Command):
    def __init__(self, *flags):
        self.rpc_port = daemons.free_port()
        self.address = f"127.0.0.1:{self.rpc_port}"
        super().__init__("master", "-rpc_address=127.0.0.1", "--rpc_port", self.rpc_port, "--metrics_host=127.0.0.1",
                         "-metrics_port=0", *flags, ready="pages at port")
        self.http_port = self.port("pages at port")

    def get(self, path, method="GET", body=None):
        return http(f"http://127.0.0.1:{self.http_port}{path}", method, body)


class Memory:
    """Bytes with an address."""

    def __init__(self, content):
        size = content if isinstance(content, int) else len(content)
        self.raw = (ctypes.c_char * size)()
        if not isinstance(content, int):
            self.raw[:] = bytes(content)
        self.ptr = ctypes.addressof(self.raw)
        self.size = size

    def __bytes__(self):
        return bytes(self.raw)

    def at(self, offset):
        return self.ptr + offset


def pattern(size, seed=0):
    """Bytes that differ from those of another seed."""
    return bytes((index * 31 + seed * 17 + (index >> 8)) & 0xFF for index in range(size))


def set_up(address, segment=32 << 20, hostname="127.0.0.1", **more):
    store = MooncakeDistributedStore()
    assert store.setup(hostname, "P2PHANDSHAKE", segment, 16 << 20, "tcp", "", address, **more) == 0
    return store


@pytest.fixture(scope="session")
def master():
    made = Master()
    yield made
    assert made.stop() == 0


@pytest.fixture(params=["mooncake_master", "daemons"])
def address(request):
    """host:port of a pool: one of our mooncake_master, or of the daemons with nodes of their own."""
    if request.param == "mooncake_master":
        return request.getfixturevalue("master").address
    return request.getfixturevalue("daemon_pool").meta_url.removeprefix("tcp://")


@pytest.fixture
def store(address):
    made = set_up(address)
    yield made
    assert made.close() == 0


@pytest.fixture
def own():
    """(master, store) that nobody else uses."""
    made = Master("--default_kv_lease_ttl=5000")
    try:
        joined = set_up(made.address)
        yield made, joined
        joined.close()
    finally:
        made.stop()


@pytest.fixture
def key():
    return f"test/{uuid.uuid4().hex}"
