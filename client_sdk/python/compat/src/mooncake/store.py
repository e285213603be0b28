"""MooncakeDistributedStore and its values, on top of pymmc. Every call may be made from any thread, lets other threads
run while it waits or copies, and answers a code, never an exception, for what one key meets."""
from mmc_compat import codes

from . import _base, _reads, _sessions, _tensors, _values, _writes
from ._buffers import (BufferHandle, BufferPool, MooncakeHostMemAllocator, RegisteredBufferLease,
                       RegisteredBufferLeaseView, RegisteredBufferPool)
from ._values import (Descriptor, DiskDescriptor, MemoryDescriptor, ObjectDataType, ParallelAxis, QueryTaskResponse,
                      ReadTarget, ReplicaDescriptor, ReplicaStatus, ReplicateConfig, SoftPinAction, TaskStatus,
                      TaskType, TensorParallelism)

__all__ = [
    "BufferHandle", "BufferPool", "Descriptor", "DiskDescriptor", "MemoryDescriptor", "MooncakeDistributedNoFRegister",
    "MooncakeDistributedStore", "MooncakeHostMemAllocator", "ObjectDataType", "ParallelAxis", "QueryTaskResponse",
    "ReadTarget",
    "RegisteredBufferLease", "RegisteredBufferLeaseView", "RegisteredBufferPool", "ReplicaDescriptor",
    "ReplicaStatus", "ReplicateConfig", "SoftPinAction", "TaskStatus", "TaskType", "TensorParallelism",
    "bind_to_numa_node", "get_alloc_func_addr", "get_free_func_addr",
]

# The members of these enums are names of the module, too.
for _enum in (_values.ObjectDataType, _values.ReplicaStatus, _values.TaskType, _values.TaskStatus):
    globals().update(_enum.__members__)


class MooncakeDistributedStore(_tensors.Tensors, _sessions.Sessions, _writes.Writes, _reads.Reads, _base.StoreBase):
    """A store of values by key. Before setup() and after close() every call answers an error."""


class MooncakeDistributedNoFRegister:
    """Disks over a fabric are not part of the pool: NOT_SUPPORTED."""

    def real_register(self, nqn, nsid, traddr, trsvcid, base, size, master_server_addr):
        """NOT_SUPPORTED."""
        del nqn, nsid, traddr, trsvcid, base, size, master_server_addr
        return codes.MOONCAKE_NOT_SUPPORTED

    def real_unregister_by_endpoint(self, nqn, nsid, traddr, trsvcid, master_server_addr):
        """NOT_SUPPORTED."""
        del nqn, nsid, traddr, trsvcid, master_server_addr
        return codes.MOONCAKE_NOT_SUPPORTED


def get_alloc_func_addr():
    """0: there is no allocator for others to call."""
    return 0


def get_free_func_addr():
    """0: there is no allocator for others to call."""
    return 0


def bind_to_numa_node(node):
    """Lets this process run on the CPUs of a NUMA node only. An unknown node changes nothing."""
    import os
    cpus = set()
    try:
        with open(f"/sys/devices/system/node/node{int(node)}/cpulist", encoding="ascii") as listed:
            for part in listed.read().strip().split(","):
                first, _, last = part.partition("-")
                cpus.update(range(int(first), int(last or first) + 1))
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError):
        return


def _serialize_tensor(tensor):
    """The bytes that put_tensor() stores."""
    import ctypes
    data = tensor.detach().cpu().contiguous()
    return _tensors.header(tensor) + ctypes.string_at(data.data_ptr(), data.numel() * data.element_size())


def _tensor_metadata_size():
    """Bytes of the header before a tensor's data."""
    return _tensors.HEADER_BYTES


def _deserialize_tensor(data):
    """A tensor of the bytes that put_tensor() stores."""
    return _tensors.from_bytes(bytearray(data))
