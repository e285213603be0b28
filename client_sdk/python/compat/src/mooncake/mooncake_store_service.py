"""The command mc_store_rest_server: a store over HTTP."""
import argparse
import json
import os
import sys

from mmc_compat import codes

from . import _flags, _hosts, _http, _signals, mooncake_config
from .mooncake_config import MooncakeConfig
from .store import MooncakeDistributedStore


class StoreService:
    """The pages, over one store."""

    def __init__(self, store):
        self._store = store

    def routes(self):
        return {
            ("PUT", "/api/put"): self._put, ("GET", "/api/get/"): self._get, ("GET", "/api/exist/"): self._exist,
            ("DELETE", "/api/remove/"): self._remove, ("DELETE", "/api/remove_all"): self._remove_all,
            ("POST", "/api/mount"): self._mount, ("POST", "/api/unmount"): self._unmount,
            ("POST", "/api/reconfigure"): self._unsupported, ("POST", "/api/mount_shm"): self._unsupported,
            ("POST", "/api/unmount_shm"): self._unsupported,
            ("POST", "/api/unmount_local_disk"): self._unsupported,
        }

    @staticmethod
    def _json(body):
        try:
            values = json.loads(body)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise _http.HttpError(400, json.dumps({"error": "the body is a JSON object"}), "application/json")
        return values

    def _done(self, code, **more):
        if code < 0:
            status = {codes.MOONCAKE_OBJECT_NOT_FOUND: 404, codes.MOONCAKE_INVALID_PARAMS: 400,
                      codes.MOONCAKE_SEGMENT_NOT_FOUND: 404, codes.MOONCAKE_NOT_SUPPORTED: 501,
                      codes.MOONCAKE_OBJECT_HAS_LEASE: 409}.get(code, 500)
            raise _http.HttpError(status, json.dumps({"status": "failed", "error_code": code}), "application/json")
        return _http.as_json({"status": "success", **more})

    def _put(self, query, body):
        values = self._json(body)
        key, value = values.get("key"), values.get("value")
        if not key or not isinstance(key, str) or value is None:
            raise _http.HttpError(400, json.dumps({"error": "key and value are needed"}), "application/json")
        return self._done(self._store.put(key, str(value).encode()))

    def _get(self, query, body):
        value = self._store.get(query[""])
        if not value:
            self._done(codes.MOONCAKE_OBJECT_NOT_FOUND)
        return value, "application/octet-stream"

    def _exist(self, query, body):
        return _http.as_json({"exists": self._store.is_exist(query[""]) == 1})

    def _remove(self, query, body):
        return self._done(self._store.remove(query[""]))

    def _remove_all(self, query, body):
        count = self._store.remove_all()
        return self._done(min(count, 0), removed_count=count)

    def _mount(self, query, body):
        try:
            size = _hosts.size_of(self._json(body).get("size"))
        except ValueError as wrong:
            raise _http.HttpError(400, json.dumps({"error": str(wrong)}), "application/json") from wrong
        made = self._store.allocate_and_mount_segment(size)
        return self._done(made["ret"], segment_ids=made["segment_ids"])

    def _unmount(self, query, body):
        names = self._json(body).get("segment_ids")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _http.HttpError(400, json.dumps({"error": "segment_ids is a list of names"}), "application/json")
        return self._done(self._store.unmount_and_free_segment(names))

    def _unsupported(self, query, body):
        return self._done(codes.MOONCAKE_NOT_SUPPORTED)


def _config(given):
    """Of the file and what -D changes of it, else of the environment. ValueError, OSError."""
    changes = {}
    for change in given.define or ():
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"-D {change}: write key=value")
        changes[name] = value
    unknown = [name for name in changes if name not in MooncakeConfig.__dataclass_fields__]
    if unknown:
        raise ValueError(f"-D {unknown[0]}: not known")
    path = given.config or os.environ.get("MOONCAKE_CONFIG_PATH")
    if not path:
        return MooncakeConfig._of({**vars(MooncakeConfig.load_from_env()), **changes})
    return MooncakeConfig._of({**mooncake_config.values_in(path), **changes})


def main(argv=None):
    parser = argparse.ArgumentParser(prog="mc_store_rest_server", description=__doc__)
    parser.add_argument("--config", help="JSON file; else $MOONCAKE_CONFIG_PATH, else the MOONCAKE_ variables")
    parser.add_argument("-D", dest="define", action="append", metavar="KEY=VALUE", help="changes a value of it")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=_flags.port, default=8080)
    parser.add_argument("--max-wait-time", type=float, default=60.0, help="seconds to wait for the master")
    given = parser.parse_args(argv)
    stop = _signals.stop_event()
    try:
        config = _config(given)
    except (OSError, ValueError) as error:
        parser.exit(1, f"mc_store_rest_server: {error}\n")
    os.environ.setdefault("MMC_SETUP_WAIT_SECONDS", str(given.max_wait_time))
    store = MooncakeDistributedStore()
    code = _signals.run_until(stop, lambda: store.setup(
        config.local_hostname, config.metadata_server, config.global_segment_size, config.local_buffer_size,
        config.protocol, config.device_name, config.master_server_address, tenant_id=config.tenant_id,
        enable_client_http_server=config.enable_client_http_server, client_http_port=config.client_http_port))
    if code is None:
        return 0
    if code != 0:
        parser.exit(1, f"mc_store_rest_server: no pool at {config.master_server_address} (code {code})\n")
    try:
        service = _http.Service(given.host, given.port, StoreService(store).routes())
    except OSError as error:
        store.close()
        parser.exit(1, f"mc_store_rest_server: {given.host}:{given.port}: {error}\n")
    print(f"mc_store_rest_server: serving at port {service.port}", flush=True)
    stop.wait()
    service.close()
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
