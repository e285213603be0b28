"""The command mooncake_client: lends memory to a pool, and tells clients on the same host which pool that is."""
import socket
import socketserver
import sys
import threading

from . import _client_pages, _flags, _hosts, _http, _signals
from .store import MooncakeDistributedStore

FLAGS = {
    "host": "0.0.0.0", "metadata_server": "http://127.0.0.1:8080/metadata", "device_names": "",
    "master_server_address": "127.0.0.1:50051", "protocol": "tcp", "port": 50052, "global_segment_size": "4 GB",
    "local_buffer_size": "0", "threads": 1, "tenant_id": "default", "enable_offload": False,
    "start_offload_rpc_server": True, "enable_http_server": False, "http_port": 9300, **_flags.LOGGING,
}


def serve_pool_address(host, port, master):
    """A server that answers every connection with the master's address, one line."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(f"{master}\n".encode("ascii"))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = Server((host, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _run(flags):
    stop = _signals.stop_event()
    store = MooncakeDistributedStore()
    host = flags["host"].strip("[]")
    name = "127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host
    size = _hosts.size_of(flags["global_segment_size"])
    code = _signals.run_until(stop, lambda: store.setup(
        f"[{name}]" if ":" in name else name, flags["metadata_server"], size, 0, flags["protocol"],
        flags["device_names"], flags["master_server_address"], tenant_id=flags["tenant_id"]))
    if code is None:
        return 0
    if code != 0:
        print(f"mooncake_client: no pool at {flags['master_server_address']} (code {code})", file=sys.stderr)
        return 1
    closing = [store.close]
    try:
        server = serve_pool_address(host, flags["port"], flags["master_server_address"])
        closing += [server.server_close, server.shutdown]
        pages = ""
        if flags["enable_http_server"]:
            service = _http.Service(host, flags["http_port"], _client_pages.routes(store))
            closing.append(service.close)
            pages = f", pages at port {service.port}"
        print(f"mooncake_client: {store.get_hostname()} serving at port {server.server_address[1]}{pages}", flush=True)
        stop.wait()
        return 0
    except OSError as error:
        print(f"mooncake_client: {error}", file=sys.stderr)
        return 1
    finally:
        for close in reversed(closing):
            close()


def _check(flags):
    _flags.check_ports(flags, ("port", "http_port"))
    _hosts.size_of(flags["global_segment_size"])
    _hosts.size_of(flags["local_buffer_size"])


def main(argv=None):
    return _flags.run("mooncake_client", FLAGS, argv, _check, _run)


if __name__ == "__main__":
    raise SystemExit(main())
