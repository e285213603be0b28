"""The client for asyncio: calls run on the library's threads, and their ends arrive through one file descriptor."""
import asyncio

from . import Client, _pymmc
from ._errors import Code, error_for, value_of, was_stored


class _Call:
    """One call under way."""

    __slots__ = ("future", "late")

    def __init__(self, loop):
        self.future = loop.create_future()
        self.late = None  # completed by the end of a call whose future was cancelled


class AsyncClient:
    """The calls of Client, awaited. No thread waits per call.

    Options as for Client, or client=one that is there already (and stays open when this one closes). connect() or
    `async with` opens it, and binds it to the running loop. A cancelled put or get_into first waits for its transfer
    (at most its timeout): buffers are never touched after the await has ended.
    """

    def __init__(self, meta_url="tcp://127.0.0.1:5000", *, client=None, **options):
        self._meta_url = meta_url
        self._options = options
        self._given = client
        self._client = None
        self._queue = None
        self._loop = None
        self._calls = {}
        self._closing = None  # the task that closes

    @property
    def client(self):
        """The Client below: its calls that do not wait (stats, closed)."""
        if self._client is None:
            raise error_for(Code.CLOSED, "the client is not connected; use connect() or async with", None)
        return self._client

    async def connect(self):
        """Connects; returns self. Raises MmcError."""
        if self._queue is not None:
            return self
        loop = asyncio.get_running_loop()
        client = self._given
        if client is None:
            client = await loop.run_in_executor(None, lambda: Client(self._meta_url, **self._options))
        if self._queue is not None:  # another connect() was faster
            if self._given is None:
                await loop.run_in_executor(None, client.close)
            return self
        self._client = client
        self._loop = loop
        self._queue = _pymmc.AsyncQueue(client)
        loop.add_reader(self._queue.fileno(), self._take)
        return self

    def _take(self):
        for token, ok, answer in self._queue.take():
            call = self._calls.pop(token, None)
            if call is None:
                continue
            if call.late is not None and not call.late.done():
                call.late.set_result(None)
            if call.future.done():
                continue
            if ok:
                call.future.set_result(answer)
            else:
                call.future.set_exception(answer)

    def _open_queue(self):
        if self._queue is None or self._closing is not None:
            raise error_for(Code.CLOSED, "the client is not connected; use connect() or async with", None)
        return self._queue

    async def _end_of(self, token):
        """The answer; a cancelled caller waits for the end all the same."""
        call = self._calls[token] = _Call(self._loop)
        try:
            return await call.future
        except asyncio.CancelledError:
            if token in self._calls:
                call.late = self._loop.create_future()
                while not call.late.done():
                    try:
                        await asyncio.wait((call.late,))
                    except asyncio.CancelledError:
                        continue
            raise

    async def _answer_of(self, token):
        """The answer of a call that uses no buffers of the caller: it may be left behind."""
        call = self._calls[token] = _Call(self._loop)
        return await call.future

    async def put(self, items, *, replicas=1, preferred_nodes=(), prefer_local=True, timeout=None, soft_pin=None,
                  hard_pin=False, groups=None):
        """As Client.put: one Status per item."""
        return await self._end_of(self._open_queue().put(
            items, replicas=replicas, preferred_nodes=preferred_nodes, prefer_local=prefer_local, timeout=timeout,
            soft_pin=soft_pin, hard_pin=hard_pin, groups=groups))

    async def get_into(self, items, *, allow_short=False, timeout=None):
        """As Client.get_into: one GetResult per item."""
        return await self._end_of(self._open_queue().get_into(items, allow_short=allow_short, timeout=timeout))

    async def get_results(self, keys, *, timeout=None):
        """(Status, bytes or None) per key."""
        return await self._answer_of(self._open_queue().get_results(keys, timeout=timeout))

    async def get(self, keys, *, timeout=None):
        """Whole values as bytes; None where one could not be read."""
        return [value for _, value in await self.get_results(keys, timeout=timeout)]

    async def exists(self, keys, *, lease=None, timeout=None):
        """One bool per key; as Client.exists."""
        return await self._answer_of(self._open_queue().exists(keys, lease=lease, timeout=timeout))

    async def prefix(self, keys):
        """How many of these keys, from the first on, are there."""
        return await self._answer_of(self._open_queue().prefix(keys))

    async def stat(self, keys):
        """One ObjectInfo per key."""
        return await self._answer_of(self._open_queue().stat(keys))

    async def remove(self, keys):
        """One Status per key."""
        return await self._answer_of(self._open_queue().remove(keys))

    async def remove_by_prefix(self, prefix):
        """Number of values removed."""
        return await self._answer_of(self._open_queue().remove_by_prefix(prefix))

    async def remove_all(self):
        """Number of values removed."""
        return await self._answer_of(self._open_queue().remove_all())

    async def list(self, prefix="", *, page_token=b"", limit=1000):
        """One page of keys with this prefix."""
        return await self._answer_of(self._open_queue().list(prefix, page_token=page_token, limit=limit))

    async def view(self, key):
        """The value in place, pinned."""
        return await self._answer_of(self._open_queue().view(key))

    async def cluster(self):
        """What the meta service knows of the pool."""
        return await self._answer_of(self._open_queue().cluster())

    async def put_one(self, key, value, *, replicas=1, preferred_nodes=(), prefer_local=True, timeout=None,
                      soft_pin=None, hard_pin=False, group=None):
        """Stores one value. False when the key was there already. Raises MmcError."""
        status = (await self.put(((key, value),), replicas=replicas, preferred_nodes=preferred_nodes,
                                 prefer_local=prefer_local, timeout=timeout, soft_pin=soft_pin, hard_pin=hard_pin,
                                 groups=(group,)))[0]
        return was_stored(status, key)

    async def get_one(self, key, *, timeout=None):
        """One value as bytes. Raises NotFoundError and other MmcErrors."""
        return value_of((await self.get_results((key,), timeout=timeout))[0], key)

    async def close(self):
        """Ends the session; calls under way end first. Idempotent; goes on when the caller is cancelled."""
        if self._queue is None:
            return
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self):
        calls = self._calls.values()
        under_way = [f for c in calls for f in (c.future, c.late) if f is not None and not f.done()]
        if under_way:
            await asyncio.wait(under_way)
        self._loop.remove_reader(self._queue.fileno())
        if self._given is None:
            await self._loop.run_in_executor(None, self._client.close)
        self._queue = self._closing = None

    async def __aenter__(self):
        return await self.connect()

    async def __aexit__(self, *exc):
        await self.close()
