"""Lifecycle of MooncakeDistributedStore: setup, segments of this process, registration, health, close."""
import logging
import operator
import os
import socket
import threading
import weakref

import pymmc
from mmc_compat import codes

from . import _client_pages, _hosts, _memory

_log = logging.getLogger("mooncake.store")

# Items per call of pymmc.
BATCH = 16384
_NOT_GIVEN = type("_NotGiven", (), {"__repr__": lambda self: "<required>"})()
_DICT_DEFAULT_SIZE = 16 << 20
_MAX_BUFFER = 1 << 40
MAX_VALUE = 1 << 30  # bytes
# A question, a transfer and joining may take so long (a transfer longer by its bytes). The engines go on without the
# store while its master is away, so they do not wait for it either.
ASK_SECONDS = 2.0
_CALL_SECONDS = 5.0
_JOIN_SECONDS = 30.0
_BYTES_PER_SECOND = 100e6

_stores = weakref.WeakSet()


def _free_locks():
    """In a forked process: a lock that another thread held is held by nobody here."""
    for store in list(_stores):
        store._lock = threading.Lock()


os.register_at_fork(after_in_child=_free_locks)


class StoreBase:
    """One session with a pool, and the memory this process lends to it. Thread-safe."""

    def __init__(self):
        self._lock = threading.Lock()
        self._client = None
        self._meta_url = ""
        self._hostname = ""
        self._listen = ""
        self._segments = {}  # id -> LocalService
        self._memory = _memory.HostMemory()
        self._sessions = {}
        self._put_seconds = 3.0
        self._pages = None
        _stores.add(self)

    # The name of every parameter is part of the contract; the first seven are required.
    def setup(self, local_hostname=_NOT_GIVEN, metadata_server=_NOT_GIVEN, global_segment_size=_NOT_GIVEN,
              local_buffer_size=_NOT_GIVEN, protocol=_NOT_GIVEN, rdma_devices=_NOT_GIVEN,
              master_server_addr=_NOT_GIVEN, engine=None, enable_ssd_offload=False, ssd_offload_path="",
              tenant_id="default", enable_client_http_server=False, client_http_port=9300, *, config=None):
        """setup(local_hostname, metadata_server, global_segment_size, local_buffer_size, protocol, rdma_devices,
        master_server_addr, engine=None, enable_ssd_offload=False, ssd_offload_path="", tenant_id="default",
        enable_client_http_server=False, client_http_port=9300), or setup(config) with a dict.

        Joins the pool of the master at `master_server_addr`, waiting for one that is late, and lends it
        `global_segment_size` bytes (0: none). 0, or a negative code; every call then answers an error.
        The transport is found out: metadata_server, protocol, rdma_devices, engine and local_buffer_size are accepted.
        Keys are those of `tenant_id`. `enable_client_http_server` serves /health, /metrics and /metrics/summary.
        """
        if isinstance(local_hostname, dict) and config is None:
            config, local_hostname = local_hostname, _NOT_GIVEN
        if config is not None:
            if not isinstance(config, dict):
                raise TypeError(f"setup(): config is a dict, not {config!r}")
            return self._setup_from_dict(config)
        given = {"local_hostname": local_hostname, "metadata_server": metadata_server,
                 "global_segment_size": global_segment_size, "local_buffer_size": local_buffer_size,
                 "protocol": protocol, "rdma_devices": rdma_devices, "master_server_addr": master_server_addr}
        missing = [name for name, value in given.items() if value is _NOT_GIVEN]
        if missing:
            raise TypeError(f"setup() misses {', '.join(missing)}")
        for name, value in (("local_hostname", local_hostname), ("master_server_addr", master_server_addr),
                            ("tenant_id", tenant_id)):
            if not isinstance(value, str):
                raise TypeError(f"setup(): {name} is text, not {value!r}")
        if enable_ssd_offload:
            _log.warning("enable_ssd_offload: values stay in memory")
        return self._join(local_hostname, global_segment_size, local_buffer_size, master_server_addr, tenant_id,
                          client_http_port if enable_client_http_server else None)

    def _setup_from_dict(self, config):
        if not all(isinstance(config.get(name), str) for name in ("local_hostname", "metadata_server")):
            _log.error("setup: the dict needs local_hostname and metadata_server, both text")
            return codes.MOONCAKE_INVALID_PARAMS
        sizes = []
        for name in ("global_segment_size", "local_buffer_size"):
            try:
                size = _hosts.size_of(config.get(name, _DICT_DEFAULT_SIZE))
            except ValueError as wrong:
                _log.error("setup: %s: %s", name, wrong)
                return codes.MOONCAKE_INVALID_PARAMS
            if 0 < size < 1024 or (name == "local_buffer_size" and size > _MAX_BUFFER):
                _log.error("setup: %s is 0 or at least 1024 bytes (a buffer at most 1 TiB), not %d", name, size)
                return codes.MOONCAKE_INVALID_PARAMS
            sizes.append(size)
        if config.get("ipc_socket_path"):
            _log.warning("setup: ipc_socket_path is not used: shared memory is found by itself")
        # LMCache writes the longer name.
        master = config.get("master_server_addr") or config.get("master_server_address") or "127.0.0.1:50051"
        tenant = config.get("tenant_id") or "default"
        if not isinstance(master, str) or not isinstance(tenant, str):
            _log.error("setup: master_server_addr and tenant_id are text")
            return codes.MOONCAKE_INVALID_PARAMS
        port = config.get("client_http_port", 9300) if config.get("enable_client_http_server") else None
        return self._join(config["local_hostname"], *sizes, master, tenant, port)

    def _join(self, hostname, segment_bytes, buffer_bytes, master, tenant="default", http_port=None):
        with self._lock:
            if self._client is not None:
                _log.error("setup: this store is set up already; close() it first")
                return codes.MOONCAKE_INVALID_PARAMS
            explicit = False
            try:
                segment_bytes, _ = _hosts.size_of(segment_bytes), _hosts.size_of(buffer_bytes)
                host, port = _hosts.split_host(hostname)
                explicit = port is not None
                self._meta_url = _hosts.master_url(master)
                self._listen = _hosts.listen_host(host, self._meta_url)
                self._hostname = hostname if explicit else _hosts.join_host(host, _hosts.auto_port(self._listen))
            except (ValueError, OSError) as wrong:
                _log.error("setup: %s", wrong)
                return codes.MOONCAKE_INVALID_PARAMS
            try:
                self._put_seconds = _hosts.seconds_from_environment("MMC_PUT_WAIT_SECONDS", 3.0)
                self._client = pymmc.Client(
                    self._meta_url, name=f"mooncake:{self._hostname}", tenant=tenant, timeout=_CALL_SECONDS,
                    same_host=os.environ.get("MMC_SAME_HOST", "1") != "0",
                    connect_retry=_hosts.seconds_from_environment("MMC_SETUP_WAIT_SECONDS", 30.0))
                if segment_bytes:
                    self._hostname = self._add_segment(segment_bytes, self._hostname)
            except pymmc.MmcError as error:
                _log.error("setup: %s", error)
                self._close_locked()
                return codes.MOONCAKE_INVALID_PARAMS if explicit else -1
            if http_port is not None:
                self._pages = _client_pages.serve_beside(self, ":" in self._listen, http_port)
            return codes.MOONCAKE_OK

    def _add_segment(self, size, name):
        """Lends memory under `name`; with a number behind it if the pool has a node of that name. The lock is held."""
        url = "tcp://" + _hosts.join_host(self._listen, 0)
        attempt = 0
        while True:
            try:
                node = pymmc.LocalService(self._meta_url, dram=size, data_url=url, join_timeout=_JOIN_SECONDS,
                                          name=name if attempt == 0 else f"{name}-{os.getpid()}-{attempt}")
                break
            except pymmc.MmcError as error:
                attempt += 1
                if attempt > 8 or error.code not in (pymmc.Code.EXISTS, pymmc.Code.CONFIG):
                    raise
        self._segments[node.name] = node
        return node.name

    def setup_dummy(self, mem_pool_size, local_buffer_size, server_address):
        """A client without memory in the pool, of the pool that the mooncake_client at `server_address` belongs to."""
        del mem_pool_size, local_buffer_size
        if not isinstance(server_address, str):
            raise TypeError(f"setup_dummy(): server_address is text, not {server_address!r}")
        try:
            host, port = _hosts.split_host(server_address)
            with socket.create_connection((host, port or 50052), timeout=_JOIN_SECONDS) as link:
                master = link.makefile("r", encoding="ascii").readline(512).strip()
        except (OSError, ValueError) as error:
            _log.error("setup_dummy: no mooncake_client at %s: %s", server_address, error)
            return codes.MOONCAKE_INVALID_PARAMS
        return self._join(host if ":" not in host else f"[{host}]", 0, 0, master)

    def init_all(self, protocol, device_name, mount_segment_size, /):
        """setup() with a master and a host name of this machine."""
        return self.setup("localhost", "P2PHANDSHAKE", mount_segment_size, 0, protocol, device_name,
                          "127.0.0.1:50051")

    def get_hostname(self):
        """"host:port", the name of this process's segment; "" before setup."""
        return self._hostname if self._client is not None else ""

    def health_check(self):
        """0: healthy, 1: not set up, 2: the master cannot be reached."""
        client = self._client
        if client is None:
            return 1
        try:
            client.cluster()
            return 0
        except pymmc.MmcError:
            return 2

    def transfer_stats(self):
        """Bytes this store has moved so far, by the names of their metrics; {} before setup."""
        client = self._client
        if client is None:
            return {}
        stats = client.stats()
        return {"mooncake_transfer_read_bytes": stats.get_bytes, "mooncake_transfer_write_bytes": stats.put_bytes}

    def close(self):
        """Leaves the pool; what this process had lent is gone. 0, also when closed already. setup() works again."""
        with self._lock:
            self._close_locked()
        return codes.MOONCAKE_OK

    def _close_locked(self):
        client, self._client = self._client, None
        segments, self._segments = self._segments, {}
        pages, self._pages = self._pages, None
        if pages is not None:
            pages.close()
        self._sessions.clear()
        if client is not None:
            client.close()
        for node in segments.values():
            node.stop()

    # Segments beside that of setup().

    def mount_segment(self, path, size, offset=0, protocol="tcp", location=""):
        """Files cannot be lent: NOT_SUPPORTED."""
        del path, size, offset, protocol, location
        return {"ret": codes.MOONCAKE_NOT_SUPPORTED, "segment_ids": []}

    def allocate_and_mount_segment(self, size, protocol="tcp", location=""):
        """Lends `size` more bytes of this process: {"ret", "segment_ids", "allocated_size"}."""
        del protocol, location
        size = operator.index(size)
        failed = {"ret": codes.MOONCAKE_INVALID_PARAMS, "segment_ids": [], "allocated_size": 0}
        with self._lock:
            if self._client is None or size <= 0:
                return failed
            try:
                name = self._add_segment(size, f"{self._hostname}+{len(self._segments)}")
            except pymmc.MmcError as error:
                return {**failed, "ret": codes.mooncake_code(error.code)}
            return {"ret": codes.MOONCAKE_OK, "segment_ids": [name], "allocated_size": size}

    def unmount_segment(self, segment_ids, grace_period_seconds=0):
        """Takes memory of this process out of the pool, after readers had `grace_period_seconds`: 0 or a code."""
        if isinstance(segment_ids, (str, bytes)):
            raise TypeError("unmount_segment(): segment_ids is a list of names")
        names = list(segment_ids)
        grace = max(0.0, grace_period_seconds + 0.0) or 5.0
        with self._lock:
            nodes = [self._segments.pop(name, None) for name in names]
        for node in nodes:
            if node is not None:
                node.stop(timeout=grace)
        return codes.MOONCAKE_OK if nodes and all(nodes) else codes.MOONCAKE_SEGMENT_NOT_FOUND

    unmount_and_free_segment = unmount_segment

    def unmount_local_disk_segment(self, grace_period_seconds=0):
        """There are none: SEGMENT_NOT_FOUND."""
        del grace_period_seconds
        return codes.MOONCAKE_SEGMENT_NOT_FOUND

    def alloc_from_mem_pool(self, size, /):
        """The address of page-aligned memory that lives as long as this object; 0: none."""
        return self._memory.alloc(size)

    def register_buffer(self, buffer_ptr, size):
        """Names memory that stays until unregister_buffer(), for later transfers: 0, or INVALID_PARAMS for what this
        process cannot read."""
        client = self._client
        if client is None or buffer_ptr <= 0 or size <= 0:
            return codes.MOONCAKE_INVALID_PARAMS
        try:
            client.register(buffer_ptr, size)
        except pymmc.MmcError as error:
            _log.error("register_buffer: %#x: %s", buffer_ptr, error)
            return codes.MOONCAKE_INVALID_PARAMS
        return codes.MOONCAKE_OK

    def unregister_buffer(self, buffer_ptr, size=0):
        """0, or INVALID_PARAMS for an address that is not registered. `size` is of no meaning."""
        del size
        client = self._client
        if client is None or buffer_ptr <= 0:
            return codes.MOONCAKE_INVALID_PARAMS
        try:
            client.unregister(buffer_ptr)
        except pymmc.MmcError:
            return codes.MOONCAKE_INVALID_PARAMS
        return codes.MOONCAKE_OK

    # What the calls share.

    def _put_timeout(self, total_bytes):
        """Seconds: so long a put may wait for room, and the time of the bytes."""
        return self._put_seconds + total_bytes / _BYTES_PER_SECOND

    def _get_timeout(self, total_bytes):
        """Seconds."""
        return _CALL_SECONDS + total_bytes / _BYTES_PER_SECOND

    def _in_batches(self, count, call):
        """call(slice) for at most BATCH items each; the lists it returns, one after the other."""
        if count <= BATCH:
            return call(slice(0, count))
        out = []
        for at in range(0, count, BATCH):
            out += call(slice(at, at + BATCH))
        return out

    def _for_usable(self, keys, pointers, sizes, call):
        """call(keys, pointers, sizes) -> list for the entries whose pieces fit each other; INVALID_PARAMS for the
        others."""
        count = len(keys)
        if len(pointers) != count or len(sizes) != count:
            return [codes.MOONCAKE_INVALID_PARAMS] * count
        good = [len(p) == len(s) and len(p) > 0 and min(s) >= 0 for p, s in zip(pointers, sizes)]
        if all(good):
            return call(keys, pointers, sizes)
        some = call(*([x for x, fine in zip(column, good) if fine] for column in (keys, pointers, sizes)))
        answers = iter(some)
        return [next(answers) if fine else codes.MOONCAKE_INVALID_PARAMS for fine in good]
