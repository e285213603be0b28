"""The pages of a store's own port: its health, and what it has moved."""
import logging

from . import _http

_log = logging.getLogger("mooncake.store")
_HEALTH = {0: "healthy", 1: "not_initialized", 2: "master_unreachable"}


def routes(store):
    def health(query, body):
        code = store.health_check()
        return _http.as_json({"status": _HEALTH[code], "code": code})

    def metrics(query, body):
        stats = store.transfer_stats()
        return "".join(f"# TYPE {name} counter\n{name} {value}\n" for name, value in stats.items())

    return {("GET", "/health"): health, ("GET", "/metrics"): metrics,
            ("GET", "/metrics/summary"): lambda query, body: ", ".join(
                f"{name}={value}" for name, value in store.transfer_stats().items()) + "\n"}


def serve_beside(store, ipv6, port):
    """The running server, or None: of several processes on a host one only gets the port."""
    try:
        return _http.Service("::" if ipv6 else "0.0.0.0", port, routes(store))
    except (OSError, OverflowError, TypeError) as error:
        _log.warning("client_http_port %s: no pages: %s", port, error)
        return None
