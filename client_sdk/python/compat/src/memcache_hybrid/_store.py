"""DistributedObjectStore: the calls of all generations of memcache, as integers and lists of them."""
import functools
import itertools
import operator

import pymmc
from mmc_compat.codes import (MEMCACHE_CLIENT_NOT_INIT, MEMCACHE_ERROR, MEMCACHE_INVALID_PARAM, MEMCACHE_OK,
                              memcache_code, memcache_get_code, memcache_put_code)

from ._process import NO_ID, process, service_id
from ._types import KeyInfo, ReplicateConfig

MAX_KEY_BYTES = 2048
MAX_BATCH = 16384
MAX_LAYERS = 255
MAX_REPLICAS = 8
MAX_DEVICE = 383
MAX_ADDRESS = 1 << 64
INTO_POOL = (0, 3)
FROM_POOL = (1, 2)
AUTO = 9


def _key_is_good(key):
    if not isinstance(key, (str, bytes)):
        raise TypeError(f"a key is str or bytes, not {type(key).__name__}")
    try:
        size = len(key) if isinstance(key, bytes) else len(key.encode())
    except UnicodeEncodeError:
        return False
    return 1 <= size <= MAX_KEY_BYTES


def _ints(numbers):
    """A list of ints, from a numpy array too."""
    return numbers.tolist() if hasattr(numbers, "tolist") else list(map(operator.index, numbers))


def _listed(keys):
    if isinstance(keys, (str, bytes)):
        raise TypeError("keys must be a list, not one key")
    return keys if isinstance(keys, (list, tuple)) else list(keys)


def _replicates(config):
    """Whether a put may replicate like that. Raises TypeError."""
    if config is not None and not isinstance(config, ReplicateConfig):
        raise TypeError(f"replicateConfig is a ReplicateConfig, not {type(config).__name__}")
    return config is None or 1 <= config.replicaNum <= MAX_REPLICAS


def _code_of_failure(call):
    """The method answers a code when the call fails as a whole."""
    @functools.wraps(call)
    def answering(*args, **kwargs):
        try:
            return call(*args, **kwargs)
        except pymmc.MmcError as error:
            return memcache_code(error.code)
    return answering


def _codes_of_failure(call):
    """The same for a method with a list of keys, which comes first."""
    @functools.wraps(call)
    def answering(self, keys, *args, **kwargs):
        keys = _listed(keys)
        if len(keys) > MAX_BATCH:
            return [MEMCACHE_INVALID_PARAM] * len(keys)
        try:
            return call(self, keys, *args, **kwargs)
        except pymmc.MmcError as error:
            return [memcache_code(error.code)] * len(keys)
    return answering


class DistributedObjectStore:
    """The pool of this process: all stores of a process share one. Safe for any thread; the GIL is released while calls
    wait or copy.

    setup(LocalConfig), or the conf file that MMC_LOCAL_CONFIG_PATH names when init() is called, says where the meta
    service is and how much memory this process lends. Results are 0, or a negative code; a key that exists already is
    put with 0 and keeps its value.
    """

    def __init__(self):
        pass

    # Life

    def setup(self, config):
        """Takes a LocalConfig. 0; -1 for one that cannot be used. Does nothing until close() when there is one."""
        return process.setup(config)

    def init(self, device_id, init_bm=True):
        """Opens the pool: 0. init_bm: lend memory, read and write; else keys can be asked for and removed only."""
        if not 0 <= operator.index(device_id) <= MAX_DEVICE:
            return MEMCACHE_INVALID_PARAM
        return process.open(self, bool(init_bm))

    def init_all(self, device_id=0, *_, **__):
        """init(), under its oldest name."""
        return self.init(device_id)

    def setup_local_service(self, device_id=0, *_, **__):
        """init(), as a process says that only lends memory."""
        return self.init(device_id)

    def close(self):
        """0. The pool is closed with the last store that was initialised; what this process lent is gone then."""
        process.close(self)
        return MEMCACHE_OK

    def get_local_service_id(self):
        """Of this process, as in preferredLocalServiceIDs and loc_list(); 4294967295 when it has none."""
        pool = process.pool
        return NO_ID if pool is None else pool.id()

    def register_buffer(self, buffer_ptr, size):
        """0. Any memory may be used without; host memory that stays until unregister_buffer() costs less with."""
        return self._name_buffer(buffer_ptr, size, lambda client: client.register(buffer_ptr, size))

    def unregister_buffer(self, buffer_ptr, size=1):
        """0."""
        return self._name_buffer(buffer_ptr, size, lambda client: client.unregister(buffer_ptr))

    def _name_buffer(self, buffer_ptr, size, call):
        if operator.index(buffer_ptr) <= 0 or operator.index(size) <= 0:
            return MEMCACHE_INVALID_PARAM
        pool = process.pool
        if pool is None:
            return MEMCACHE_CLIENT_NOT_INIT
        try:
            call(pool.client)
        except pymmc.MmcError:  # of a device, or not registered: calls look at the memory they are given
            pass
        return MEMCACHE_OK

    # Writing

    @_code_of_failure
    def put(self, key, buf, replicateConfig=None):
        """Stores the bytes of any contiguous buffer."""
        return self._put_values([(key, [buf])], replicateConfig)[0]

    @_code_of_failure
    def put_parts(self, key, *parts):
        """Stores buffers as one value."""
        return self._put_values([(key, list(parts))], None)[0]

    @_code_of_failure
    def put_batch(self, keys, values, replicateConfig=None):
        """0, or the first code that is not."""
        keys = _listed(keys)
        if len(keys) != len(values) or len(keys) > MAX_BATCH:
            return MEMCACHE_INVALID_PARAM
        codes = self._put_values([(key, [value]) for key, value in zip(keys, values)], replicateConfig)
        return next((code for code in codes if code != MEMCACHE_OK), MEMCACHE_OK)

    @_code_of_failure
    def put_from(self, key, buffer_ptr, size, direct=3, replicateConfig=None):
        if direct not in INTO_POOL:
            return MEMCACHE_ERROR
        return self._put_pointers([key], [[buffer_ptr]], [[size]], replicateConfig)[0]

    @_codes_of_failure
    def batch_put_from(self, keys, buffer_ptrs, sizes, direct=3, replicateConfig=None):
        buffer_ptrs, sizes = _ints(buffer_ptrs), _ints(sizes)
        if direct not in INTO_POOL or not len(keys) == len(buffer_ptrs) == len(sizes):
            return [MEMCACHE_ERROR] * len(keys)
        return self._put_pointers(keys, [[p] for p in buffer_ptrs], [[s] for s in sizes], replicateConfig)

    @_code_of_failure
    def put_from_layers(self, key, buffer_ptrs, sizes, direct=3, replicateConfig=None):
        return self.batch_put_from_layers([key], [buffer_ptrs], [sizes], direct, replicateConfig)[0]

    @_codes_of_failure
    def batch_put_from_layers(self, keys, buffer_ptrs, sizes, direct=3, replicateConfig=None):
        """Each value is the bytes of buffer_ptrs[i], which may be of unequal sizes[i], one after the other."""
        if direct not in (*INTO_POOL, AUTO) or not len(keys) == len(buffer_ptrs) == len(sizes):
            return [MEMCACHE_INVALID_PARAM] * len(keys)
        return self._layers(keys, buffer_ptrs, sizes, lambda *rows: self._put_pointers(*rows, replicateConfig))

    # Reading

    def get(self, key):
        """The value; b"" when it cannot be had."""
        return self.get_batch([key])[0]

    def get_batch(self, keys):
        """The values; b"" for each that cannot be had."""
        keys = _listed(keys)
        pool = self._data()
        if pool is None or len(keys) > MAX_BATCH:
            return [b""] * len(keys)
        try:
            return [b"" if value is None else value for value in pool.client.get(keys)]
        except pymmc.MmcError:
            return [b""] * len(keys)

    def get_buffer(self, key):
        """The value as a memoryview; None when it cannot be had."""
        return memoryview(self.get(key)) or None

    @_code_of_failure
    def get_into(self, key, buffer_ptr, size, direct=2):
        """Reads a value of exactly this size."""
        if direct not in FROM_POOL:
            return MEMCACHE_ERROR
        return self._get_pointers([key], [[buffer_ptr]], [[size]])[0]

    @_codes_of_failure
    def batch_get_into(self, keys, buffer_ptrs, sizes, direct=2):
        buffer_ptrs, sizes = _ints(buffer_ptrs), _ints(sizes)
        if direct not in FROM_POOL or not len(keys) == len(buffer_ptrs) == len(sizes):
            return [MEMCACHE_ERROR] * len(keys)
        return self._get_pointers(keys, [[p] for p in buffer_ptrs], [[s] for s in sizes])

    @_code_of_failure
    def get_into_layers(self, key, buffer_ptrs, sizes, direct=2):
        return self.batch_get_into_layers([key], [buffer_ptrs], [sizes], direct)[0]

    @_codes_of_failure
    def batch_get_into_layers(self, keys, buffer_ptrs, sizes, direct=2):
        """Each value goes to buffer_ptrs[i], one after the other; the split may be another than it was written with."""
        if direct not in (*FROM_POOL, AUTO) or not len(keys) == len(buffer_ptrs) == len(sizes):
            return [MEMCACHE_INVALID_PARAM] * len(keys)
        return self._layers(keys, buffer_ptrs, sizes, self._get_pointers)

    # Keys

    @_code_of_failure
    def remove(self, key):
        """0; -3102 when it was not there."""
        return self.remove_batch([key])[0]

    @_codes_of_failure
    def remove_batch(self, keys):
        pool = process.pool
        if pool is None:
            return [MEMCACHE_CLIENT_NOT_INIT] * len(keys)
        codes = [memcache_code(code) for code in pool.client.remove_codes(keys)]
        if pool.gva is None:
            return codes
        return [MEMCACHE_OK if pool.gva.drop(key) else code for key, code in zip(keys, codes)]

    @_code_of_failure
    def remove_all(self):
        if process.pool is None:
            return MEMCACHE_CLIENT_NOT_INIT
        process.pool.client.remove_all()
        return MEMCACHE_OK

    def is_exist(self, key):
        """1 or 0; 0 when the meta service cannot be asked, a negative code before init() and for what is no key."""
        if process.pool is not None and not _key_is_good(key):
            return MEMCACHE_INVALID_PARAM
        return self.batch_is_exist([key])[0]

    def batch_is_exist(self, keys):
        """1 or 0 for each; 0 when the meta service cannot be asked, a negative code before init() only."""
        keys = _listed(keys)
        pool = process.pool
        if pool is None or len(keys) > MAX_BATCH:
            return [MEMCACHE_CLIENT_NOT_INIT if pool is None else MEMCACHE_INVALID_PARAM] * len(keys)
        try:
            return pool.client.exists_codes(keys, 0)
        except pymmc.MmcError:
            return [0] * len(keys)

    @_code_of_failure
    def get_size(self, key):
        """Bytes of a value; -3102 when it is not there."""
        if process.pool is None:
            return MEMCACHE_CLIENT_NOT_INIT
        size = process.pool.client.sizes([key])[0]
        return size if size > 0 else memcache_code(-size)

    def get_key_info(self, key, flag=0):
        """A KeyInfo; of size 0 when the key is not there."""
        infos = self.batch_get_key_info([key], flag)
        return infos[0] if infos else KeyInfo._make()

    def batch_get_key_info(self, keys, flag=0):
        """A KeyInfo for each key; [] when none can be had. With flag 1 each tells of one copy only. What is there is
        leased for the service's default time."""
        pool = process.pool
        keys = _listed(keys)
        if pool is None or not keys or len(keys) > MAX_BATCH:
            return []
        try:
            there = [i for i, one in enumerate(pool.client.exists_codes(keys, 0)) if one]
            found = pool.client.stat([keys[i] for i in there]) if there else []
        except pymmc.MmcError:
            return []
        infos = [KeyInfo._make() for _ in keys]
        for i, info in zip(there, found):
            if info.ok:
                copies = info.replicas[:1] if flag == 1 else info.replicas
                gvas = None if pool.gva is None else functools.partial(pool.gva.address_of, keys[i], info.size)
                infos[i] = KeyInfo._make(info.size, [service_id(copy.node) for copy in copies],
                                         [copy.medium for copy in copies], gvas)
        return infos

    # Addresses

    @_codes_of_failure
    def batch_alloc(self, keys, sizes, media=1, leaseTtlMs=0):
        """An address for each key that can be written with batch_copy and becomes readable with batch_write_finish;
        not above 0 where there is none, -3006 for a key that exists."""
        pool = self._data()
        sizes = _ints(sizes)
        if pool is None or len(keys) != len(sizes) or leaseTtlMs < 0:
            return [MEMCACHE_CLIENT_NOT_INIT if pool is None else MEMCACHE_INVALID_PARAM] * len(keys)
        return pool.gva.alloc(keys, sizes, _key_is_good)

    def batch_copy(self, gva_ptrs, buffer_ptrs, sizes, direct):
        """Copies sizes[i] bytes between gva_ptrs[i] and buffer_ptrs[i]. 0, or the first code that is not."""
        buffer_ptrs, sizes = _ints(buffer_ptrs), _ints(sizes)
        return self._copy(gva_ptrs, [[p] for p in buffer_ptrs], [[s] for s in sizes], direct)

    def batch_copy_layers(self, gva_ptrs, buffer_ptrs, sizes, direct):
        """The same for rows of buffers, whose bytes follow each other from gva_ptrs[i] on."""
        return self._copy(gva_ptrs, [_ints(row) for row in buffer_ptrs], [_ints(row) for row in sizes], direct)

    @_codes_of_failure
    def batch_write_finish(self, keys, res):
        """Makes what was written under each key readable, or forgets it when res[i] is not 0."""
        pool = self._data()
        res = _ints(res)
        if pool is None or len(keys) != len(res):
            return [MEMCACHE_CLIENT_NOT_INIT if pool is None else MEMCACHE_INVALID_PARAM] * len(keys)
        return pool.gva.write_finish(keys, res)

    @_codes_of_failure
    def batch_add_lease(self, keys, lease_ttl_ms=0):
        """Keeps values in place to be read. -3101: being written; -3102: not there."""
        pool = self._data()
        if pool is None or lease_ttl_ms < 0:
            return [MEMCACHE_CLIENT_NOT_INIT if pool is None else MEMCACHE_INVALID_PARAM] * len(keys)
        return pool.gva.add_lease(keys, lease_ttl_ms / 1000)

    def batch_remove_lease(self, keys):
        """0. Leases end by themselves."""
        return MEMCACHE_CLIENT_NOT_INIT if self._data() is None else MEMCACHE_OK

    # Within

    @staticmethod
    def _data():
        """The pool, when values can be read and written."""
        pool = process.pool
        return pool if pool is not None and pool.with_data else None

    @staticmethod
    def _replicas(pool, config):
        """Options of a put. Raises pymmc.MmcError."""
        if config is None:
            return {}
        options = {"replicas": config.replicaNum}
        wanted = config.preferredLocalServiceIDs
        if wanted:
            if len(wanted) > config.replicaNum or len(set(wanted)) != len(wanted):
                raise pymmc.InvalidArgumentError(pymmc.Code.INVALID_ARGUMENT, "preferredLocalServiceIDs")
            names = [pool.node_name(one) for one in wanted]
            if None in names:
                raise pymmc.InvalidArgumentError(pymmc.Code.INVALID_ARGUMENT, "preferredLocalServiceIDs")
            options["preferred_nodes"] = names
        return options

    def _put_values(self, items, config):
        pool = self._data()
        if not _replicates(config):
            return [MEMCACHE_ERROR] * len(items)
        if pool is None:
            return [MEMCACHE_CLIENT_NOT_INIT] * len(items)
        return [memcache_put_code(status.code) for status in pool.client.put(items, **self._replicas(pool, config))]

    def _put_pointers(self, keys, pointers, sizes, config):
        pool = self._data()
        if not _replicates(config):
            return [MEMCACHE_ERROR] * len(keys)
        if pool is None:
            return [MEMCACHE_CLIENT_NOT_INIT] * len(keys)
        codes = pool.client.put_ptrs(keys, pointers, sizes, **self._replicas(pool, config))
        return [memcache_put_code(code) for code in codes]

    def _get_pointers(self, keys, pointers, sizes):
        pool = self._data()
        if pool is None:
            return [MEMCACHE_CLIENT_NOT_INIT] * len(keys)
        codes, _ = pool.client.get_ptrs(keys, pointers, sizes)
        return [memcache_get_code(code) for code in codes]

    @staticmethod
    def _layers(keys, pointers, sizes, call):
        """call(keys, pointers, sizes) for the keys with good rows; -3000 for the others."""
        good = [i for i in range(len(keys)) if len(pointers[i]) == len(sizes[i]) and 0 < len(sizes[i]) <= MAX_LAYERS]
        if len(good) == len(keys):
            return call(keys, pointers, sizes)
        codes = [MEMCACHE_INVALID_PARAM] * len(keys)
        if good:
            for i, code in zip(good, call([keys[i] for i in good], [pointers[i] for i in good],
                                          [sizes[i] for i in good])):
                codes[i] = code
        return codes

    @_code_of_failure
    def _copy(self, gvas, rows, sizes, direct):
        pool = self._data()
        gvas = _ints(gvas)
        if pool is None:
            return MEMCACHE_CLIENT_NOT_INIT
        if direct not in (*INTO_POOL, *FROM_POOL) or not len(gvas) == len(rows) == len(sizes):
            return MEMCACHE_INVALID_PARAM
        if any(len(pointers) != len(lengths) for pointers, lengths in zip(rows, sizes)):
            return MEMCACHE_INVALID_PARAM
        pointers, lengths = list(itertools.chain.from_iterable(rows)), list(itertools.chain.from_iterable(sizes))
        if min(lengths, default=0) < 0 or min(pointers, default=1) <= 0:
            return MEMCACHE_INVALID_PARAM
        if max(map(operator.add, pointers, lengths), default=0) > MAX_ADDRESS:
            return MEMCACHE_INVALID_PARAM
        into_pool = direct in INTO_POOL
        if into_pool and not pymmc.readable(pointers, lengths):  # of a device, or not there
            return MEMCACHE_INVALID_PARAM
        return pool.gva.copy(gvas, rows, sizes, into_pool)
