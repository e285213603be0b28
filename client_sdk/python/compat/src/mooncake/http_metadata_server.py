"""The command mooncake_http_metadata_server: keeps small values by key, at /metadata?key=."""
import argparse
import threading

from . import _flags, _http, _signals

_MAX_VALUES = 1 << 20
_MAX_VALUE = 1 << 20


class Metadata:
    """The values. Thread-safe."""

    def __init__(self):
        self._lock = threading.Lock()
        self._values = {}

    def routes(self):
        return {("GET", "/metadata"): self._get, ("PUT", "/metadata"): self._put, ("DELETE", "/metadata"): self._delete,
                ("GET", "/health"): lambda query, body: "OK"}

    def _key(self, query):
        if not query.get("key"):
            raise _http.HttpError(400, "give ?key=")
        return query["key"]

    def _get(self, query, body):
        with self._lock:
            value = self._values.get(self._key(query))
        if value is None:
            raise _http.HttpError(404, "metadata not found")
        return value, "application/json"

    def _put(self, query, body):
        key = self._key(query)
        with self._lock:
            if "rpc_meta" in key and self._values.get(key, body) != body:
                raise _http.HttpError(400, "Duplicate rpc_meta key not allowed")
            if len(body) > _MAX_VALUE or (key not in self._values and len(self._values) >= _MAX_VALUES):
                raise _http.HttpError(413, "too large, or too many values")
            self._values[key] = body
        return "metadata updated"

    def _delete(self, query, body):
        with self._lock:
            if self._values.pop(self._key(query), None) is None:
                raise _http.HttpError(404, "metadata not found")
        return "metadata deleted"


def serve(host, port):
    """A running server."""
    return _http.Service(host, port, Metadata().routes())


def main(argv=None):
    parser = argparse.ArgumentParser(prog="mooncake_http_metadata_server", description=__doc__)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=_flags.port, default=8080)
    parser.add_argument("--log-level", default="info")
    given = parser.parse_args(argv)
    stop = _signals.stop_event()
    try:
        server = serve(given.host, given.port)
    except OSError as error:
        parser.exit(1, f"mooncake_http_metadata_server: {given.host}:{given.port}: {error}\n")
    print(f"mooncake_http_metadata_server: http://{given.host}:{server.port}/metadata", flush=True)
    stop.wait()
    server.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
