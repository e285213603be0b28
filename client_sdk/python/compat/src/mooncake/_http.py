"""Small HTTP servers of the commands."""
import http.server
import json
import socket
import threading
import urllib.parse

_MAX_BODY = 1 << 30
_MAX_CONNECTIONS = 256
_SOCKET_SECONDS = 30.0


class HttpError(Exception):
    """An answer other than 200."""

    def __init__(self, status, body, content_type="text/plain; charset=utf-8"):
        super().__init__(body)
        self.status = status
        self.body = body
        self.content_type = content_type


def as_json(value):
    return json.dumps(value), "application/json"


def json_error(status, code, message):
    return HttpError(status, json.dumps({"success": False, "error_code": code, "error_message": message}),
                     "application/json")


class _Server(http.server.ThreadingHTTPServer):
    """A thread per connection, so many at most."""
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args):
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(*args)

    def process_request(self, request, client_address):
        if not self._free.acquire(blocking=False):
            return self.shutdown_request(request)
        try:
            return super().process_request(request, client_address)
        except BaseException:  # no thread
            self._free.release()
            raise

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request, client_address):
        return  # whoever asked went away


class Service:
    """Serves `routes` in threads: {(method, path): call(query, body) -> text or (text or bytes, content type)}. A path
    that ends with "/" takes all that begin with it; the rest is query[""]."""

    def __init__(self, host, port, routes):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = _SOCKET_SECONDS

            def handle_any(self):
                _answer(self, routes)

            do_GET = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *args):
                return

        class Server(_Server):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self._server = Server((host, port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def _find(routes, method, path):
    found = routes.get((method, path))
    if found is not None:
        return found, ""
    for (of, prefix), call in routes.items():
        if of == method and prefix.endswith("/") and path.startswith(prefix):
            return call, urllib.parse.unquote(path[len(prefix):])
    paths = [known for of, known in routes if known == path]
    raise HttpError(405 if paths else 404, "method not allowed" if paths else f"no page {path}")


def _answer(handler, routes):
    status, content_type = 200, "text/plain; charset=utf-8"
    try:
        path, _, query = handler.path.partition("?")
        query = {name: values[-1] for name, values in urllib.parse.parse_qs(query, keep_blank_values=True).items()}
        length = handler.headers.get("Content-Length") or "0"
        if not length.isdecimal() or int(length) > _MAX_BODY:
            handler.close_connection = True
            raise HttpError(413, "the body is too large")
        body = handler.rfile.read(int(length))
        call, query[""] = _find(routes, handler.command, path)
        text = call(query, body)
        if isinstance(text, tuple):
            text, content_type = text
    except HttpError as error:
        status, text, content_type = error.status, error.body, error.content_type
    except Exception as error:  # a page must not take its server along
        status, text = 500, f"{type(error).__name__}: {error}"
    data = text if isinstance(text, bytes) else text.encode()
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
