"""Services inside this process: a meta service, nodes, and a whole pool of them."""
import itertools
import os
import threading

from . import _pymmc

_numbers = itertools.count(1)


def _lines(settings):
    return [f"{key}={value}" for key, value in (settings or {}).items()]


def _older_meta_service():
    from memcache_hybrid import MetaService as Older  # noqa: N811
    return Older


class _Stopped:
    """Stopped by leaving a with block."""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class MetaService(_Stopped, _pymmc.MetaService):
    """A meta service, serving when the constructor returns. Logs nothing, takes no signals.

    url: "tcp://127.0.0.1:5000"; port 0: a free one (see .url, .port). Options: metrics_url ("http://127.0.0.1:8000":
    the HTTP pages; "": none); io_threads; evict_threshold_high, evict_threshold_low (percent); evict_policy; lease,
    max_lease, soft_pin, max_soft_pin, grant, heartbeat, session_expiry, node_suspect, node_grace, recovery (seconds;
    how long nodes of an earlier meta service are waited for; 0); evict_soft_pinned; max_sessions, max_connections; tls
    (a dict of paths as for Client). Raises MmcError; TypeError for an option that is not known.
    """

    def __init__(self, url="tcp://127.0.0.1:5000", **options):
        super().__init__(url, options)

    @classmethod
    def from_conf(cls, path="", settings=None):
        """One with the settings of a conf file of mmc_meta_service ("": all defaults), and those of a mapping of its
        keys to texts on top. What the file says of logs has no effect. Raises ConfigError, which names file, line and
        key."""
        made = cls.__new__(cls)
        _pymmc.MetaService.__init__(made, path, _lines(settings))
        return made

    @staticmethod
    def read_conf(path="", settings=None):
        """({key: text} of all settings, warnings) that from_conf() would take. Raises ConfigError."""
        return _pymmc.meta_conf(path, _lines(settings))

    @staticmethod
    def setup(config):
        """MetaService.setup of memcache_hybrid, for programs that still import it from here."""
        return _older_meta_service().setup(config)

    @staticmethod
    def main():
        """MetaService.main of memcache_hybrid, for programs that still import it from here."""
        return _older_meta_service().main()

    def __repr__(self):
        return f"<pymmc.MetaService {self.url}{'' if self.running else ', stopped'}>"


class LocalService(_Stopped, _pymmc.LocalService):
    """A node that lends memory of this process to a pool; a member of it when the constructor returns.

    Options: dram ("128MB"; rounded up to 2 MiB); name; join_timeout (seconds); data_url ("tcp://127.0.0.1:0"; port 0:
    a free one); tcp, tcp_threads, tcp_congestion_control; shm, shm_directory, shm_group, shm_group_writes; numa_node;
    hugepages; prefault; catalog_directory; tls, data_tls (dicts of paths as for Client), and with data_tls:
    data_tickets; client_access, admin_access, local_access ("none", "read" or "write").
    Raises MmcError; TypeError for an option that is not known.
    """

    def __init__(self, meta_url="tcp://127.0.0.1:5000", **options):
        super().__init__(meta_url, options)

    def __repr__(self):
        return f"<pymmc.LocalService {self.name}{'' if self.running else ', stopped'}>"


class Cluster:
    """A whole pool inside this process that other processes of this machine may use too: see local()."""

    def __init__(self, meta, nodes):
        self.meta = meta
        self.nodes = nodes
        self.meta_url = meta.url

    @staticmethod
    def local(dram="1GB", *, nodes=1, **meta_options):
        """A pool of `nodes` nodes with `dram` each, on free ports of 127.0.0.1."""
        meta = MetaService("tcp://127.0.0.1:0", **meta_options)
        made = []
        try:
            for _ in range(nodes):
                name = f"cluster-{os.getpid()}-{next(_numbers)}"
                made.append(LocalService(meta.url, dram=dram, name=name))
        except BaseException:
            for node in made:
                node.stop()
            meta.stop()
            raise
        return Cluster(meta, made)

    def client(self, **options):
        """A Client of this pool."""
        from . import Client
        return Client(self.meta_url, **options)

    def async_client(self, **options):
        """An AsyncClient of this pool, not connected yet."""
        from ._aio import AsyncClient
        return AsyncClient(self.meta_url, **options)

    def close(self):
        """Ends the pool; what it held is gone. Idempotent."""
        for node in self.nodes:
            node.stop()
        self.meta.stop()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __repr__(self):
        return f"<pymmc.Cluster {self.meta_url}, {len(self.nodes)} nodes>"


def run_meta_service(url="tcp://127.0.0.1:5000", *, stop=None, **options):
    """A MetaService with these options until `stop` (a threading.Event) is set, or KeyboardInterrupt."""
    with MetaService(url, **options):
        try:
            (stop or threading.Event()).wait()
        except KeyboardInterrupt:
            return
