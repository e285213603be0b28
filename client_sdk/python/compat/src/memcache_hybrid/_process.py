"""The pool that all stores of a process share: opened by the first init(), closed by the last close()."""
import itertools
import os
import threading
import weakref
import zlib

import pymmc
from mmc_compat.codes import MEMCACHE_ERROR, MEMCACHE_INVALID_PARAM, MEMCACHE_OK, memcache_code

from ._conf_file import ConfigError, LocalSettings, local_service, log, read_conf
from ._config import LocalConfig
from ._gva import GvaSpace

NO_ID = 0xFFFFFFFF
_CLOSE_SECONDS = 5.0
_numbers = itertools.count(1)


def service_id(name):
    """The id of a local service: the same in every process, from its name."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


class Pool:
    """A client, and, when this process lends memory, the node that does. Safe for any thread."""

    def __init__(self, settings, with_data):
        self.settings = settings
        self.name = f"memcache-{os.getpid()}-{next(_numbers)}"
        self.with_data = False
        self.gva = None
        self._node = None
        self._names = {}
        self.client = self._connect()
        try:
            if with_data:
                self.add_data()
        except BaseException:
            self.close()
            raise

    def _connect(self, **options):
        return pymmc.Client(self.settings.meta_url, name=self.name, **{**self.settings.client, **options})

    def add_data(self):
        """Values may be read and written from now on. Raises pymmc.MmcError."""
        if self.settings.dram:
            self._node = local_service(self.settings)
        self.gva = GvaSpace(self.client, self._connect)
        self.with_data = True

    def id(self):
        if not self.with_data:
            return NO_ID
        return service_id(self._node.name if self._node is not None else self.name)

    def node_name(self, wanted):
        """The name of the node with this id; None when there is none. Raises pymmc.MmcError."""
        if wanted not in self._names:
            self._names = {service_id(node.name): node.name for node in self.client.cluster().nodes}
        return self._names.get(wanted)

    def close(self):
        if self.gva is not None:
            self.gva.close()
        self.client.close()
        if self._node is not None:
            self._node.stop(_CLOSE_SECONDS)


class Process:
    """What the stores of this process share. Safe for any thread."""

    def __init__(self):
        self.pool = None
        self._lock = threading.Lock()
        self._keys = None
        self._stores = weakref.WeakSet()
        self._inherited = []

    def setup(self, config):
        if not isinstance(config, LocalConfig):
            raise TypeError(f"setup() takes a LocalConfig, not {type(config).__name__}")
        with self._lock:
            if self._keys is not None:
                return MEMCACHE_OK
            keys = config._keys()
            try:
                LocalSettings(keys)
            except ConfigError as error:
                log.error("setup: %s", error)
                return MEMCACHE_ERROR
            self._keys = keys
            return MEMCACHE_OK

    def _settings(self):
        if self._keys is not None:
            return LocalSettings(self._keys)
        path = os.environ.get("MMC_LOCAL_CONFIG_PATH")
        if not path:
            raise ConfigError("call setup(LocalConfig) first, or set MMC_LOCAL_CONFIG_PATH to a conf file")
        keys = read_conf(path)
        try:
            return LocalSettings(keys)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def open(self, store, with_data):
        """Opens the pool, or lends memory to one that is open without. A memcache code."""
        with self._lock:
            try:
                if self.pool is None:
                    self.pool = Pool(self._settings(), with_data)
                elif with_data and not self.pool.with_data:
                    self.pool.add_data()
            except ConfigError as error:
                log.error("init: %s", error)
                return MEMCACHE_INVALID_PARAM
            except pymmc.MmcError as error:
                log.error("init: %s", error)
                return memcache_code(error.code)
            self._stores.add(store)
            return MEMCACHE_OK

    def close(self, store):
        with self._lock:
            if store not in self._stores:
                if self.pool is None:
                    self._keys = None
                return
            self._stores.discard(store)
            if self._stores:
                return
            pool, self.pool, self._keys = self.pool, None, None
            pool.close()

    def after_fork(self):
        """In a child: the parent's pool stays the parent's, and is not touched."""
        self._inherited.append(self.pool)
        self.pool = None
        self._lock = threading.Lock()
        self._stores = weakref.WeakSet()


process = Process()
os.register_at_fork(after_in_child=process.after_fork)
