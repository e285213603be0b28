"""Raw memory of this process: allocation, and whether an address can be read here."""
import ctypes
import mmap
import operator
import threading

import pymmc

_PAGE = mmap.PAGESIZE


def is_host_memory(addresses, sizes):
    """Whether the first and last byte of every piece can be read by this process: device memory cannot.

    True as well when the system does not allow to ask. Empty pieces are not asked about.
    """
    pieces = [(address, size) for address, size in zip(addresses, sizes) if size]
    if any(address <= 0 or size < 0 or address + size >= 1 << 63 for address, size in pieces):
        return False
    return pymmc.readable([address for address, _ in pieces], [size for _, size in pieces])


class HostMemory:
    """Page-aligned anonymous memory, by address. Thread-safe."""

    def __init__(self):
        self._lock = threading.RLock()  # of what the garbage collector ends meanwhile, some is freed here
        self._maps = {}

    def alloc(self, size):
        """The address; 0 when there is none."""
        size = operator.index(size)
        if size <= 0:
            return 0
        try:
            made = mmap.mmap(-1, (size + _PAGE - 1) // _PAGE * _PAGE)
        except (OSError, ValueError, OverflowError):
            return 0
        address = ctypes.addressof(ctypes.c_char.from_buffer(made))
        with self._lock:
            self._maps[address] = made
        return address

    def view(self, start, address, size):
        """`size` bytes at an address within what alloc() gave at `start`; it keeps the memory, whatever is freed."""
        with self._lock:
            return memoryview(self._maps[start])[address - start:address - start + size]

    def free(self, address):
        """0, or -1 for an address that alloc() did not give."""
        with self._lock:
            return 0 if self._maps.pop(address, None) is not None else -1


def address_of(view):
    """The address of a writable buffer."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))
