"""Addresses of values for batch_copy.

An address is a number of this process alone: its upper bits name an entry, its lower ones are the byte of the value, so
that arithmetic within a value works. Bytes that are written wait in memory of this process until write_finish puts
them; bytes that are read come from the pool straight into the caller's buffers.
"""
import collections
import ctypes
import itertools
import mmap
import os
import threading

import pymmc
from mmc_compat.codes import (MEMCACHE_CLIENT_NOT_INIT, MEMCACHE_DUPLICATED_OBJECT, MEMCACHE_INVALID_PARAM,
                              MEMCACHE_NOT_ENOUGH_MEMORY, MEMCACHE_OK, MEMCACHE_UNMATCHED_KEY,
                              MEMCACHE_UNMATCHED_STATE, MEMCACHE_WRITE_READABLE_BLOB, memcache_code, memcache_put_code)

SHIFT = 31  # of an entry in an address: more than the largest value
FIRST_ENTRY = 1 << 14
ENTRIES = (1 << 32) - FIRST_ENTRY  # an address has 63 bits
MAX_VALUE_BYTES = 1 << 30
MAX_BATCH = 16384
READABLE_ENTRIES = 1 << 20  # the ones not used for longest are forgotten
LEASE_SECONDS = 20.0
DEFAULT_STAGING = 4 << 30
KEEPS_GIL_BYTES = 256 << 10

# Keeps the GIL. Getting it back may take milliseconds when others compute: too long for each of a thousand small
# pieces, between which the interpreter lets others run in any case.
_move_small = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
    ctypes.cast(ctypes.CDLL(None).memmove, ctypes.c_void_p).value)


_counted = itertools.count()  # entries of all pools that this process has had


class _Memory:
    """Pages of this process."""

    __slots__ = ("size", "address", "_map", "_window")

    def __init__(self, size):
        self.size = size
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size >= 2 << 20 and hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                self._map.madvise(mmap.MADV_HUGEPAGE)
            except OSError:
                pass  # a kernel without them
        self._window = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(self._window)

    def free(self):
        self._window = None
        self._map.close()


class _Spares:
    """Memory, at most so many bytes; some is kept for the next value of the same size. Guarded by its owner's lock."""

    def __init__(self, limit):
        self._limit = limit
        self._used = 0
        self._kept = 0
        self._by_size = {}

    def take(self, size):
        """Memory whose bytes are anything; None when there is no more."""
        if self._used + size > self._limit:
            return None
        if self._by_size.get(size):
            memory = self._by_size[size].pop()
            self._kept -= size
        else:
            if self._used + self._kept + size > self._limit:
                self.free_kept()
            try:
                memory = _Memory(size)
            except (OSError, MemoryError):
                return None
        self._used += size
        return memory

    def give_back(self, memory):
        self._used -= memory.size
        if self._kept + memory.size > self._limit // 4:
            memory.free()
        else:
            self._by_size.setdefault(memory.size, []).append(memory)
            self._kept += memory.size

    def free_kept(self):
        for memories in self._by_size.values():
            for memory in memories:
                memory.free()
        self._by_size.clear()
        self._kept = 0


class _Entry:
    """A value that has an address; with memory while it is being written."""

    __slots__ = ("number", "key", "size", "memory", "copies", "dropped")

    def __init__(self, number, key, size):
        self.number = number
        self.key = key
        self.size = size
        self.memory = None
        self.copies = 0
        self.dropped = False


class GvaSpace:
    """The addresses of one process. Safe for any thread."""

    def __init__(self, client, connect):
        self._client = client
        self._connect = connect
        self._reader = None
        self._lock = threading.Lock()
        self._reader_lock = threading.Lock()
        self._entries = {}  # by number
        self._staged = {}  # by key: being written
        self._readable = collections.OrderedDict()  # by key
        self._spares = _Spares(_staging_limit())
        self._closed = False

    def close(self):
        with self._lock:
            self._closed = True
            for entry in list(self._staged.values()):
                self._drop_staged(entry)
            self._entries.clear()
            self._readable.clear()
            self._spares.free_kept()
        with self._reader_lock:
            if self._reader is not None:
                self._reader.close()

    def drop(self, key):
        """Forgets what was being written. False when nothing was."""
        with self._lock:
            entry = self._staged.get(key)
            if entry is None:
                return False
            self._drop_staged(entry)
            return True

    def address_of(self, key, size):
        """The address of a readable value."""
        with self._lock:
            entry = self._readable.get(key)
            if entry is None or entry.size != size:
                entry = self._add(key, size)
                self._add_readable(entry)
            else:
                self._readable.move_to_end(key)
            return entry.number << SHIFT

    def alloc(self, keys, sizes, key_is_good):
        """An address, or a code, for each key."""
        exists = self._client.exists_codes(keys)
        results = []
        with self._lock:
            if self._closed:
                return [MEMCACHE_CLIENT_NOT_INIT] * len(keys)
            for key, size, there in zip(keys, sizes, exists):
                if not key_is_good(key) or not 0 < size <= MAX_VALUE_BYTES:
                    results.append(MEMCACHE_INVALID_PARAM)
                elif there or key in self._staged:
                    results.append(MEMCACHE_DUPLICATED_OBJECT)
                else:
                    results.append(self._stage(key, size))
        return results

    def copy(self, gvas, rows, sizes, into_pool):
        """Copies rows of pieces to or from addresses; the pieces of a row follow each other. The first code not 0."""
        if into_pool:
            return self._write(gvas, rows, sizes)
        for at in range(0, len(gvas), MAX_BATCH):
            part = slice(at, at + MAX_BATCH)
            code = self._read(gvas[part], rows[part], sizes[part])
            if code != MEMCACHE_OK:
                return code
        return MEMCACHE_OK

    def write_finish(self, keys, results):
        """Puts what was written under keys with result 0, forgets the others. A code for each key."""
        codes = [MEMCACHE_OK] * len(keys)
        ready = []
        with self._lock:
            for i, (key, result) in enumerate(zip(keys, results)):
                entry = self._staged.get(key)
                if entry is None:
                    codes[i] = MEMCACHE_OK if key in self._readable else MEMCACHE_UNMATCHED_KEY
                elif result != 0:
                    self._drop_staged(entry)
                else:
                    entry.copies += 1
                    ready.append((i, entry))
        if ready:
            entries = [entry for _, entry in ready]
            try:
                put = self._client.put_ptrs([entry.key for entry in entries],
                                            [[entry.memory.address] for entry in entries],
                                            [[entry.size] for entry in entries])
            except pymmc.MmcError as error:
                put = [error.code] * len(entries)
            with self._lock:
                for (i, entry), code in zip(ready, put):
                    codes[i] = memcache_put_code(code)
                    self._finish(entry, codes[i] == MEMCACHE_OK)
        return codes

    def add_lease(self, keys, seconds):
        """Keeps values in place for so long (at most LEASE_SECONDS, which is also what 0 asks for) from now on, and for
        LEASE_SECONDS from each later read. A code for each key."""
        ask = [i for i, key in enumerate(keys) if key not in self._staged]
        codes = [MEMCACHE_UNMATCHED_STATE] * len(keys)
        if ask:
            lease = min(seconds or LEASE_SECONDS, LEASE_SECONDS)
            for i, there in zip(ask, self._client.exists_codes([keys[i] for i in ask], lease)):
                codes[i] = MEMCACHE_OK if there else MEMCACHE_UNMATCHED_KEY
        return codes

    def _reading(self):
        with self._reader_lock:
            if self._closed:
                raise pymmc.ClosedError(pymmc.Code.CLOSED, "the store is closed")
            if self._reader is None:
                self._reader = self._connect(lease=LEASE_SECONDS, location_cache=True)
            return self._reader

    def _add(self, key, size):
        number = FIRST_ENTRY + next(_counted) % ENTRIES
        while number in self._entries:
            number = FIRST_ENTRY + next(_counted) % ENTRIES
        entry = _Entry(number, key, size)
        self._entries[entry.number] = entry
        return entry

    def _add_readable(self, entry):
        before = self._readable.pop(entry.key, None)
        if before is not None:
            self._entries.pop(before.number, None)
        self._readable[entry.key] = entry
        if len(self._readable) > READABLE_ENTRIES:
            _, oldest = self._readable.popitem(last=False)
            self._entries.pop(oldest.number, None)

    def _stage(self, key, size):
        memory = self._spares.take(size)
        if memory is None:
            return MEMCACHE_NOT_ENOUGH_MEMORY
        entry = self._add(key, size)
        entry.memory = memory
        self._staged[key] = entry
        return entry.number << SHIFT

    def _drop_staged(self, entry):
        if self._staged.get(entry.key) is entry:
            del self._staged[entry.key]
        self._entries.pop(entry.number, None)
        entry.dropped = True
        self._free_unused(entry)

    def _free_unused(self, entry):
        if entry.copies == 0 and entry.memory is not None:
            self._spares.give_back(entry.memory)
            entry.memory = None

    def _finish(self, entry, put):
        entry.copies -= 1
        if entry.dropped:
            self._free_unused(entry)
        elif put:
            del self._staged[entry.key]
            entry.dropped = True
            self._add_readable(entry)
            self._free_unused(entry)
        else:
            self._drop_staged(entry)

    def _resolve(self, gva, length):
        """(entry, offset), or (None, 0) when no value has these bytes."""
        entry = self._entries.get(gva >> SHIFT)
        offset = gva & ((1 << SHIFT) - 1)
        if entry is None or offset + length > entry.size:
            return None, 0
        return entry, offset

    def _write(self, gvas, rows, sizes):
        moves = []
        held = []
        with self._lock:
            code = MEMCACHE_OK
            for gva, pointers, lengths in zip(gvas, rows, sizes):
                entry, offset = self._resolve(gva, sum(lengths))
                if entry is None:
                    code = MEMCACHE_INVALID_PARAM
                elif entry.memory is None or entry.dropped:
                    code = MEMCACHE_WRITE_READABLE_BLOB
                if code != MEMCACHE_OK:
                    break
                entry.copies += 1
                held.append(entry)
                at = entry.memory.address + offset
                for pointer, length in zip(pointers, lengths):
                    moves.append((at, pointer, length))
                    at += length
        try:
            if code == MEMCACHE_OK:
                for to, pointer, length in moves:
                    move = _move_small if length <= KEEPS_GIL_BYTES else ctypes.memmove
                    move(to, pointer, length)
        finally:
            with self._lock:
                for entry in held:
                    entry.copies -= 1
                    if entry.dropped:
                        self._free_unused(entry)
        return code

    def _read(self, gvas, rows, sizes):
        keys, offsets = [], []
        with self._lock:
            for gva, lengths in zip(gvas, sizes):
                entry, offset = self._resolve(gva, sum(lengths))
                if entry is None:
                    return MEMCACHE_INVALID_PARAM
                if entry.memory is not None:
                    return MEMCACHE_UNMATCHED_STATE
                keys.append(entry.key)
                offsets.append(offset)
        codes, got = self._reading().get_ranges(keys, offsets, rows, sizes)
        for code, read, lengths in zip(codes, got, sizes):
            if code != pymmc.Code.OK:
                return memcache_code(code)
            if read != sum(lengths):
                return MEMCACHE_UNMATCHED_STATE
        return MEMCACHE_OK


def _staging_limit():
    text = os.environ.get("MMC_COMPAT_STAGING_SIZE")
    try:
        return pymmc.parse_size(text) if text else DEFAULT_STAGING
    except pymmc.MmcError as error:
        raise type(error)(error.code, f"MMC_COMPAT_STAGING_SIZE: {error.message}") from error
