"""Reading and asking: the get, exist and query calls of MooncakeDistributedStore."""
import operator

import pymmc
from mmc_compat import codes

from . import _buffers, _values
from ._base import ASK_SECONDS

_INVALID = codes.MOONCAKE_INVALID_PARAMS
_Code = pymmc.Code
_USUAL_BYTES = 16 << 20  # of a value whose size is not known yet


def _same_length(first, *others):
    if any(len(other) != len(first) for other in others):
        raise ValueError("lists of unequal length")


class Reads:
    """Needs StoreBase."""

    def get(self, key, /):
        """The value; b"" when there is none, on an error, or before setup."""
        return self.get_batch([key])[0]

    def get_batch(self, keys):
        """The values, b"" where there is none."""
        client = self._client
        if client is None or len(keys) == 0:
            return [b""]
        try:
            return self._in_batches(len(keys), lambda part: [value or b"" for value in client.get(
                keys[part], timeout=self._get_timeout(len(keys) * _USUAL_BYTES))])
        except pymmc.MmcError:
            return [b""] * len(keys)

    def get_buffer(self, key, /):
        """The value as a BufferHandle, or None."""
        return self.batch_get_buffer([key])[0]

    def batch_get_buffer(self, keys, /):
        """The values as BufferHandles, None where there is none."""
        client = self._client
        if client is None or len(keys) == 0:
            return [None] * len(keys)
        return self._in_batches(len(keys), lambda part: self._buffers(client, keys[part]))

    def _buffers(self, client, keys):
        try:
            sizes = client.sizes(keys)
            handles = [_buffers.BufferHandle(size) if size > 0 else None for size in sizes]
            there = [n for n, handle in enumerate(handles) if handle is not None]
            if there:
                failed, _ = client.get_ptrs([keys[n] for n in there], [[handles[n].ptr()] for n in there],
                                            [[sizes[n]] for n in there], timeout=self._get_timeout(
                                                sum(sizes[n] for n in there)))
                for n, code in zip(there, failed):
                    if code != _Code.OK:
                        handles[n] = None
            return handles
        except pymmc.MmcError:
            return [None] * len(keys)

    def get_into(self, key, buffer_ptr, size):
        """Bytes read, or a negative code: the value must fit."""
        return self.batch_get_into([key], [buffer_ptr], [size])[0]

    def batch_get_into(self, keys, buffer_ptrs, sizes):
        """Bytes read, or a negative code, per key."""
        return self.batch_get_into_multi_buffers(keys, [[ptr] for ptr in buffer_ptrs], [[size] for size in sizes])

    def batch_get_into_multi_buffers(self, keys, all_buffer_ptrs, all_sizes, prefer_alloc_in_same_node=False):
        """Each value into its pieces, in order: bytes read, or a negative code, per key. A value may be shorter than
        its pieces together."""
        del prefer_alloc_in_same_node
        client = self._client
        if client is None:
            return [_INVALID] * len(keys)
        return self._for_usable(keys, all_buffer_ptrs, all_sizes, lambda k, p, s: self._in_batches(
            len(k), lambda part: self._into(client, k[part], p[part], s[part])))

    def _into(self, client, keys, pointers, sizes):
        try:
            failed, read = client.get_ptrs(keys, pointers, sizes, timeout=self._get_timeout(sum(map(sum, sizes))))
            results = [got if code == _Code.OK else codes.mooncake_code(code) for code, got in zip(failed, read)]
            other_size = [n for n, code in enumerate(failed) if code == _Code.SIZE_MISMATCH]
            if other_size:
                self._into_larger(client, keys, pointers, sizes, other_size, results)
            return results
        except pymmc.MmcError as error:
            return [codes.mooncake_code(error.code)] * len(keys)

    def _into_larger(self, client, keys, pointers, sizes, indexes, results):
        """The keys at `indexes` once more, where the pieces are larger than the value."""
        values = client.sizes([keys[n] for n in indexes])
        fitting = [n for n, value in zip(indexes, values) if 0 < value <= sum(sizes[n])]
        if not fitting:
            return
        failed, read = client.get_ptrs([keys[n] for n in fitting], [pointers[n] for n in fitting],
                                       [sizes[n] for n in fitting], True,
                                       timeout=self._get_timeout(sum(sum(sizes[n]) for n in fitting)))
        for n, code, got in zip(fitting, failed, read):
            results[n] = got if code == _Code.OK else codes.mooncake_code(code)

    def get_into_ranges(self, buffer_ptrs, all_keys, all_dst_offsets, all_src_offsets, all_sizes):
        """Ranges of values into buffers: lists of [buffer][key][range] in; bytes read, or a negative code, in the same
        shape out. A range ends where the value ends."""
        flat = []  # (key, source, address, size)
        shape = []
        try:
            columns = (buffer_ptrs, all_keys, all_dst_offsets, all_src_offsets, all_sizes)
            _same_length(*columns)
            for base, keys, destinations, sources, sizes in zip(*columns):
                _same_length(keys, destinations, sources, sizes)
                base = operator.index(base)
                shape.append([len(of_key) for of_key in sizes])
                for key, to, start, size in zip(keys, destinations, sources, sizes):
                    _same_length(to, start, size)
                    # An address of 0 is refused for that range alone.
                    flat += [(key, s, base + operator.index(d) if d >= 0 else 0, n) for d, s, n in zip(to, start, size)]
        except ValueError:
            return [[[_INVALID] * len(of_key) for of_key in of_buffer] for of_buffer in all_sizes]
        results = iter(self._ranges(*map(list, zip(*flat))) if flat else ())
        return [[[next(results) for _ in range(count)] for count in of_buffer] for of_buffer in shape]

    def _ranges(self, keys, offsets, addresses, sizes):
        """Bytes read or a negative code per range."""
        client = self._client
        if client is None:
            return [_INVALID] * len(keys)

        def some(k, o, p, s):
            try:
                failed, read = client.get_ranges(k, o, p, s, timeout=self._get_timeout(sum(map(sum, s))))
                return [n if code == _Code.OK else codes.mooncake_code(code) for code, n in zip(failed, read)]
            except pymmc.MmcError as error:
                return [codes.mooncake_code(error.code)] * len(k)

        usable = [offset >= 0 and size > 0 for offset, size in zip(offsets, sizes)]
        picked = [n for n, fine in enumerate(usable) if fine]
        got = iter(self._in_batches(len(picked), lambda part: some(
            [keys[n] for n in picked[part]], [offsets[n] for n in picked[part]],
            [[addresses[n]] for n in picked[part]], [[sizes[n]] for n in picked[part]])))
        return [next(got) if fine else _INVALID for fine in usable]

    def is_exist(self, key, /):
        """1 or 0. What exists is leased: it stays readable for the master's default_kv_lease_ttl."""
        return self.batch_is_exist([key])[0]

    def batch_is_exist(self, keys):
        """1 or 0 per key; 0 as well when the master cannot be reached, or before setup."""
        client = self._client
        if client is None:
            return [0] * len(keys)
        return self._in_batches(len(keys), lambda part: self._exist(client, keys[part]))

    def _exist(self, client, keys):
        if len(keys) == 0:
            return []
        try:
            return client.exists_codes(keys, 0, ASK_SECONDS)  # 0: the master's default_kv_lease_ttl
        except pymmc.MmcError:
            return [0] * len(keys)

    def get_size(self, key, /):
        """Bytes, or a negative code."""
        client = self._client
        if client is None:
            return _INVALID
        try:
            size = client.sizes([key])[0]
            return size if size > 0 else codes.mooncake_code(-size)
        except pymmc.MmcError as error:
            return codes.mooncake_code(error.code)

    def get_replica_desc(self, key):
        """The ReplicaDescriptors; [] when there is no such key."""
        return self.batch_get_replica_desc([key]).get(key, [])

    def batch_get_replica_desc(self, keys):
        """{key: [ReplicaDescriptor]} of the keys that are there."""
        found = zip(keys, self._stat(keys))
        return {key: [_values.ReplicaDescriptor(info.size, replica.node) for replica in info.replicas]
                for key, info in found if info is not None}

    def _stat(self, keys):
        """ObjectInfo per key, None where there is none."""
        client = self._client
        if client is None:
            return [None] * len(keys)
        try:
            return self._in_batches(len(keys), lambda part: [info if info.ok else None
                                                             for info in client.stat(keys[part])])
        except pymmc.MmcError:
            return [None] * len(keys)

    def get_offload_rpc_read_count(self):
        """0: nothing is offloaded."""
        return 0
