"""Conf files of all generations: local ones, checked and turned into options of pymmc; meta ones, which pymmc reads."""
import difflib
import logging
import os
import re
import stat

import pymmc

log = logging.getLogger("memcache_hybrid")

MAX_FILE_BYTES = 10 << 20
MAX_LINES = 10000
MAX_LINE_CHARS = 4096
MAX_POOL_BYTES = 1 << 40
PROTOCOLS = ("host_tcp", "host_shm", "host_rdma", "host_urma", "device_rdma", "device_sdma", "device_urma",
             "device_uboe", "roce", "sdma")


class ConfigError(ValueError):
    """A setting cannot be used; the text names it and its value."""


def read_conf(path):
    """{key: value} of a conf file. Raises ConfigError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path}: cannot open the configuration file: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ConfigError(f"{path}: is not a regular file")
    with os.fdopen(fd, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: has more than 10 MB")
    lines = data.decode("utf-8-sig", errors="replace").split("\n")
    if len(lines) > MAX_LINES:
        raise ConfigError(f"{path}: has more than {MAX_LINES} lines")
    found = {}
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE_CHARS:
            raise ConfigError(f"{path}:{number}: is longer than {MAX_LINE_CHARS} characters")
        line = line.strip()
        if not line or line.startswith("#") or "=" not in line:
            continue
        key, value = (part.strip() for part in line.split("=", 1))
        if not key:
            raise ConfigError(f"{path}:{number}: there is no key before '='")
        if key in found:
            raise ConfigError(f"{path}:{number}: {key} is repeated")
        found[key] = re.sub(r"(^|\s)#.*$", "", value).strip()
    return found


def _int(low, high):
    def check(key, text):
        if not re.fullmatch(r"[+-]?\d+", text) or not low <= int(text) <= high:
            raise ConfigError(f"{key} = {text}: a whole number from {low} to {high} is needed")
        return int(text)
    return check


def _bool(key, text):
    if text.lower() not in ("0", "1", "true", "false"):
        raise ConfigError(f"{key} = {text}: true or false is needed")
    return text.lower() in ("1", "true")


def _size(key, text):
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([kmgt]?)b?)", text, re.IGNORECASE)
    if not match:
        raise ConfigError(f"{key} = {text}: a size is needed: bytes, or a number with KB, MB, GB or TB")
    value = float(match[1]) * 1024 ** " kmgt".index((match[2] or " ").lower())
    if value > MAX_POOL_BYTES:
        raise ConfigError(f"{key} = {text}: at most 1TB is possible")
    return int(value)


def _text(key, text):
    return text


def _one_of(*values):
    def check(key, text):
        if text.lower() not in values:
            raise ConfigError(f"{key} = {text}: one of {', '.join(values)} is needed")
        return text.lower()
    return check


def _tls(prefix):
    paths = ("top", "ca", "ca.crl", "cert", "key", "key.pass", "package", "decrypter")
    return {f"{prefix}.enable": _bool, **{f"{prefix}.{name}.path": _text for name in paths}}


_COMMON = {
    "ock.mmc.meta_service_url": _text,
    "ock.mmc.log_level": _one_of("debug", "info", "warn", "error"),
    "ock.mmc.log_path": _text,
    "ock.mmc.log_rotation_file_size": _int(1, 500),
    "ock.mmc.log_rotation_file_count": _int(1, 50),
    "ock.mmc.log_output_target": _text,
    "ock.mmc.ubs_io.enable": _bool,
    "ock.mmc.integrity": _one_of("off", "put", "verify"),
    **_tls("ock.mmc.tls"),
    **_tls("ock.mmc.config_store.tls"),
}

_L = "ock.mmc.local_service."
_C = "ock.mmc.client."
_LOCAL = {
    **_COMMON,
    _L + "config_store_url": _text,
    "ock.mmc.meta_service.config_store_url": _text,
    _L + "world_size": _int(1, 1024),
    _L + "protocol": _text,
    _L + "protocol.strict": _bool,
    _L + "hcom_url": _text,
    _L + "dram.size": _size,
    _L + "max.dram.size": _size,
    _L + "hbm.size": _size,
    _L + "max.hbm.size": _size,
    _L + "memory.pool.mode": _one_of("standard", "expanded"),
    _L + "dram_by_sdma": _bool,
    _L + "storage.enabled": _bool,
    _L + "name": _text,
    _L + "join_timeout_milliseconds": _int(0, 3600000),
    _L + "drain_milliseconds": _int(0, 600000),
    _L + "numa.node": _int(-1, 1023),
    _L + "hugepages": _one_of("auto", "never"),
    _L + "prefault": _bool,
    _L + "tcp.enable": _bool,
    _L + "tcp.threads": _int(1, 64),
    _L + "tcp.congestion_control": _text,
    _L + "shm.enable": _bool,
    _L + "shm.directory": _text,
    _L + "shm.group": _text,
    _L + "shm.group.access": _one_of("write", "read"),
    _L + "catalog.directory": _text,
    _L + "warm_restart": _bool,
    _L + "segment.directory": _text,
    _L + "cold": _bool,
    _L + "stop_mode": _one_of("leave", "keep"),
    _C + "tenant": _text,
    _C + "retry_milliseconds": _int(0, 600000),
    _C + "timeout.seconds": _int(1, 600),
    _C + "read_thread_pool.size": _int(1, 64),
    _C + "write_thread_pool.size": _int(1, 64),
    _C + "aggregate.io": _bool,
    _C + "aggregate.num": _int(1, 131072),
    _C + "batch_option.chunk.size": _size,
    _C + "batch_option.chunk.count": _int(1, 64),
    _C + "shm.enable": _bool,
    _C + "tcp.connections": _int(1, 64),
    _C + "tcp.congestion_control": _text,
    _C + "location_cache.enable": _bool,
    _C + "location_cache.keys": _int(1, 100000000),
    _C + "copy_threads": _int(0, 64),
    **_tls(_L + "hcom.tls"),
    _L + "hcom.tls.tickets": _bool,
    **{f"{_L}hcom.tls.access.{role}": _one_of("none", "read", "write") for role in ("client", "admin", "local")},
    "ubsio.disk.path": _text,
    "ubsio.mem.size_in_gb": _text,
    "ubsio.standalone.device_count": _text,
    "ubsio.standalone.force_new_disk": _text,
    "ubsio.wcache.evict_water_level": _text,
}

# Conf keys that are options of pymmc as they are.
_CLIENT_OPTIONS = {
    "ock.mmc.integrity": "integrity",
    _C + "tenant": "tenant",
    _C + "shm.enable": "same_host",
    _C + "tcp.connections": "tcp_connections",
    _C + "tcp.congestion_control": "tcp_congestion_control",
    _C + "location_cache.enable": "location_cache",
    _C + "location_cache.keys": "location_cache_keys",
    _C + "copy_threads": "copy_threads",
}
_NODE_OPTIONS = {
    _L + "name": "name",
    _L + "tcp.enable": "tcp",
    _L + "tcp.threads": "tcp_threads",
    _L + "tcp.congestion_control": "tcp_congestion_control",
    _L + "shm.enable": "shm",
    _L + "shm.directory": "shm_directory",
    _L + "shm.group": "shm_group",
    _L + "numa.node": "numa_node",
    _L + "prefault": "prefault",
    _L + "catalog.directory": "catalog_directory",
    _L + "hcom.tls.tickets": "data_tickets",
    **{f"{_L}hcom.tls.access.{role}": f"{role}_access" for role in ("client", "admin", "local")},
}


def _checked(keys, schema):
    """Values of the right types. An unknown key is a warning, a wrong value raises ConfigError."""
    values = {}
    for key, text in keys.items():
        if key not in schema:
            near = difflib.get_close_matches(key, schema, 1)
            log.warning("%s is not known and has no effect%s", key, f"; did you mean {near[0]}?" if near else "")
        elif text or schema[key] is _text:
            values[key] = schema[key](key, text)
    return values


_TLS_OPTIONS = {"ca": "ca_path", "cert": "cert_path", "key": "key_path", "ca.crl": "crl_path",
                "key.pass": "key_pass_path", "decrypter": "decrypter_path"}


def _tls_paths(values, prefix, top):
    """{option of pymmc: path}, relative ones from the folder `top` on."""
    paths = {option: values.get(f"{prefix}{name}.path", "") for name, option in _TLS_OPTIONS.items()}
    return {option: os.path.join(top, path) for option, path in paths.items() if path}


def _tls_options(values):
    """The option tls of pymmc for what ock.mmc.tls.* says; {} when it is off."""
    prefix = "ock.mmc.tls."
    if not values.get(prefix + "enable"):
        if values.get("ock.mmc.config_store.tls.enable"):
            raise ConfigError("ock.mmc.config_store.tls.enable = true: the work of a config store is done over the "
                              f"calls to the meta service; set {prefix}enable = true and its paths too")
        return {}
    paths = _tls_paths(values, prefix, values.get(prefix + "top.path", ""))
    for name in ("ca", "cert", "key"):
        if _TLS_OPTIONS[name] not in paths:
            raise ConfigError(f"{prefix}enable = true needs {prefix}{name}.path")
    return {"tls": paths}


def _data_tls(values):
    """The option data_tls of pymmc; {} when values travel in the clear. Without files of its own: those of calls."""
    if not values.get(_L + "hcom.tls.enable"):
        return {}
    own = _tls_paths(values, _L + "hcom.tls.", values.get("ock.mmc.tls.top.path", ""))
    if not any(option in own for option in ("ca_path", "cert_path", "key_path")):
        own = _tls_paths(values, "ock.mmc.tls.", values.get("ock.mmc.tls.top.path", ""))
    return {"data_tls": own}


def host_and_port(key, url):
    """("host", port) of "scheme://host:port"; an IPv6 host without its brackets. Raises ConfigError."""
    match = re.fullmatch(r"\w+://(?:\[([^\]]+)\]|([^:/]+)):(\d+)/?", url)
    if not match or int(match[3]) > 65535:
        raise ConfigError(f"{key} = {url}: a URL with host and port is needed, as tcp://127.0.0.1:5000")
    return match[1] or match[2], int(match[3])


class LocalSettings:
    """What a store needs: where the meta service is, options of pymmc.Client and of pymmc.LocalService."""

    DEFAULT_DRAM = 128 << 20
    DEFAULT_WAIT_SECONDS = 20.0

    def __init__(self, keys):
        values = _checked(keys, _LOCAL)
        tls = _tls_options(values)
        self.meta_url = values.get("ock.mmc.meta_service_url") or "tcp://127.0.0.1:5000"
        protocol = values.get(_L + "protocol", "host_tcp")
        if protocol.lower() not in PROTOCOLS:
            log.warning("%sprotocol = %s is not known; the best way there is will be used", _L, protocol)
        self.dram = values.get(_L + "dram.size", self.DEFAULT_DRAM)
        if values.get(_L + "hbm.size"):
            if self.dram == 0:
                raise ConfigError(f"{_L}hbm.size = {keys[_L + 'hbm.size']}: memory of devices cannot be lent; "
                                  f"set {_L}dram.size")
            log.warning("%shbm.size: memory of devices cannot be lent; only dram.size is", _L)
        hcom_key = _L + "hcom_url"
        self.data_host, self.data_port = host_and_port(hcom_key, values.get(hcom_key) or "tcp://127.0.0.1:7000")
        self.world_size = values.get(_L + "world_size", 256)
        retry = values.get(_C + "retry_milliseconds", 0)
        self.wait_seconds = retry / 1000 if retry else self.DEFAULT_WAIT_SECONDS
        self.client = {option: values[key] for key, option in _CLIENT_OPTIONS.items() if key in values}
        self.client["timeout"] = float(values.get(_C + "timeout.seconds", 60))
        self.client["connect_retry"] = self.wait_seconds
        self.client.update(_data_tls(values))
        self.client.update(tls)
        self.node = {option: values[key] for key, option in _NODE_OPTIONS.items() if key in values}
        if _L + "hugepages" in values:
            self.node["hugepages"] = values[_L + "hugepages"] == "auto"
        if _L + "shm.group.access" in values:
            self.node["shm_group_writes"] = values[_L + "shm.group.access"] == "write"
        self.node["join_timeout"] = self.wait_seconds
        self.node.update(_data_tls(values))
        self.node.update(tls)


class MetaSettings:
    """What a meta service needs: a conf file ("": none) with `keys` on top, as mmc_meta_service itself reads them."""

    def __init__(self, path="", keys=None):
        self._path = path
        self._keys = keys or {}
        try:
            values, warnings = pymmc.MetaService.read_conf(path, self._keys)
        except pymmc.MmcError as error:
            raise ConfigError(error.message.removeprefix("--set: ")) from error
        store_key = "ock.mmc.meta_service.config_store_url"  # has an effect here
        self.warnings = [warning for warning in warnings if store_key not in warning]
        self.config_store = host_and_port(store_key, values[store_key])

    def start(self):
        """A pymmc.MetaService. Raises pymmc.MmcError."""
        return pymmc.MetaService.from_conf(self._path, self._keys)


def local_service(settings):
    """A pymmc.LocalService on the first free port from that of hcom_url on. Raises pymmc.MmcError."""
    host = f"[{settings.data_host}]" if ":" in settings.data_host else settings.data_host
    first = settings.data_port
    ports = range(first, min(first + settings.world_size, 65536)) if first else ()
    for port in ports:
        try:
            return pymmc.LocalService(settings.meta_url, dram=settings.dram, data_url=f"tcp://{host}:{port}",
                                      **settings.node)
        except pymmc.MmcError as error:
            if error.code != pymmc.Code.IO or "in use" not in str(error).lower():
                raise
    return pymmc.LocalService(settings.meta_url, dram=settings.dram, data_url=f"tcp://{host}:0", **settings.node)
