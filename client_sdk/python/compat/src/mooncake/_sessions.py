"""Values read and written in ranges over several calls: the session calls of MooncakeDistributedStore."""
import ctypes
import operator

from mmc_compat import codes

from . import _memory
from ._base import MAX_VALUE

_INVALID = codes.MOONCAKE_INVALID_PARAMS


class Sessions:
    """Needs StoreBase, Reads and Writes. A written value is gathered in this process, and put when its session ends."""

    def batch_get_session_start(self, keys):
        """Leases the values: 0 or OBJECT_NOT_FOUND per key."""
        if self._client is None:
            return [_INVALID] * len(keys)
        there = self.batch_is_exist(keys)
        with self._lock:
            for key, found in zip(keys, there):
                if found:
                    self._sessions[("get", key)] = None
        return [0 if found else codes.MOONCAKE_OBJECT_NOT_FOUND for found in there]

    def batch_get_into_multi_buffer_ranges(self, keys, all_buffer_ptrs, all_sizes, all_src_offsets):
        """Ranges of each value into buffers: bytes per key, or a negative code."""
        count = len(keys)
        if not count == len(all_buffer_ptrs) == len(all_sizes) == len(all_src_offsets):
            return [_INVALID] * count
        flat = []
        for key, pointers, sizes, offsets in zip(keys, all_buffer_ptrs, all_sizes, all_src_offsets):
            if len(pointers) == len(sizes) == len(offsets) and ("get", key) in self._sessions:
                flat += [(key, *one) for one in zip(offsets, pointers, sizes)]
        results = iter(self._ranges(*map(list, zip(*flat))) if flat else ())
        answers = []
        for key, pointers, sizes, offsets in zip(keys, all_buffer_ptrs, all_sizes, all_src_offsets):
            if not (len(pointers) == len(sizes) == len(offsets) and ("get", key) in self._sessions):
                answers.append(_INVALID)
                continue
            read = [next(results) for _ in sizes]
            answers.append(min(read) if any(n < 0 for n in read) else sum(read))
        return answers

    def batch_get_session_end(self, keys):
        """0, or INVALID_PARAMS if one of them had no session."""
        return self._end("get", keys)

    def batch_put_session_start(self, keys, sizes, config=None):
        """0 per key, or a code: INVALID_PARAMS for a size below 1 and for a session that is open already."""
        if self._client is None or len(sizes) != len(keys):
            return [_INVALID] * len(keys)
        sizes = [operator.index(size) for size in sizes]
        answers = []
        with self._lock:
            for key, size in zip(keys, sizes):
                if not 0 < size <= MAX_VALUE or ("put", key) in self._sessions:
                    answers.append(_INVALID)
                    continue
                self._sessions[("put", key)] = (bytearray(size), config)
                answers.append(0)
        return answers

    def batch_put_from_multi_buffer_ranges(self, keys, all_buffer_ptrs, all_sizes, all_dst_offsets):
        """Buffers to ranges of each value: bytes per key, or a negative code."""
        if not len(keys) == len(all_buffer_ptrs) == len(all_sizes) == len(all_dst_offsets):
            return [_INVALID] * len(keys)
        return [self._gather(*one) for one in zip(keys, all_buffer_ptrs, all_sizes, all_dst_offsets)]

    def _gather(self, key, pointers, sizes, offsets):
        session = self._sessions.get(("put", key))
        if session is None or not len(pointers) == len(sizes) == len(offsets):
            return _INVALID
        value = session[0]
        pointers, sizes, offsets = ([operator.index(n) for n in column] for column in (pointers, sizes, offsets))
        fits = all(size > 0 and 0 <= offset and offset + size <= len(value) for size, offset in zip(sizes, offsets))
        if not fits or not _memory.is_host_memory(pointers, sizes):
            return _INVALID
        base = ctypes.addressof(ctypes.c_char.from_buffer(value))
        for pointer, size, offset in zip(pointers, sizes, offsets):
            ctypes.memmove(base + offset, pointer, size)
        return sum(sizes)

    def batch_put_session_end(self, keys):
        """Puts the gathered values: 0 or a code per key."""
        answers = []
        for key in keys:
            with self._lock:
                session = self._sessions.pop(("put", key), None)
            answers.append(_INVALID if session is None else self.put(key, session[0], session[1]))
        return answers

    def batch_put_session_revoke(self, keys):
        """Throws the gathered values away: 0 or INVALID_PARAMS per key."""
        with self._lock:
            return [0 if self._sessions.pop(("put", key), None) is not None else _INVALID for key in keys]

    def _end(self, kind, keys):
        missing = object()
        with self._lock:
            ended = [self._sessions.pop((kind, key), missing) for key in keys]
        return _INVALID if any(one is missing for one in ended) else 0
