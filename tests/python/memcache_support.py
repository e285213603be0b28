"""Pools and buffers for the tests of memcache_hybrid. A store is the process's: one test at a time has one."""
import contextlib
import ctypes
import os
import random
import subprocess
import sys
import threading

import pytest

import memcache_hybrid
import pymmc

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "e2e"))

import cluster as daemons  # noqa: E402  (the folder must be on the path first)


def local_config(meta_url, dram="64MB", **fields):
    config = memcache_hybrid.LocalConfig()
    config.meta_service_url = meta_url
    config.hcom_url = "tcp://127.0.0.1:0"
    config.dram_size = dram
    config.client_retry_milliseconds = 5000
    for name, value in fields.items():
        setattr(config, name, value)
    return config


def conf_text(meta_url, dram="64MB", **more):
    """A local conf file of the first generation."""
    lines = {
        "ock.mmc.meta_service_url": meta_url,
        "ock.mmc.log_level": "info",
        "ock.mmc.tls.enable": "false",
        "ock.mmc.tls.top.path": "/opt/ock/security/",
        "ock.mmc.tls.ca.path": "certs/ca.cert.pem",
        "ock.mmc.local_service.world_size": "16",
        "ock.mmc.local_service.config_store_url": "tcp://127.0.0.1:6000",
        "ock.mmc.local_service.hcom_url": "tcp://127.0.0.1:0",
        "ock.mmc.local_service.protocol": "sdma",
        "ock.mmc.local_service.dram.size": dram,
        "ock.mmc.local_service.hbm.size": "0",
        "ock.mmc.local_service.dram_by_sdma": "true",
        "ock.mmc.client.retry_milliseconds": "5000",
        "ock.mmc.client.timeout.seconds": "60",
        **more,
    }
    return "# a comment\n\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


@contextlib.contextmanager
def opened(config, init_bm=True, device=0):
    store = memcache_hybrid.DistributedObjectStore()
    assert store.setup(config) == 0
    try:
        assert store.init(device, init_bm=init_bm) == 0
        yield store
    finally:
        assert store.close() == 0


@pytest.fixture(scope="module")
def meta():
    """A meta service without nodes."""
    with pymmc.MetaService("tcp://127.0.0.1:0") as service:
        yield service


@pytest.fixture(params=["lends memory", "daemons"])
def store(request):
    """An initialised store: one that lends memory from inside this process, and one of real daemons that lends none."""
    if request.param == "daemons":
        config = local_config(request.getfixturevalue("daemon_pool").meta_url, dram="0")
    else:
        config = local_config(request.getfixturevalue("meta").url, dram="256MB")
    with opened(config) as made:
        yield made
        made.remove_all()


class Block:
    """A KV block: buffers of these sizes, filled from a seed."""

    def __init__(self, sizes, seed=None):
        self.sizes = list(sizes)
        self.buffers = [(ctypes.c_ubyte * size)() for size in self.sizes]
        self.pointers = [ctypes.addressof(buffer) for buffer in self.buffers]
        if seed is not None:
            data = random.Random(seed).randbytes(sum(self.sizes))
            at = 0
            for buffer, size in zip(self.buffers, self.sizes):
                ctypes.memmove(buffer, data[at:at + size], size)
                at += size

    def bytes(self):
        return b"".join(bytes(buffer) for buffer in self.buffers)


def in_threads(work, count):
    """work(i) in `count` threads; raises what one of them raised."""
    raised = []

    def run(i):
        try:
            work(i)
        except BaseException as error:  # noqa: BLE001  (handed to the test)
            raised.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


class Script:
    """A Python process of its own, that answers lines."""

    def __init__(self, text, stderr=False, **env):
        self.process = subprocess.Popen([sys.executable, "-X", "faulthandler", "-c", text], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE if stderr else None, text=True,
                                        env={**os.environ, **env})

    def line(self):
        return self.process.stdout.readline().strip()

    def say(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def end(self, timeout=30):
        self.process.stdin.close()
        try:
            return self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in filter(None, (self.process.stdin, self.process.stdout, self.process.stderr)):
            with contextlib.suppress(OSError):
                pipe.close()
