"""The pages of mooncake_master's metrics port."""
import json

import pymmc
from mmc_compat import codes

from . import _http, _master_metrics

_REMOVE_PAGE = 1000


def _human(size):
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} TB"


class Pages:
    """Answers from a session of its own with the meta service."""

    def __init__(self, meta, host, port):
        self._meta = meta
        self._client = pymmc.Client(self._own_url(meta), name="mooncake_master", timeout=10.0)
        try:
            self._service = _http.Service(host, port, self._routes())
        except OSError:
            self._client.close()
            raise
        self.port = self._service.port

    @staticmethod
    def _own_url(meta):
        return meta.url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")

    def close(self):
        self._service.close()
        self._client.close()

    def _routes(self):
        pages = {
            "/metrics": self._metrics, "/metrics/summary": self._summary, "/health": self._health,
            "/role": lambda query, body: "leader", "/ha_status": lambda query, body: "serving",
            "/leader": self._leader, "/query_key": self._query_key, "/batch_query_keys": self._batch_query_keys,
            "/get_all_keys": self._all_keys, "/get_all_segments": self._all_segments,
            "/get_segments_detail": self._segments_detail, "/query_segment": self._query_segment,
            "/kv_events/status": self._kv_events, "/api/v1/segments/status": self._segment_status,
            "/api/v1/drain_jobs/query": self._drain_status, "/api/v1/tenant_quotas": self._unsupported,
        }
        routes = {("GET", path): page for path, page in pages.items()}
        routes.update({(method, "/api/v1/tenant_quotas"): self._unsupported for method in ("PUT", "DELETE")})
        routes[("POST", "/api/v1/drain_jobs")] = self._drain
        routes[("POST", "/api/v1/drain_jobs/cancel")] = self._drain_cancel
        routes[("POST", "/api/v1/remove_all")] = self._remove_all
        return routes

    def _unsupported(self, query, body):
        raise _http.json_error(501, codes.MOONCAKE_NOT_SUPPORTED, "not supported")

    # State.

    def _health(self, query, body):
        return _http.as_json({"status": "ok", "role": "leader", "ha_state": "serving",
                              "service_ready": self._meta.running, "leader_address": self._meta.url[len("tcp://"):],
                              "view_version": 1})

    def _leader(self, query, body):
        return _http.as_json({"present": True, "leader_address": self._meta.url[len("tcp://"):], "view_version": 1})

    def _summary(self, query, body):
        now = self._client.cluster()
        share = 100 * now.used_bytes / now.capacity_bytes if now.capacity_bytes else 0
        return (f"role=leader, state=serving, service_ready=true, master={{Mem Storage: {_human(now.used_bytes)} / "
                f"{_human(now.capacity_bytes)} ({share:.1f}%) | Keys: {now.objects} (soft-pinned: {now.soft_pinned}) | "
                f"Clients: {now.sessions - 1} | Puts: {now.puts} | Gets: {now.gets} | Removes: {now.removes} | "
                f"Eviction: keys={now.evicted_objects}, size={_human(now.evicted_bytes)}}}, ha={{off}}\n")

    def _metrics(self, query, body):
        page = _master_metrics.text(self._client.cluster(), self._meta.metrics())
        return page, "text/plain; version=0.0.4; charset=utf-8"

    def _kv_events(self, query, body):
        return _http.as_json({"enabled": False, "published_batches": 0, "published_events": 0, "dropped_events": 0,
                              "skipped_unparsed_keys": 0})

    # Keys.

    def _values(self, info):
        return [{"size_": info.size, "buffer_address_": 0, "protocol_": "tcp", "transport_endpoint_": replica.node}
                for replica in info.replicas]

    def _query_key(self, query, body):
        key = query.get("key")
        if not key:
            raise _http.json_error(400, codes.MOONCAKE_INVALID_PARAMS, "give ?key=")
        info = self._client.stat([key])[0]
        if not info.ok:
            raise _http.json_error(404, codes.MOONCAKE_OBJECT_NOT_FOUND, "OBJECT_NOT_FOUND")
        self._client.exists_codes([key], 0)  # takes the lease
        return _http.as_json({"success": True, "data": self._values(info)})

    def _batch_query_keys(self, query, body):
        keys = [key for key in query.get("keys", "").split(",") if key]
        if not keys:
            raise _http.json_error(400, codes.MOONCAKE_INVALID_PARAMS, "give ?keys=a,b")
        data = {key: {"ok": True, "values": self._values(info)} if info.ok else
                {"ok": False, "error": "OBJECT_NOT_FOUND", "values": []}
                for key, info in zip(keys, self._client.stat(keys))}
        return _http.as_json({"success": True, "data": data})

    def _all_keys(self, query, body):
        return "".join(f"{key if isinstance(key, str) else key.decode('utf-8', 'backslashreplace')}\n"
                       for key, _ in self._client.scan())

    def _remove_all(self, query, body):
        tenant = query.get("tenant_id") or "default"
        force = query.get("force", "").lower() in ("1", "true")
        if tenant == "default":
            return _http.as_json({"success": True, "removed_count": self._remove_of(self._client, force)})
        try:
            with pymmc.Client(self._own_url(self._meta), name="mooncake_master", tenant=tenant, timeout=10.0) as client:
                return _http.as_json({"success": True, "removed_count": self._remove_of(client, force)})
        except pymmc.InvalidArgumentError as error:
            raise _http.json_error(400, codes.MOONCAKE_INVALID_PARAMS, str(error)) from error

    @staticmethod
    def _remove_of(client, force):
        """How many values of the client's tenant were removed: those that are leased stay, unless `force`."""
        if force:
            return client.remove_all()
        keys = [key for key, _ in client.scan(page=_REMOVE_PAGE)]
        removed = 0
        for at in range(0, len(keys), _REMOVE_PAGE):
            part = keys[at:at + _REMOVE_PAGE]
            free = [key for key, info in zip(part, client.stat(part)) if info.ok and info.lease_left <= 0]
            removed += sum(code == 0 for code in client.remove_codes(free)) if free else 0
        return removed

    # Segments: the nodes of the pool.

    def _nodes(self):
        return self._client.cluster().nodes

    def _all_segments(self, query, body):
        return "".join(f"{node.name}\n" for node in self._nodes())

    def _segments_detail(self, query, body):
        return _http.as_json({"success": True, "data": [
            {"segment": node.name, "status": node.state, "capacity_bytes": node.capacity_bytes,
             "used_bytes": node.used_bytes, "objects": node.objects, "endpoints": list(node.endpoints)}
            for node in self._nodes()]})

    def _segment(self, query):
        return self._node_named(query.get("segment", ""), codes.MOONCAKE_SEGMENT_NOT_FOUND)

    def _node_named(self, wanted, code):
        for node in self._nodes():
            if node.name == wanted:
                return node
        raise _http.json_error(404, code, f"no segment {wanted!r}")

    def _query_segment(self, query, body):
        node = self._segment(query)
        return f"{node.name}\nUsed(bytes): {node.used_bytes}\nCapacity(bytes) : {node.capacity_bytes}\n"

    def _segment_status(self, query, body):
        node = self._segment(query)
        return _http.as_json({"success": True, "segment": node.name, "status": node.state})

    # Draining: a job per node, called after it.

    def _drain(self, query, body):
        try:
            names = json.loads(body)["segments"]
            (name,) = names
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _http.json_error(400, codes.MOONCAKE_INVALID_PARAMS,
                                   'the body is {"segments": ["NAME"]}, with one name') from error
        node = self._node_named(name, codes.MOONCAKE_SEGMENT_NOT_FOUND)
        self._meta.drain(node.name)
        return _http.as_json({"success": True, "job_id": node.name, "status": "CREATED"})

    def _drain_cancel(self, query, body):
        node = self._node_named(query.get("job_id", ""), codes.MOONCAKE_JOB_NOT_FOUND)
        self._meta.drain(node.name, cancel=True)
        return _http.as_json({"success": True, "job_id": node.name, "status": "CANCELED"})

    def _drain_status(self, query, body):
        node = self._node_named(query.get("job_id", ""), codes.MOONCAKE_JOB_NOT_FOUND)
        status = {"drained": "SUCCEEDED", "draining": "RUNNING"}.get(node.state, "CANCELED")
        return _http.as_json({"success": True, "job_id": node.name, "status_name": status,
                              "active_units": node.drain_left_objects, "remaining_bytes": node.drain_left_bytes,
                              "message": f"the node is {node.state}"})
