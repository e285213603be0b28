"""The command mooncake_master: a meta service under the flags, pages and metrics that clients know."""
import sys

import pymmc

from . import _flags, _hosts, _signals, http_metadata_server
from ._master_pages import Pages

_INT64_MAX = (1 << 63) - 1

# What has an effect here.
_USED = {
    "port": 50051, "rpc_port": 0, "rpc_address": "0.0.0.0", "rpc_thread_num": 0, "max_threads": 16, "config_path": "",
    "metrics_port": 9003, "metrics_host": "0.0.0.0",
    "default_kv_lease_ttl": "10000", "default_kv_soft_pin_ttl": "1800000", "max_kv_soft_pin_ttl": "86400000",
    "allow_evict_soft_pinned_objects": True, "eviction_ratio": 0.05, "eviction_high_watermark_ratio": 0.90,
    "put_start_release_timeout_sec": 600, "client_ttl": 10,
    "enable_http_metadata_server": False, "http_metadata_server_port": 8080, "http_metadata_server_host": "0.0.0.0",
}
# What is taken, and has none.
_ACCEPTED = {
    "enable_metric_reporting": True, "rpc_interface": "", "rpc_conn_timeout_seconds": 0,
    "rpc_enable_tcp_no_delay": True,
    "nof_eviction_ratio": 0.05, "nof_eviction_high_watermark_ratio": 0.90, "put_start_discard_timeout_sec": 30,
    "memory_allocator": "offset", "allocation_strategy": "random", "enable_offload": False, "offload_on_evict": False,
    "offload_force_evict": False, "offloading_queue_limit": 50000, "offload_cap_ratio": 0.5, "promotion_on_hit": False,
    "promotion_admission_threshold": 2, "promotion_queue_limit": 50000, "promotion_max_per_heartbeat": 1,
    "root_fs_dir": "", "global_file_segment_size": _INT64_MAX, "enable_disk_eviction": True, "quota_bytes": 0,
    "dynamic_replication_mode": "off", "dynamic_replication_heat_window_seconds": 10,
    "dynamic_replication_admission_qps_threshold": 0.8, "dynamic_replication_max_memory_replicas": 2,
    "enable_ha": False, "ha_backend_type": "etcd", "ha_backend_connstring": "", "etcd_endpoints": "",
    "cluster_id": "mooncake_cluster", "pod_name": "", "pod_namespace": "", "enable_oplog": False,
    "oplog_poll_interval_ms": 1000, "oplog_batch_max_entries": 1024, "batch_oplog_retry_timeout_sec": 180,
    "enable_snapshot": False, "enable_snapshot_restore": False, "snapshot_backup_dir": "",
    "snapshot_interval_seconds": 600, "snapshot_child_timeout_seconds": 300, "snapshot_retention_count": 2,
    "snapshot_object_store_type": "", "snapshot_payload_store_type": "", "snapshot_payload_backend_type": "",
    "snapshot_catalog_store_type": "", "snapshot_catalog_store_connstring": "", "snapshot_catalog_backend_type": "",
    "snapshot_catalog_backend_connstring": "", "enable_metadata_cleanup_on_timeout": False,
    "enable_multi_tenants": False, "tenant_quota_connector_type": "file", "tenant_quota_connector_uri": "",
    "max_total_finished_tasks": 10000, "max_total_pending_tasks": 10000, "max_total_processing_tasks": 10000,
    "pending_task_timeout_sec": 300, "processing_task_timeout_sec": 300, "max_retry_attempts": 10,
    "nof_heartbeat_interval_sec": 10, "nof_heartbeat_probe_timeout_ms": 1000, "nof_heartbeat_failures_threshold": 3,
    "enable_cxl": False, "cxl_path": "/dev/dax0.0", "cxl_size": 8 << 30, "enable_kv_events": False,
    "kv_events_bind_endpoint": "", "kv_events_backend_id": "", "kv_events_emit_legacy_compat": True,
    "kv_events_emit_object_key": True, "kv_events_queue_capacity": 65536, "kv_events_model_name": "",
    "kv_events_tenant_id": "default", "kv_events_additional_salt": "", "kv_events_lora_name": "",
    "kv_events_block_size": 0, "kv_events_dp_rank": 0,
}
# What promises something that is not there: said once at the start.
_MISSING = ("enable_ha", "enable_oplog", "enable_snapshot", "enable_snapshot_restore", "enable_offload",
            "promotion_on_hit", "enable_cxl", "enable_kv_events", "tenant_quota_connector_uri")
_SHORTEST = 1.0  # second
_TIMES = ("default_kv_lease_ttl", "default_kv_soft_pin_ttl", "max_kv_soft_pin_ttl")
FLAGS = {**_USED, **_ACCEPTED, **_flags.LOGGING}
_FILE_NAMES = {"client_live_ttl_sec": "client_ttl"}


def meta_options(flags):
    """(url, options) of the meta service. FlagError."""
    _flags.check_ports(flags, ("port", "rpc_port", "metrics_port", "http_metadata_server_port"))
    for name in ("eviction_ratio", "eviction_high_watermark_ratio"):
        if flags[name] > 1:
            raise _flags.FlagError(f"flag '{name}' is a share of 0 to 1, not '{flags[name]}'")
    high = round(flags["eviction_high_watermark_ratio"] * 100)
    step = max(1, round(flags["eviction_ratio"] * 100))
    if high < 2:
        raise _flags.FlagError("flag 'eviction_high_watermark_ratio' is at least 0.02")
    lease, soft_pin, max_soft_pin = (_flags.milliseconds(name, flags[name]) / 1000 for name in _TIMES)
    if soft_pin > max_soft_pin:
        raise _flags.FlagError("flag 'default_kv_soft_pin_ttl' must not be above 'max_kv_soft_pin_ttl'")
    threads = flags["rpc_thread_num"] or min(4, flags["max_threads"])
    options = {
        "io_threads": max(1, min(threads, 32)),
        "evict_threshold_high": high, "evict_threshold_low": max(1, high - step),
        # A read needs a lease, and a write a grant, for as long as it takes.
        "lease": max(_SHORTEST, lease), "max_lease": max(600.0, lease),
        "grant": max(_SHORTEST, float(flags["put_start_release_timeout_sec"])),
        "soft_pin": soft_pin, "max_soft_pin": max_soft_pin,
        "evict_soft_pinned": flags["allow_evict_soft_pinned_objects"],
        "session_expiry": float(max(flags["client_ttl"], 2)),
    }
    host = flags["rpc_address"].strip("[]")
    return "tcp://" + _hosts.join_host(host, flags["rpc_port"] or flags["port"]), options


def _run(flags):
    stop = _signals.stop_event()
    url, options = meta_options(flags)
    for name in _MISSING:
        if flags[name]:
            print(f"mooncake_master: --{name} has no effect", file=sys.stderr, flush=True)
    closing = []
    try:
        meta = pymmc.MetaService(url, **options)
        closing.append(meta.stop)
        if flags["enable_http_metadata_server"]:
            server = http_metadata_server.serve(flags["http_metadata_server_host"].strip("[]"),
                                                flags["http_metadata_server_port"])
            closing.append(server.close)
            print(f"mooncake_master: metadata at port {server.port}", flush=True)
        pages = Pages(meta, flags["metrics_host"].strip("[]"), flags["metrics_port"])
        closing.append(pages.close)
        print(f"mooncake_master: serving {meta.url}, pages at port {pages.port}", flush=True)
        stop.wait()
        return 0
    except (pymmc.MmcError, OSError) as error:
        print(f"mooncake_master: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        for close in reversed(closing):
            close()


def main(argv=None):
    return _flags.run("mooncake_master", FLAGS, argv, meta_options, _run, _FILE_NAMES)


if __name__ == "__main__":
    raise SystemExit(main())
