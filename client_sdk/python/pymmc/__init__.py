"""mmc: a pool of many machines' memory for the KV blocks of LLM inference.

    import pymmc
    with pymmc.Client("tcp://127.0.0.1:5000") as client:       # or "local://?dram=1GB": a pool in this process
        client.put({"block/0": [k_layer, v_layer]})            # numpy, bytes, CPU tensors, (address, bytes)
        client.get_into({"block/0": [k_out, v_out]})           # straight into the caller's buffers

Calls take batches. What one key meets is in its result (Status, GetResult) and never raises; what fails as a whole
raises MmcError. Keys are str (UTF-8) or bytes of 1 to 2048 bytes; values are 1 byte to 1 GiB, and never change; sizes
are in bytes, times in seconds. Everything may be called from any thread, and lets other threads run while it waits or
copies.

fork(): clients, views and services belong to the process that made them; in a child they answer ClosedError.
"""
import atexit

from . import _errors, _pymmc
from ._errors import *  # noqa: F403
from ._pymmc import (ClientStats, ClusterStatus, GetResult, ListPage, NodeInfo, ObjectInfo, ReplicaInfo, Status, View,
                     __version__, parse_size, readable)

_LAZY = {
    "AsyncClient": "_aio",
    "Cluster": "_services",
    "LocalService": "_services",
    "MetaService": "_services",
    "TransferEngine": "_engine",
    "run_meta_service": "_services",
    "binary": "_programs",
}
# The classes of an older module of this name, for programs that still import them from here.
_OLDER_NAMES = ("DistributedObjectStore", "KeyInfo", "LocalConfig", "MetaConfig", "ReplicateConfig")

__all__ = [
    *_errors.__all__, *_LAZY, "Client", "ClientStats", "ClusterStatus", "GetResult", "ListPage", "NodeInfo",
    "ObjectInfo", "ReplicaInfo", "Status", "View", "parse_size", "readable",
]

atexit.register(_pymmc.end_all)


class Client(_pymmc.Client):
    """A client of a pool. Raises MmcError when it cannot connect, TypeError for an option that is not known.

    meta_url: "tcp://host:port", several separated by commas; or "local://?dram=1GB", a pool inside this process.
    Options: name; tenant (whose keys these are; "": the default tenant); timeout (of calls that give none; 60),
    connect_retry (keep trying for so long; 0), lease (0: the service's), in seconds; location_cache,
    location_cache_keys; same_host (use shared memory; True); tcp_connections (per node; 4), tcp_congestion_control;
    copy_threads (0); async_threads (4), async_queue (4096); integrity ("put": values are stored with checksums;
    "verify": and compared by whole reads; "off"); tls (a dict of paths: ca_path, cert_path, key_path;
    crl_path, key_pass_path, decrypter_path), data_tls (the same, for values that travel over TCP; LocalService has it
    too); contribute_dram (memory of this process lent to the pool, "1GB"),
    contribute (more options of LocalService, as a dict).
    """

    def __init__(self, meta_url="tcp://127.0.0.1:5000", **options):
        super().__init__(meta_url, options)

    def put_one(self, key, value, *, replicas=1, preferred_nodes=(), prefer_local=True, timeout=None, soft_pin=None,
                hard_pin=False, group=None):
        """Stores one value. False when the key was there already (its value stays). Raises MmcError."""
        status = self.put(((key, value),), replicas=replicas, preferred_nodes=preferred_nodes,
                          prefer_local=prefer_local, timeout=timeout, soft_pin=soft_pin, hard_pin=hard_pin,
                          groups=(group,))[0]
        return _errors.was_stored(status, key)

    def get_one(self, key, *, timeout=None):
        """One value as bytes. Raises NotFoundError and other MmcErrors."""
        return _errors.value_of(self.get_results((key,), timeout=timeout)[0], key)

    def scan(self, prefix="", *, page=1000):
        """Iterates over (key, size) of all values whose key begins with `prefix`, a page per call."""
        token = b""
        while True:
            got = self.list(prefix, page_token=token, limit=page)
            yield from zip(got.keys, got.sizes)
            token = got.next_page_token
            if not token:
                return

    def __contains__(self, key):
        return self.exists((key,))[0]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __repr__(self):
        return f"<pymmc.Client {self.meta_url}{', closed' if self.closed else ''}>"


def __getattr__(name):
    import importlib
    if name in _LAZY:
        value = getattr(importlib.import_module("." + _LAZY[name], __name__), name)
    elif name in _OLDER_NAMES:
        try:
            value = getattr(importlib.import_module("memcache_hybrid"), name)
        except ImportError as missing:
            raise AttributeError(f"pymmc.{name} needs the drop-in package memcache_hybrid") from missing
    else:
        raise AttributeError(f"module 'pymmc' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(set(globals()) | set(__all__))
