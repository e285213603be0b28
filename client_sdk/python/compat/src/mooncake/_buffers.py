"""Buffers: what get_buffer() returns, host memory, and pools of registered memory."""
import threading
import time

from . import _memory

_DEFAULT_ALIGNMENT = 8 << 20


class BufferHandle(bytearray):
    """A value in memory of its own, good for as long as this lives. Has the buffer protocol (bytes, 1-D)."""

    def ptr(self):
        """The address of the first byte."""
        return _memory.address_of(self) if self else 0

    def size(self):
        """Bytes."""
        return len(self)

    def len(self):
        """Bytes."""
        return len(self)

    __hash__ = object.__hash__


class MooncakeHostMemAllocator:
    """Page-aligned memory of this process."""

    def __init__(self):
        self._memory = _memory.HostMemory()

    def alloc(self, size):
        """The address; 0 when there is none."""
        return self._memory.alloc(size)

    def free(self, ptr):
        """0, or -1 for an address that alloc() did not give."""
        return self._memory.free(ptr)


class RegisteredBufferLease:
    """A piece of a pool, given back by release(), or at the end of a `with` block."""

    def __init__(self, pool, ptr, size, size_class, view):
        self._pool = pool
        self._class = size_class
        self._ptr = ptr
        self._view = view
        self.size = size

    @property
    def ptr(self):
        """Its address."""
        if self._pool is None:
            raise RuntimeError("the buffer was released")
        return self._ptr

    @property
    def buffer(self):
        """Its bytes, writable, as a memoryview: until release()."""
        if self._pool is None:
            raise RuntimeError("the buffer was released")
        return self._view

    def release(self):
        """Idempotent. RuntimeError while arrays or views are made of `buffer`."""
        if self._pool is None:
            return
        try:
            self._view.release()
        except BufferError as error:
            raise RuntimeError(f"the buffer is in use: {error}") from None
        self._give_back()

    def _give_back(self):
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._take_back(self._ptr, self._class)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.release()

    def __del__(self):
        self._give_back()


RegisteredBufferLeaseView = RegisteredBufferLease


class BufferPool:
    """Registered memory in size classes of powers of two, reused. Thread-safe.

    max_bytes: of all buffers together, 0: no limit. A request that finds no room waits (block_on_exhaustion,
    default_timeout in seconds) for what is leased; RuntimeError when it may not wait, waits too long, or can never be
    met.
    """

    def __init__(self, store, max_bytes=0, min_size_class=65536, max_size_class=None, alignment=_DEFAULT_ALIGNMENT,
                 block_on_exhaustion=True, default_timeout=None, max_regions=None, prewarm_size=None, prewarm_count=0):
        if alignment <= 0 or alignment & (alignment - 1):
            raise RuntimeError(f"alignment is a power of two, not {alignment}")
        if min_size_class <= 0 or max_bytes < 0:
            raise RuntimeError("min_size_class is at least 1, max_bytes at least 0")
        self._store = store
        self._max_bytes = max_bytes
        self._min = min_size_class
        self._max = max_size_class
        self._alignment = alignment
        self._block = block_on_exhaustion
        self._timeout = default_timeout
        self._max_regions = max_regions
        self._memory = _memory.HostMemory()
        self._changed = threading.Condition()
        self._free = {}  # size class -> addresses
        self._regions = {}  # address -> (start of the allocation, size class)
        self._bytes = 0
        self._leased = 0
        self._closed = False
        if prewarm_size:
            self.prewarm(prewarm_size, prewarm_count)

    def acquire(self, size, block=None, timeout=None):
        """A RegisteredBufferLease of `size` bytes."""
        size_class = self._class_of(size)
        block = self._block if block is None else block
        timeout = self._timeout if timeout is None else timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                if self._closed:
                    raise RuntimeError("the pool is closed")
                address = self._find(size_class)
                if address:
                    self._leased += 1
                    view = self._memory.view(self._regions[address], address, size)
                    return RegisteredBufferLease(self, address, size, size_class, view)
                if not block or not self._leased:
                    raise RuntimeError(f"the pool has no room for {size} bytes: {self._bytes} bytes are in use")
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise RuntimeError(f"timed out: the pool had no room for {size} bytes within {timeout} s")
                self._changed.wait(left)

    buffer = acquire

    def prewarm(self, size, count):
        """Makes `count` buffers of `size` bytes ready."""
        leases = []
        try:
            for _ in range(count):
                leases.append(self.acquire(size, block=False))
        finally:
            for lease in leases:
                lease.release()

    def close(self):
        """Gives all memory back; buffers still leased stay valid until they are released. Idempotent."""
        with self._changed:
            self._closed = True
            for size_class, addresses in self._free.items():
                for address in addresses:
                    self._drop(address, size_class)
            self._free.clear()
            self._changed.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _class_of(self, size):
        if size <= 0:
            raise RuntimeError(f"a buffer has at least 1 byte, not {size}")
        size_class = max(self._min, 1 << (size - 1).bit_length())
        if self._max is not None and size > self._max:
            raise RuntimeError(f"{size} bytes are more than the pool's largest buffer of {self._max}")
        return size_class

    def _find(self, size_class):
        """A free or new buffer; 0 when there is no room. The lock is held."""
        free = self._free.get(size_class)
        if free:
            return free.pop()
        if self._max_bytes and self._bytes + size_class > self._max_bytes:
            self._drop_unused(self._bytes + size_class - self._max_bytes)
        if self._max_bytes and self._bytes + size_class > self._max_bytes:
            return 0
        if self._max_regions is not None and len(self._regions) >= self._max_regions:
            self._drop_unused(1)
            if len(self._regions) >= self._max_regions:
                return 0
        start = self._memory.alloc(size_class + self._alignment)
        if not start:
            return 0
        address = (start + self._alignment - 1) // self._alignment * self._alignment
        if self._store.register_buffer(address, size_class) != 0:
            self._memory.free(start)
            raise RuntimeError("the store did not register the buffer: set it up first")
        self._regions[address] = start
        self._bytes += size_class
        return address

    def _drop_unused(self, wanted):
        for size_class, addresses in self._free.items():
            while addresses and wanted > 0:
                self._drop(addresses.pop(), size_class)
                wanted -= size_class

    def _drop(self, address, size_class):
        self._store.unregister_buffer(address)
        self._memory.free(self._regions.pop(address))
        self._bytes -= size_class

    def _take_back(self, address, size_class):
        with self._changed:
            self._leased -= 1
            if self._closed:
                self._drop(address, size_class)
            else:
                self._free.setdefault(size_class, []).append(address)
            self._changed.notify_all()


RegisteredBufferPool = BufferPool
