"""The transfer engine: memory of processes, read and written by its address, without a pool."""
from . import _pymmc


class TransferEngine(_pymmc.TransferEngine):
    """Memory of this process that others may read and write, and the other way round.

        engine = pymmc.TransferEngine("tcp://10.0.0.7:0")
        engine.register(array.ctypes.data, array.nbytes)
        engine.read("10.0.0.8:4711", [local_address], [remote_address], [size])

    A peer is named by "host:port" of its engine. Allocated memory (allocate()) travels through shared memory within a
    host, all other over TCP. url: see start(); None: not started yet. Whoever reaches the port of an engine without TLS
    may read and write all that it has registered.
    """

    def __init__(self, url="tcp://127.0.0.1:0", **options):
        super().__init__()
        if url is not None:
            self.start(url, **options)

    def start(self, url="tcp://127.0.0.1:0", **options):
        """Serves, and may call others, when it returns. `url`: where others ask what is registered here, port 0: a free
        one; data have a port of their own, always a free one. Options: same_host (use shared memory; True); timeout
        (seconds of a call that gives none; 30, and 1 ns per byte); tcp_connections (per peer; 4), tcp_threads (2),
        copy_threads (0), async_threads (8); tls (a dict of paths as for Client; certificates of role local). Raises
        MmcError; TypeError for an option that is not known."""
        super().start(url, options)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __repr__(self):
        return f"<pymmc.TransferEngine {f'port {self.port}' if self.running else 'not started'}>"
