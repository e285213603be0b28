"""The pool as a native plug-in of LMCache: an L2 adapter of `lmcache server`.

    lmcache server --l1-size-gb 16 --eviction-policy LRU --l2-adapter '{
        "type": "native_plugin", "module_path": "pymmc.lmcache", "class_name": "Connector",
        "adapter_params": {"meta_url": "tcp://10.0.0.1:5000"}}'

Needs nothing of LMCache, which calls the methods by their names.
"""
import threading

from . import Client, _pymmc
from ._errors import Code


class Connector:
    """Calls are started with lists of keys and of memoryviews, and end on event_fd(); drain_completions() says which.

    Options (adapter_params): meta_url, replicas, and those of pymmc.Client. Thread-safe. Raises MmcError when the pool
    cannot be reached, and when too many calls wait.
    """

    def __init__(self, meta_url="tcp://127.0.0.1:5000", replicas=1, **options):
        options.setdefault("name", "lmcache")
        self._client = Client(meta_url, **options)
        self._replicas = replicas
        self._queue = _pymmc.AsyncQueue(self._client)
        self._lock = threading.Lock()
        self._under_way = {}  # future id -> results of its answer as bools

    def event_fd(self):
        """Readable while drain_completions() has something to say."""
        return self._queue.fileno()

    def submit_batch_set(self, keys, memoryviews):
        """Stores values; one that is there already counts as stored."""
        pairs = _pairs(keys, memoryviews)
        return self._start(_stored, lambda: self._queue.put(pairs, replicas=self._replicas))

    def submit_batch_get(self, keys, memoryviews):
        """Reads values into memory of exactly their sizes."""
        pairs = _pairs(keys, memoryviews)
        return self._start(_read, lambda: self._queue.get_into(pairs))

    def submit_batch_exists(self, keys):
        """Whether values are there; those stay readable for the service's default lease."""
        return self._start(list, lambda: self._queue.exists(keys, lease=0))

    def submit_batch_delete(self, keys):
        """Removes values."""
        return self._start(_read, lambda: self._queue.remove(keys))

    def drain_completions(self):
        """What has ended: (future id, whether all went well, what went wrong first, a bool per key or None)."""
        with self._lock:
            return [self._completion(*ended) for ended in self._queue.take()]

    def close(self):
        """Ends the session; calls under way end first. Idempotent."""
        self._client.close()

    def _start(self, as_bools, start):
        with self._lock:  # drain_completions() must know of the call before it can end
            future = start()
            self._under_way[future] = as_bools
            return future

    def _completion(self, future, answered, answer):
        as_bools = self._under_way.pop(future)
        if not answered:
            return future, False, str(answer), None
        bools = as_bools(answer)
        if as_bools is list:
            return future, True, "", bools
        wrong = next((one for one, fine in zip(answer, bools) if not fine), None)
        return future, wrong is None, "" if wrong is None else str(getattr(wrong, "status", wrong)), bools


def _pairs(keys, memoryviews):
    if len(keys) != len(memoryviews):
        raise ValueError(f"{len(keys)} keys with {len(memoryviews)} memoryviews: one for each is needed")
    return list(zip(keys, memoryviews))


def _stored(statuses):
    return [status.code in (Code.OK, Code.EXISTS) for status in statuses]


def _read(results):
    return [result.code == Code.OK for result in results]
