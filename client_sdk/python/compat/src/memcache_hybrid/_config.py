"""The configuration classes: plain fields of fixed types, each the same as a key of a conf file."""
import logging
import operator

log = logging.getLogger("memcache_hybrid")

_TLS = ("enable", "ca_path", "ca_crl_path", "cert_path", "key_path", "key_pass_path", "package_path", "decrypter_path")


def _tls_fields(prefix, key_prefix, names=_TLS):
    """(field, conf key, default) of one group of TLS settings."""
    return [(f"{prefix}_{name}", f"{key_prefix}.{_tls_key(name)}", False if name == "enable" else "")
            for name in names]


def _tls_key(name):
    return "enable" if name == "enable" else name[:-len("_path")].replace("_", ".") + ".path"


_LOCAL = [
    ("meta_service_url", "ock.mmc.meta_service_url", "tcp://127.0.0.1:5000"),
    ("config_store_url", "ock.mmc.local_service.config_store_url", "tcp://127.0.0.1:6000"),
    ("log_level", "ock.mmc.log_level", "info"),
    ("world_size", "ock.mmc.local_service.world_size", 256),
    ("protocol", "ock.mmc.local_service.protocol", "host_rdma"),
    ("hcom_url", "ock.mmc.local_service.hcom_url", "tcp://127.0.0.1:7000"),
    ("dram_size", "ock.mmc.local_service.dram.size", "1GB"),
    ("hbm_size", "ock.mmc.local_service.hbm.size", "0"),
    ("max_dram_size", "ock.mmc.local_service.max.dram.size", "64GB"),
    ("max_hbm_size", "ock.mmc.local_service.max.hbm.size", "0"),
    ("client_retry_milliseconds", "ock.mmc.client.retry_milliseconds", 0),
    ("client_timeout_seconds", "ock.mmc.client.timeout.seconds", 60),
    ("read_thread_pool_size", "ock.mmc.client.read_thread_pool.size", 32),
    ("write_thread_pool_size", "ock.mmc.client.write_thread_pool.size", 4),
    ("aggregate_io", "ock.mmc.client.aggregate.io", True),
    ("aggregate_num", "ock.mmc.client.aggregate.num", 122),
    ("ubs_io_enable", "ock.mmc.ubs_io.enable", False),
    ("memory_pool_mode", "ock.mmc.local_service.memory.pool.mode", "standard"),
    *_tls_fields("tls", "ock.mmc.tls"),
    *_tls_fields("config_store_tls", "ock.mmc.config_store.tls"),
    *_tls_fields("hcom_tls", "ock.mmc.local_service.hcom.tls", [name for name in _TLS if name != "package_path"]),
]

_META = [
    ("meta_service_url", "ock.mmc.meta_service_url", "tcp://127.0.0.1:5000"),
    ("config_store_url", "ock.mmc.meta_service.config_store_url", "tcp://127.0.0.1:6000"),
    ("metrics_url", "ock.mmc.meta_service.metrics_url", "http://127.0.0.1:8000"),
    ("ha_enable", "ock.mmc.meta.ha.enable", False),
    ("log_level", "ock.mmc.log_level", "info"),
    ("log_path", "ock.mmc.log_path", "/var/log/memcache_hybrid"),
    ("log_rotation_file_size", "ock.mmc.log_rotation_file_size", 20),
    ("log_rotation_file_count", "ock.mmc.log_rotation_file_count", 50),
    ("evict_threshold_high", "ock.mmc.evict_threshold_high", 90),
    ("evict_threshold_low", "ock.mmc.evict_threshold_low", 80),
    ("ubs_io_enable", "ock.mmc.ubs_io.enable", False),
    *_tls_fields("tls", "ock.mmc.tls"),
    *_tls_fields("config_store_tls", "ock.mmc.config_store.tls"),
]


class _Fields:
    """Fields that keep the type of their default; another type raises TypeError, an unknown name AttributeError.

    True, False, 1 and 0 do for each other. Whole numbers are of 32 bits.
    """

    __slots__ = ()
    _FIELDS = ()
    _IGNORED = ()  # beginnings of names of fields that may be set and have no effect

    def __init__(self):
        for name, _, default in self._FIELDS:
            setattr(self, name, default)

    def __setattr__(self, name, value):
        if name.startswith(self._IGNORED):
            log.warning("%s.%s has no effect", type(self).__name__, name)
            return
        wanted = type(self._default(name))
        number = _number(value)
        fits = number is not None and (number in (0, 1) if wanted is bool else -1 << 31 <= number < 1 << 31)
        if not (isinstance(value, str) if wanted is str else fits):
            raise TypeError(f"{type(self).__name__}.{name} takes {wanted.__name__}, not {_short(value)}")
        object.__setattr__(self, name, str(value) if wanted is str else wanted(number))

    @classmethod
    def _default(cls, name):
        for field, _, default in cls._FIELDS:
            if field == name:
                return default
        raise AttributeError(f"'{cls.__name__}' object has no attribute '{name}'")

    def _keys(self):
        """{conf key: value as text}."""
        return {key: _text(getattr(self, name)) for name, key, _ in self._FIELDS}

    def str(self):
        lines = "".join(f"  {name}: {_text(getattr(self, name))}\n" for name, _, _ in self._FIELDS)
        return f"{type(self).__name__} {{\n{lines}}}"

    def __str__(self):
        return self.str()

    __repr__ = __str__


def _text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value):
    """The int of what is a whole number or a truth value, of numpy too; None for anything else."""
    if type(value).__name__ in ("bool_", "bool"):
        return int(bool(value))
    try:
        return operator.index(value)
    except TypeError:
        return None


def _short(value):
    return f"a {type(value).__name__}" if isinstance(value, int) and abs(value) >> 64 else repr(value)


class LocalConfig(_Fields):
    """Settings of a store for setup(): the keys of a local conf file as attributes."""
    __slots__ = tuple(name for name, _, _ in _LOCAL)
    _FIELDS = _LOCAL


class MetaConfig(_Fields):
    """Settings of a meta service for MetaService.setup(): the keys of a meta conf file as attributes."""
    __slots__ = tuple(name for name, _, _ in _META)
    _FIELDS = _META
    _IGNORED = ("kv_events_",)  # events of keys: there are none


