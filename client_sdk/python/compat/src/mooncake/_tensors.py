"""Tensors as values: a header, then the tensor's bytes. torch is imported when a call needs it."""
import ctypes
import logging
import math
import struct

from mmc_compat import codes

_log = logging.getLogger("mooncake.store")

_INVALID = codes.MOONCAKE_INVALID_PARAMS
_UNSUPPORTED = codes.MOONCAKE_NOT_SUPPORTED
_MAGIC = 0x4D4F4F4E
_MAX_DIMENSIONS = 8
# magic, number of the element type, dimensions, 0; the shape; bytes of data, 0
_HEADER = struct.Struct(f"<IiiI{_MAX_DIMENSIONS}qQQ")
HEADER_BYTES = 128
_TYPES = ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool",
          "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def _torch():
    import torch
    return torch


def header(tensor):
    """The header of a tensor. ValueError for what cannot be stored."""
    name = str(tensor.dtype).rpartition(".")[2]
    if name not in _TYPES or tensor.dim() > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {name} with {tensor.dim()} dimensions cannot be stored")
    shape = list(tensor.shape) + [0] * (_MAX_DIMENSIONS - tensor.dim())
    packed = _HEADER.pack(_MAGIC, _TYPES.index(name), tensor.dim(), 0, *shape,
                          tensor.numel() * tensor.element_size(), 0)
    return packed.ljust(HEADER_BYTES, b"\0")


def parse_header(data):
    """(torch type, shape, bytes of data). ValueError when it is none."""
    if len(data) < HEADER_BYTES:
        raise ValueError("too short for a tensor")
    magic, number, dimensions, _, *rest = _HEADER.unpack_from(data)
    shape, size = rest[:_MAX_DIMENSIONS], rest[_MAX_DIMENSIONS]
    if magic != _MAGIC or not 0 <= number < len(_TYPES) or not 0 <= dimensions <= _MAX_DIMENSIONS:
        raise ValueError("no tensor")
    if min(shape) < 0 or size != len(data) - HEADER_BYTES:
        raise ValueError("the tensor's header does not fit its bytes")
    kind = getattr(_torch(), _TYPES[number], None)
    if kind is None:
        raise ValueError(f"this torch has no {_TYPES[number]}")
    if math.prod(shape[:dimensions]) * _torch().empty(0, dtype=kind).element_size() != size:
        raise ValueError("the tensor's shape does not fit its bytes")
    return kind, shape[:dimensions], size


def from_bytes(data):
    """A tensor over these bytes (header and data; not copied)."""
    kind, shape, _ = parse_header(data)
    torch = _torch()
    if len(data) == HEADER_BYTES:
        return torch.empty(shape, dtype=kind)
    flat = torch.frombuffer(data, dtype=torch.uint8, offset=HEADER_BYTES)
    return flat.view(kind).reshape(shape)


def _is_tensor(value):
    return hasattr(value, "data_ptr") and hasattr(value, "element_size")


class Tensors:
    """Needs StoreBase, Reads and Writes."""

    def put_tensor(self, key, tensor):
        """0 or a code."""
        return self.pub_tensor(key, tensor)

    def pub_tensor(self, key, tensor, config=None):
        """0 or a code."""
        return self._store_tensor(key, tensor, config, self.batch_put_from_multi_buffers)

    def upsert_tensor(self, key, tensor):
        """The same over an older value."""
        return self.upsert_pub_tensor(key, tensor)

    def upsert_pub_tensor(self, key, tensor, config=None):
        """The same over an older value."""

        def upsert(keys, pointers, sizes, config):
            parts = [(ctypes.c_char * size).from_address(pointer) for pointer, size in zip(pointers[0], sizes[0])]
            return [self.upsert_parts(keys[0], *(memoryview(part).cast("B") for part in parts), config=config)]

        return self._store_tensor(key, tensor, config, upsert)

    def _store_tensor(self, key, tensor, config, store):
        if self._client is None or not _is_tensor(tensor):
            return _INVALID
        try:
            head = ctypes.create_string_buffer(header(tensor), HEADER_BYTES)
            data = tensor.detach().cpu().contiguous()
        except (ValueError, RuntimeError) as wrong:  # RuntimeError: of torch, for sparse and meta tensors
            _log.error("put of a tensor: %s", wrong)
            return _INVALID
        size = data.numel() * data.element_size()
        pointers, sizes = [ctypes.addressof(head)], [HEADER_BYTES]
        if size:
            pointers.append(data.data_ptr())
            sizes.append(size)
        return store([key], [pointers], [sizes], config)[0]

    def batch_put_tensor(self, keys, tensors_list):
        """A code per key."""
        return self.batch_pub_tensor(keys, tensors_list)

    def batch_pub_tensor(self, keys, tensors_list, config=None):
        """A code per key."""
        return self._each(keys, tensors_list, lambda key, tensor: self.pub_tensor(key, tensor, config))

    def batch_upsert_tensor(self, keys, tensors_list):
        """A code per key."""
        return self.batch_upsert_pub_tensor(keys, tensors_list)

    def batch_upsert_pub_tensor(self, keys, tensors_list, config=None):
        """A code per key."""
        return self._each(keys, tensors_list, lambda key, tensor: self.upsert_pub_tensor(key, tensor, config))

    def _each(self, keys, others, call):
        if len(keys) != len(others):
            return [_INVALID] * len(keys)
        return [call(key, other) for key, other in zip(keys, others)]

    def get_tensor(self, key):
        """The tensor, on the CPU, or None."""
        return self.batch_get_tensor([key])[0]

    def batch_get_tensor(self, keys):
        """Tensors, None where there is none."""
        return [self._tensor_of(handle) for handle in self.batch_get_buffer(list(keys))]

    def _tensor_of(self, handle):
        if handle is None:
            return None
        try:
            return from_bytes(handle)
        except ValueError as wrong:
            _log.error("get of a tensor: %s", wrong)
            return None

    # Shards: `<key>_tp_<rank>`.

    def put_tensor_with_tp(self, key, tensor, tp_rank=0, tp_size=1, split_dim=0):
        """Stores all shards of the tensor: 0 or the first code that is not 0."""
        return self.pub_tensor_with_tp(key, tensor, None, tp_rank, tp_size, split_dim)

    def pub_tensor_with_tp(self, key, tensor, config=None, tp_rank=0, tp_size=1, split_dim=0):
        """Stores all shards of the tensor: 0 or the first code that is not 0."""
        del tp_rank
        if tp_size <= 1:
            return self.pub_tensor(key, tensor, config)
        if not _is_tensor(tensor) or not -tensor.dim() <= split_dim < tensor.dim():
            return _INVALID
        shards = tensor.chunk(tp_size, split_dim)
        if len(shards) != tp_size:
            return _INVALID
        done = [self.pub_tensor(f"{key}_tp_{rank}", shard, config) for rank, shard in enumerate(shards)]
        return next((code for code in done if code != 0), 0)

    def batch_put_tensor_with_tp(self, base_keys, tensors_list, tp_rank=0, tp_size=1, split_dim=0):
        """A code per key."""
        return self.batch_pub_tensor_with_tp(base_keys, tensors_list, None, tp_rank, tp_size, split_dim)

    def batch_pub_tensor_with_tp(self, base_keys, tensors_list, config=None, tp_rank=0, tp_size=1, split_dim=0):
        """A code per key."""
        return self._each(base_keys, tensors_list, lambda key, tensor: self.pub_tensor_with_tp(
            key, tensor, config, tp_rank, tp_size, split_dim))

    def get_tensor_with_tp(self, key, tp_rank=0, tp_size=1, split_dim=0):
        """A rank's shard, or None."""
        del split_dim
        return self.batch_get_tensor_with_tp([key], tp_rank, tp_size)[0]

    def batch_get_tensor_with_tp(self, base_keys, tp_rank=0, tp_size=1):
        """A rank's shards, None where there is none."""
        return self.batch_get_tensor(self._shard_keys(base_keys, tp_rank, tp_size))

    def _shard_keys(self, base_keys, tp_rank, tp_size):
        return list(base_keys) if tp_size <= 1 else [f"{key}_tp_{tp_rank}" for key in base_keys]

    # In the caller's memory: header and data behind each other.

    def get_tensor_into(self, key, buffer_ptr, size):
        """A tensor over the caller's memory, or None."""
        return self.batch_get_tensor_into([key], [buffer_ptr], [size])[0]

    def batch_get_tensor_into(self, keys, buffer_ptrs, sizes):
        """Tensors over the caller's memory, None where there is none."""
        answers = []
        for read, pointer in zip(self.batch_get_into(list(keys), buffer_ptrs, sizes), buffer_ptrs):
            memory = (ctypes.c_char * read).from_address(pointer) if read > 0 else None
            answers.append(self._tensor_of(memory))
        return answers

    def get_tensor_with_tp_into(self, key, buffer_ptr, size, tp_rank=0, tp_size=1, split_dim=0):
        """A rank's shard over the caller's memory, or None."""
        del split_dim
        return self.batch_get_tensor_with_tp_into([key], [buffer_ptr], [size], tp_rank, tp_size)[0]

    def batch_get_tensor_with_tp_into(self, base_keys, buffer_ptrs, sizes, tp_rank=0, tp_size=1):
        """A rank's shards over the caller's memory, None where there is none."""
        return self.batch_get_tensor_into(self._shard_keys(base_keys, tp_rank, tp_size), buffer_ptrs, sizes)

    def put_tensor_from(self, key, buffer_ptr, size):
        """0 or a code."""
        return self.batch_put_tensor_from([key], [buffer_ptr], [size])[0]

    def batch_put_tensor_from(self, keys, buffer_ptrs, sizes):
        """A code per key."""
        return self.batch_put_from(keys, buffer_ptrs, sizes)

    def put_tensor_with_tp_from(self, key, buffer_ptr, size, tp_rank=0, tp_size=1, split_dim=0):
        """One rank's shard: 0 or a code."""
        return self.batch_put_tensor_with_tp_from([key], [buffer_ptr], [size], tp_rank, tp_size, split_dim)[0]

    def batch_put_tensor_with_tp_from(self, base_keys, buffer_ptrs, sizes, tp_rank=0, tp_size=1, split_dim=0):
        """One rank's shards: a code per key."""
        del split_dim
        return self.batch_put_from(self._shard_keys(base_keys, tp_rank, tp_size), buffer_ptrs, sizes)

    def upsert_tensor_from(self, key, buffer_ptr, size):
        """0 or a code."""
        return self.upsert_from(key, buffer_ptr, size)

    def batch_upsert_tensor_from(self, keys, buffer_ptrs, sizes):
        """A code per key."""
        return self.batch_upsert_from(keys, buffer_ptrs, sizes)

    def get_tensor_into_cuda(self, key, tensor):
        """Bytes of data copied into the tensor, or a negative code."""
        value = self.get_tensor(key)
        if value is None:
            return codes.MOONCAKE_OBJECT_NOT_FOUND
        if value.dtype != tensor.dtype or value.shape != tensor.shape:
            return _INVALID
        tensor.copy_(value)
        return value.numel() * value.element_size()

    def batch_get_tensor_into_cuda(self, keys, tensors_list):
        """The same per key."""
        return self._each(keys, tensors_list, self.get_tensor_into_cuda)

    # With a parallelism only the plain case: none given.

    def get_tensor_with_parallelism(self, key, target=None):
        """The tensor as it was stored, or None; None as well for any target."""
        return self.get_tensor(key) if target is None else None

    def get_tensor_with_parallelism_into(self, key, buffer_ptr, size, target=None):
        """The same over the caller's memory."""
        return self.get_tensor_into(key, buffer_ptr, size) if target is None else None

    def batch_get_tensor_with_parallelism(self, keys, targets=None):
        """The same for several keys."""
        return self.batch_get_tensor(keys) if targets is None else [None] * len(keys)

    def batch_get_tensor_with_parallelism_into(self, keys, buffer_ptrs, sizes, targets=None):
        """The same for several keys."""
        return self.batch_get_tensor_into(keys, buffer_ptrs, sizes) if targets is None else [None] * len(keys)

    def put_tensor_with_parallelism(self, key, tensor, parallelism=None, config=None, writer_partition=None):
        """0 or a code; NOT_SUPPORTED with a parallelism."""
        plain = parallelism is None and writer_partition is None
        return self.pub_tensor(key, tensor, config) if plain else _UNSUPPORTED

    def upsert_tensor_with_parallelism(self, key, tensor, parallelism=None, config=None, writer_partition=None):
        """0 or a code; NOT_SUPPORTED with a parallelism."""
        plain = parallelism is None and writer_partition is None
        return self.upsert_pub_tensor(key, tensor, config) if plain else _UNSUPPORTED

    def put_tensor_with_parallelism_from(self, key, buffer_ptr, size, parallelism=None, config=None,
                                         writer_partition=None):
        """0 or a code; NOT_SUPPORTED with a parallelism."""
        plain = parallelism is None and writer_partition is None
        return self.put_from(key, buffer_ptr, size, config) if plain else _UNSUPPORTED

    def upsert_tensor_with_parallelism_from(self, key, buffer_ptr, size, parallelism=None, config=None,
                                            writer_partition=None):
        """0 or a code; NOT_SUPPORTED with a parallelism."""
        plain = parallelism is None and writer_partition is None
        return self.upsert_from(key, buffer_ptr, size, config) if plain else _UNSUPPORTED

    def batch_put_tensor_with_parallelism(self, keys, tensors_list, parallelisms=None, config=None,
                                          writer_partitions=None):
        """A code per key; NOT_SUPPORTED with parallelisms."""
        plain = parallelisms is None and writer_partitions is None
        return self.batch_pub_tensor(keys, tensors_list, config) if plain else [_UNSUPPORTED] * len(keys)

    def batch_upsert_tensor_with_parallelism(self, keys, tensors_list, parallelisms=None, config=None,
                                             writer_partitions=None):
        """A code per key; NOT_SUPPORTED with parallelisms."""
        plain = parallelisms is None and writer_partitions is None
        return self.batch_upsert_pub_tensor(keys, tensors_list, config) if plain else [_UNSUPPORTED] * len(keys)

    def batch_put_tensor_with_parallelism_from(self, keys, buffer_ptrs, sizes, parallelisms=None, config=None,
                                               writer_partitions=None):
        """A code per key; NOT_SUPPORTED with parallelisms."""
        plain = parallelisms is None and writer_partitions is None
        return self.batch_put_from(keys, buffer_ptrs, sizes, config) if plain else [_UNSUPPORTED] * len(keys)

    def batch_upsert_tensor_with_parallelism_from(self, keys, buffer_ptrs, sizes, parallelisms=None, config=None,
                                                  writer_partitions=None):
        """A code per key; NOT_SUPPORTED with parallelisms."""
        plain = parallelisms is None and writer_partitions is None
        return self.batch_upsert_from(keys, buffer_ptrs, sizes, config) if plain else [_UNSUPPORTED] * len(keys)

    # Files.

    def save_tensor_to_safetensor(self, key, file_name=None):
        """Writes the stored tensor to a file (default: `<key>.safetensors`): 0, OBJECT_NOT_FOUND or FILE_WRITE_FAIL."""
        tensor = self.get_tensor(key)
        if tensor is None:
            return codes.MOONCAKE_OBJECT_NOT_FOUND
        from safetensors import SafetensorError
        from safetensors.torch import save_file
        try:
            save_file({key: tensor.contiguous()}, file_name or f"{key}.safetensors")
        except (OSError, SafetensorError) as error:
            _log.error("save_tensor_to_safetensor: %s", error)
            return codes.MOONCAKE_FILE_WRITE_FAIL
        return 0

    def load_tensor_from_safetensor(self, key=None, file_name=None):
        """Stores the tensor `key` of a file (None: each under its own name): 0 or a code."""
        if not file_name:
            return _INVALID
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        try:
            tensors = load_file(file_name)
        except FileNotFoundError:
            return codes.MOONCAKE_FILE_NOT_FOUND
        except (OSError, SafetensorError) as error:
            _log.error("load_tensor_from_safetensor: %s", error)
            return codes.MOONCAKE_FILE_READ_FAIL
        if key is not None and key not in tensors and len(tensors) == 1:
            tensors = {key: next(iter(tensors.values()))}
        if key is not None and key not in tensors:
            return codes.MOONCAKE_OBJECT_NOT_FOUND
        done = [self.put_tensor(name, tensor) for name, tensor in tensors.items() if key in (None, name)]
        return next((code for code in done if code != 0), 0)
