"""Raw memory of this process: allocation, and whether an address can be read and written here."""
import array
import bisect
import ctypes
import errno
import mmap
import os
import threading

_PAGE = mmap.PAGESIZE
_BATCH = 1024  # ranges per system call


def _system_call():
    try:
        return ctypes.CDLL(None, use_errno=True).process_vm_readv
    except (OSError, AttributeError):
        return None


_process_vm_readv = _system_call()


def _readable(addresses):
    """Whether all these single bytes can be read; None when the system does not say."""
    if _process_vm_readv is None:
        return None
    count = len(addresses)
    into = (ctypes.c_char * count)()
    local = array.array("Q", (ctypes.addressof(into), count))
    remote = array.array("Q", (1,)) * (2 * count)  # pairs of address and size
    remote[::2] = addresses
    done = _process_vm_readv(os.getpid(), _address_of_array(local), ctypes.c_ulong(1), _address_of_array(remote),
                             ctypes.c_ulong(count), ctypes.c_ulong(0))
    if done == count:
        return True
    return False if done >= 0 or ctypes.get_errno() == errno.EFAULT else None


def _address_of_array(values):
    return ctypes.c_void_p(values.buffer_info()[0])


def is_host_memory(addresses, sizes):
    """Whether the first and last byte of every piece can be read by this process: device memory cannot.

    True as well when the system does not allow to ask. Empty pieces are not asked about.
    """
    if not all(sizes):
        kept = [(address, size) for address, size in zip(addresses, sizes) if size]
        if not kept:
            return True
        addresses, sizes = zip(*kept)
    if min(addresses) <= 0 or max(addresses) + max(sizes) >= 1 << 63:
        return False
    ends = array.array("Q", addresses)
    ends.extend([address + size - 1 for address, size in zip(addresses, sizes)])
    return all(_readable(ends[at:at + _BATCH]) is not False for at in range(0, len(ends), _BATCH))


class Registered:
    """The ranges a client registered. Registration is not needed to transfer; what is registered is not asked about
    again with every call. Thread-safe."""

    def __init__(self):
        self._lock = threading.Lock()
        self._sizes = {}
        self._sorted = ()  # (start, end), replaced as a whole

    def add(self, address, size):
        with self._lock:
            self._sizes[address] = max(size, self._sizes.get(address, 0))
            self._sort()

    def discard(self, address):
        """Whether it was there."""
        with self._lock:
            found = self._sizes.pop(address, None) is not None
            self._sort()
            return found

    def clear(self):
        with self._lock:
            self._sizes.clear()
            self._sort()

    def holds(self, address, size):
        ranges = self._sorted
        at = bisect.bisect_right(ranges, (address, 1 << 64)) - 1
        return at >= 0 and address + size <= ranges[at][1]

    def first(self):
        """The address that was registered first; 0: none is."""
        with self._lock:
            return next(iter(self._sizes), 0)

    def usable(self, addresses, sizes):
        """Whether the pieces of one value are host memory."""
        if self._sorted:
            low = min(addresses)
            if self.holds(low, max(addresses) + max(sizes) - low):
                return True
            unknown = [piece for piece in zip(addresses, sizes) if not self.holds(*piece)]
            if not unknown:
                return True
            addresses, sizes = zip(*unknown)
        return is_host_memory(addresses, sizes)

    def _sort(self):
        merged = []
        for start, size in sorted(self._sizes.items()):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], start + size))
            else:
                merged.append((start, start + size))
        self._sorted = tuple(merged)


class HostMemory:
    """Page-aligned anonymous memory, by address. Thread-safe."""

    def __init__(self):
        self._lock = threading.Lock()
        self._maps = {}

    def alloc(self, size):
        """The address; 0 when there is none."""
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

    def free(self, address):
        """0, or -1 for an address that alloc() did not give."""
        with self._lock:
            return 0 if self._maps.pop(address, None) is not None else -1


def bytes_at(address, size):
    """Writable bytes of this process, as a memoryview."""
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def address_of(view):
    """The address of a writable buffer."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))
