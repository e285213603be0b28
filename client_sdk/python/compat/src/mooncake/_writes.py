"""Writing and deleting: the put, upsert and remove calls of MooncakeDistributedStore."""
import re

import pymmc
from mmc_compat import codes

from . import _memory, _patterns
from ._base import MAX_VALUE
from ._values import Placement, SoftPinAction, checked

_INVALID = codes.MOONCAKE_INVALID_PARAMS
_Code = pymmc.Code
_UPSERT_TRIES = 4
_PAGE = 1000


def _first_error(results):
    return next((code for code in results if code != 0), 0)


_exactly = codes.mooncake_code
_TAKEN = (_exactly(_Code.EXISTS), _exactly(_Code.BEING_WRITTEN))


def _flat_bytes(part):
    view = memoryview(part)
    if view.ndim != 1 or view.itemsize != 1 or not view.c_contiguous:
        raise RuntimeError("every part is a 1-D contiguous bytes-like object")
    return view.cast("B")


class Writes:
    """Needs StoreBase and Reads."""

    def put(self, key, value, config=None):
        """0, also when the key is there already (the old value stays); NO_AVAILABLE_HANDLE when the pool is full."""
        return self._put_pieces([key], [[memoryview(value)]], config)[0]

    def put_parts(self, key, *parts, config=None):
        """One value of several parts. Nothing is stored of 0 bytes."""
        pieces = [_flat_bytes(part) for part in parts]
        if self._client is not None and not any(piece.nbytes for piece in pieces):
            return 0
        return self._put_pieces([key], [pieces], config)[0]

    def put_batch(self, keys, values, config=None):
        """0, or the first key's code that is not 0."""
        if len(keys) != len(values):
            return _INVALID
        return _first_error(self._put_pieces(keys, [[memoryview(value)] for value in values], config))

    def put_from(self, key, buffer_ptr, size, config=None):
        """The bytes at an address. Nothing is stored of 0 bytes."""
        return self.batch_put_from([key], [buffer_ptr], [size], config)[0]

    def put_from_with_metadata(self, key, buffer_ptr, metadata_buffer_ptr, size, metadata_size, config=None):
        """The metadata, then the data, as one value."""
        return self.batch_put_from_multi_buffers([key], [[metadata_buffer_ptr, buffer_ptr]],
                                                 [[metadata_size, size]], config)[0]

    def batch_put_from(self, keys, buffer_ptrs, sizes, config=None):
        """A code per key."""
        return self.batch_put_from_multi_buffers(keys, [[ptr] for ptr in buffer_ptrs], [[size] for size in sizes],
                                                 config)

    def batch_put_from_multi_buffers(self, keys, all_buffer_ptrs, all_sizes, config=None):
        """Each value from its pieces, in order: a code per key."""
        client = self._client
        if client is None:
            return [_INVALID] * len(keys)
        try:
            placement = Placement(config, keys)
        except ValueError:
            return [_INVALID] * len(keys)
        return self._for_usable(keys, all_buffer_ptrs, all_sizes, lambda k, p, s: self._in_batches(
            len(k), lambda part: self._put_pointers(client, k[part], p[part], s[part], placement)))

    def batch_put_from_ascend(self, key, addrs, sizes, config=None):
        """The older form for one key: [code]."""
        return self.batch_put_from_multi_buffers([key], [addrs], [sizes], config)

    def batch_get_into_ascend(self, key, addrs, sizes):
        """The older form for one key: [bytes or a negative code]."""
        return self.batch_get_into_multi_buffers([key], [addrs], [sizes])

    def _put_pointers(self, client, keys, pointers, sizes, placement, answer=codes.mooncake_put_code):
        empty = [n for n, of_key in enumerate(sizes) if not any(of_key)]
        if empty:
            skip = set(empty)
            rest = [n for n in range(len(keys)) if n not in skip]
            columns = ([column[n] for n in rest] for column in (keys, pointers, sizes))
            done = iter(self._put_pointers(client, *columns, placement, answer) if rest else ())
            return [0 if n in skip else next(done) for n in range(len(keys))]
        timeout = self._put_timeout(sum(map(sum, sizes)))

        def put(which, **options):
            picked = [[column[n] for n in which] for column in (keys, pointers, sizes)]
            return client.put_ptrs(*picked, timeout=timeout, **options)

        return self._put(keys, put, placement, answer)

    def _put_pieces(self, keys, values, config, answer=codes.mooncake_put_code):
        client = self._client
        if client is None:
            return [_INVALID] * len(keys)
        try:
            placement = Placement(config, keys)
        except ValueError:
            return [_INVALID] * len(keys)
        return self._in_batches(len(keys), lambda part: self._put_some(client, keys[part], values[part], placement,
                                                                       answer))

    def _put_some(self, client, keys, values, placement, answer):
        timeout = self._put_timeout(sum(piece.nbytes for pieces in values for piece in pieces))

        def put(which, **options):
            done = client.put([(keys[n], values[n]) for n in which], timeout=timeout, **options)
            return [status.code for status in done]

        return self._put(keys, put, placement, answer)

    def _put(self, keys, put, placement, answer):
        """put(indexes, **options) -> codes of pymmc. Where there are too few nodes, fewer replicas are made."""
        replicas = placement.replicas
        try:
            results = list(put(range(len(keys)), replicas=replicas, **placement.options_of(keys)))
            while replicas > 1 and _Code.NO_NODE in results:
                replicas -= 1
                again = [n for n, code in enumerate(results) if code == _Code.NO_NODE]
                options = placement.options_of([keys[n] for n in again])
                for n, code in zip(again, put(again, replicas=replicas, **options)):
                    results[n] = code
        except pymmc.MmcError as error:
            return [codes.mooncake_code(error.code)] * len(keys)
        return [answer(code) for code in results]

    # Values never change: an upsert removes the old one, and then puts.

    def upsert(self, key, value, config=None):
        """Puts a value, over an older one. 0 or a code."""
        return self._upsert_pieces(key, [memoryview(value)], config)

    def upsert_parts(self, key, *parts, config=None):
        """The same of several parts."""
        pieces = [_flat_bytes(part) for part in parts]
        if self._client is not None and not any(piece.nbytes for piece in pieces):
            return 0
        return self._upsert_pieces(key, pieces, config)

    def upsert_batch(self, keys, values, config=None):
        """0, or the first key's code that is not 0."""
        if len(keys) != len(values):
            return _INVALID
        return _first_error([self.upsert(key, value, checked(config).of_key(n, len(keys)))
                             for n, (key, value) in enumerate(zip(keys, values))])

    def upsert_from(self, key, buffer_ptr, size, config=None):
        """The bytes at an address, over an older value."""
        client = self._client
        if client is None or not 0 <= size <= MAX_VALUE or not _memory.is_host_memory([buffer_ptr], [size]):
            return _INVALID
        if size == 0:
            return 0
        try:
            placement = Placement(config, [key])
        except ValueError:
            return _INVALID
        return self._upsert(key, config, lambda: self._put_pointers(client, [key], [[buffer_ptr]], [[size]], placement,
                                                                    _exactly))

    def batch_upsert_from(self, keys, buffer_ptrs, sizes, config=None):
        """A code per key."""
        if not len(keys) == len(buffer_ptrs) == len(sizes):
            return [_INVALID] * len(keys)
        return [self.upsert_from(key, ptr, size, checked(config).of_key(n, len(keys)))
                for n, (key, ptr, size) in enumerate(zip(keys, buffer_ptrs, sizes))]

    def _upsert_pieces(self, key, pieces, config):
        # What cannot be stored must not cost the old value.
        if not all(piece.c_contiguous for piece in pieces):
            return _INVALID
        if not 0 < sum(piece.nbytes for piece in pieces) <= MAX_VALUE:
            return _INVALID
        try:
            Placement(config, [key])
        except ValueError:
            return _INVALID
        return self._upsert(key, config, lambda: self._put_pieces([key], [pieces], config, _exactly))

    def _upsert(self, key, config, put):
        client = self._client
        if client is None:
            return _INVALID
        config = checked(config)
        if config.soft_pin_ttl_ms is not None and config.soft_pin_action != SoftPinAction.ENABLE:
            return _INVALID
        for _ in range(_UPSERT_TRIES):
            try:
                client.remove_codes([key])
            except pymmc.MmcError as error:
                return codes.mooncake_code(error.code)
            code = put()[0]
            if code not in _TAKEN:  # else another writer was between our removal and our put
                return code
        return code

    def remove(self, key, force=False):
        """0, OBJECT_NOT_FOUND, or OBJECT_HAS_LEASE for what was read just now (unless `force`)."""
        return self.batch_remove([key], force)[0]

    def batch_remove(self, keys, force=False):
        """A code per key."""
        client = self._client
        if client is None:
            return [_INVALID] * len(keys)
        return self._in_batches(len(keys), lambda part: self._remove(client, keys[part], force))

    def _remove(self, client, keys, force):
        try:
            leased = [False] * len(keys)
            if not force:
                leased = [info.ok and info.lease_left > 0 for info in client.stat(keys)]
            free = [key for key, held in zip(keys, leased) if not held]
            done = iter(client.remove_codes(free) if free else ())
            return [codes.MOONCAKE_OBJECT_HAS_LEASE if held else codes.mooncake_code(next(done)) for held in leased]
        except pymmc.MmcError as error:
            return [codes.mooncake_code(error.code)] * len(keys)

    def remove_by_regex(self, regex_pattern, force=False):
        """Removes the keys in which the pattern is found: how many, or INVALID_PARAMS for a bad pattern."""
        if self._client is None:
            return _INVALID
        if isinstance(regex_pattern, bytes):
            regex_pattern = regex_pattern.decode("utf-8", "replace")
        try:
            pattern = re.compile(regex_pattern, re.ASCII)
        except (re.error, TypeError, ValueError, OverflowError, RecursionError):
            return _INVALID
        keys, prefix = _patterns.candidates(regex_pattern)
        return self._remove_some(keys, prefix, pattern.search, force)

    def remove_all(self, force=False):
        """Removes everything, but not what was read just now (unless `force`): how many."""
        client = self._client
        if client is None:
            return _INVALID
        if not force:
            return self._remove_some(None, "", lambda key: True, False)
        try:
            return client.remove_all()
        except pymmc.MmcError as error:
            return codes.mooncake_code(error.code)

    def _remove_some(self, keys, prefix, wanted, force):
        client = self._client
        try:
            if keys is None:
                keys = [key for key, _ in client.scan(prefix, page=_PAGE) if isinstance(key, str) and wanted(key)]
            else:
                keys = list(dict.fromkeys(key for key in keys if key and wanted(key)))
        except pymmc.MmcError as error:
            return codes.mooncake_code(error.code)
        return sum(code == 0 for code in self.batch_remove(keys, force))

    def batch_replica_clear(self, keys, segment_name=""):
        """Removes values that nobody reads, with a segment name: those that lie there alone. The keys of them."""
        picked = [key for key, info in zip(keys, self._stat(keys)) if info is not None and (
            not segment_name or all(replica.node == segment_name for replica in info.replicas))]
        return [key for key, code in zip(picked, self.batch_remove(picked)) if code == 0]

    def create_copy_task(self, key, targets):
        """NOT_SUPPORTED."""
        del key, targets
        return (0, 0), codes.MOONCAKE_NOT_SUPPORTED

    def create_move_task(self, key, source, target):
        """NOT_SUPPORTED."""
        del key, source, target
        return (0, 0), codes.MOONCAKE_NOT_SUPPORTED

    def query_task(self, task_id):
        """TASK_NOT_FOUND: there are no tasks."""
        del task_id
        return None, codes.MOONCAKE_TASK_NOT_FOUND
