"""MooncakeConfig: how a client joins a pool, from a file or the environment."""
import json
import logging
import os
from dataclasses import dataclass

from . import _hosts

_log = logging.getLogger("mooncake.config")

DEFAULT_GLOBAL_SEGMENT_SIZE = 3355443200
DEFAULT_LOCAL_BUFFER_SIZE = 1073741824
_PROTOCOLS = ("tcp", "rdma", "efa", "cxl", "ascend", "hip", "nvlink", "ub", "shm")
_YES = ("1", "true", "yes", "on")


def _size(name, value):
    try:
        return _hosts.size_of(value)
    except ValueError as wrong:
        raise ValueError(f"{name}: {wrong}") from wrong


def values_in(path):
    """Of a JSON file. ValueError when it is not one object."""
    with open(path, encoding="utf-8") as file:
        values = json.load(file)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: not a JSON object")
    return values


def _yes(value):
    return value if isinstance(value, bool) else str(value).strip().lower() in _YES


@dataclass
class MooncakeConfig:
    local_hostname: str
    metadata_server: str
    global_segment_size: int
    local_buffer_size: int
    protocol: str
    device_name: str
    master_server_address: str
    enable_ssd_offload: bool = False
    ssd_offload_path: str = ""
    tenant_id: str = "default"
    enable_client_http_server: bool = False
    client_http_port: int = 9300

    @staticmethod
    def _of(values):
        missing = [name for name in ("local_hostname", "metadata_server", "master_server_address")
                   if not values.get(name)]
        if missing:
            raise ValueError(f"missing: {', '.join(missing)}")
        for name in ("local_hostname", "metadata_server", "master_server_address"):
            if not isinstance(values[name], str):
                raise ValueError(f"{name}: text is needed, not {values[name]!r}")
        protocol = str(values.get("protocol", "tcp")).lower()
        if protocol not in _PROTOCOLS:
            _log.warning("protocol %r is not known; the transport is found out", protocol)
        port = str(values.get("client_http_port", 9300))
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"client_http_port: {port!r} is no port")
        return MooncakeConfig(
            local_hostname=values["local_hostname"], metadata_server=values["metadata_server"],
            global_segment_size=_size("global_segment_size",
                                      values.get("global_segment_size", DEFAULT_GLOBAL_SEGMENT_SIZE)),
            local_buffer_size=_size("local_buffer_size", values.get("local_buffer_size", DEFAULT_LOCAL_BUFFER_SIZE)),
            protocol=protocol, device_name=values.get("device_name") or "",
            master_server_address=values["master_server_address"],
            enable_ssd_offload=_yes(values.get("enable_ssd_offload", False)),
            ssd_offload_path=values.get("ssd_offload_path") or "", tenant_id=values.get("tenant_id") or "default",
            enable_client_http_server=_yes(values.get("enable_client_http_server", False)),
            client_http_port=int(port))

    @staticmethod
    def from_file(file_path):
        """Of a JSON file. ValueError for what is missing or wrong."""
        return MooncakeConfig._of(values_in(file_path))

    @staticmethod
    def load_from_env():
        """Of the file $MOONCAKE_CONFIG_PATH, else of $MOONCAKE_MASTER and the other MOONCAKE_ variables."""
        path = os.environ.get("MOONCAKE_CONFIG_PATH")
        if path:
            return MooncakeConfig.from_file(path)
        if not os.environ.get("MOONCAKE_MASTER"):
            raise ValueError("set MOONCAKE_CONFIG_PATH to a JSON file, or MOONCAKE_MASTER to the master's host:port")
        names = {
            "local_hostname": ("MOONCAKE_LOCAL_HOSTNAME", "localhost"),
            "metadata_server": ("MOONCAKE_TE_META_DATA_SERVER", "P2PHANDSHAKE"),
            "global_segment_size": ("MOONCAKE_GLOBAL_SEGMENT_SIZE", DEFAULT_GLOBAL_SEGMENT_SIZE),
            "local_buffer_size": ("MOONCAKE_LOCAL_BUFFER_SIZE", DEFAULT_LOCAL_BUFFER_SIZE),
            "protocol": ("MOONCAKE_PROTOCOL", "tcp"),
            "device_name": ("MOONCAKE_DEVICE", ""),
            "master_server_address": ("MOONCAKE_MASTER", ""),
            "enable_ssd_offload": ("MOONCAKE_OFFLOAD_ENABLED", "false"),
            "ssd_offload_path": ("MOONCAKE_OFFLOAD_FILE_STORAGE_PATH", ""),
            "tenant_id": ("MOONCAKE_TENANT_ID", "default"),
            "enable_client_http_server": ("MOONCAKE_ENABLE_CLIENT_HTTP_SERVER", "false"),
            "client_http_port": ("MOONCAKE_CLIENT_HTTP_PORT", "9300"),
        }
        return MooncakeConfig._of({name: os.environ.get(variable, default)
                                   for name, (variable, default) in names.items()})
