"""The metrics of mooncake_master: what clients' dashboards ask for by name, from what the meta service counts."""
import collections
import re

# Of the master's calls: those of the meta service that do the same. All of them take batches.
_CALLS = {
    "batch_put_start": ("PutStart",), "batch_put_end": ("PutCommit",), "batch_put_revoke": ("PutAbort",),
    "batch_get_replica_list": ("Lookup",), "batch_exist_key": ("Exists",), "remove_all": ("RemoveAll",),
    "mount_segment": ("Join",), "unmount_segment": ("NodeLeave",), "ping": ("SessionHeartbeat", "NodeHeartbeat"),
}
_TENANTS = {
    "mmc_meta_tenant_quota_bytes": ("gauge", ("mooncake_tenant_quota_requested_bytes",
                                              "mooncake_tenant_quota_effective_bytes")),
    "mmc_meta_tenant_used_bytes": ("gauge", ("mooncake_tenant_quota_charged_bytes",)),
    "mmc_meta_tenant_evicted_bytes_total": ("counter", ("mooncake_tenant_evict_bytes_total",)),
}
_RPC = re.compile(r'^mmc_rpc_(requests|failures)_total\{.*?method="(\w+)".*?\} (\S+)$', re.MULTILINE)
_TENANT = re.compile(r'^(mmc_meta_tenant_\w+)\{tenant="([^"]*)"\} (\S+)$', re.MULTILINE)


def _label(text):
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _figures(now):
    """(kind, {name: value}) of a ClusterStatus."""
    lookups = now.lookups_hit + now.lookups_missed
    yield "gauge", {
        "master_active_clients": now.sessions - 1, "master_allocated_bytes": now.used_bytes,
        "master_total_capacity_bytes": now.capacity_bytes, "master_key_count": now.objects,
        "master_soft_pin_key_count": now.soft_pinned, "master_value_size_bytes": now.value_bytes,
    }
    yield "counter", {
        "master_evicted_key_count": now.evicted_objects, "master_evicted_key_count_mem": now.evicted_objects,
        "master_evicted_size_bytes": now.evicted_bytes, "master_evicted_size_bytes_mem": now.evicted_bytes,
        # These count keys.
        "master_put_end_requests_total": now.puts, "master_get_replica_list_requests_total": now.gets,
        "master_remove_requests_total": now.removes, "master_batch_put_end_items_total": now.puts,
        "master_batch_get_replica_list_items_total": now.gets,
        "mem_cache_hit_nums_": now.lookups_hit, "mem_cache_nums_": lookups,
        "total_get_nums_": lookups, "valid_get_nums_": now.lookups_hit,
    }


def _calls(own):
    """{name: value} of the metrics text of the meta service."""
    counts = collections.Counter()
    for kind, method, value in _RPC.findall(own):
        counts[kind, method] += float(value)
    return {f"master_{call}_{kind}_total": int(sum(counts[kind, method] for method in methods))
            for call, methods in _CALLS.items() for kind in ("requests", "failures")}


def text(now, own):
    """Of a ClusterStatus and the metrics text of the meta service, which follows."""
    lines = []
    for kind, values in (*_figures(now), ("counter", _calls(own))):
        for name, value in values.items():
            lines += [f"# TYPE {name} {kind}", f"{name} {value}"]
    for name, column in (("segment_allocated_bytes", "used_bytes"), ("segment_total_capacity_bytes", "capacity_bytes")):
        lines.append(f"# TYPE {name} gauge")
        lines += [f'{name}{{segment="{_label(node.name)}"}} {getattr(node, column)}' for node in now.nodes]
    rows = _TENANT.findall(own)
    for ours, (kind, names) in _TENANTS.items():
        for name in names:
            lines.append(f"# TYPE {name} {kind}")
            lines += [f'{name}{{tenant_id="{tenant}"}} {value}' for metric, tenant, value in rows if metric == ours]
    return "\n".join(lines) + "\n" + own
