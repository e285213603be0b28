"""What can be a piece of a value, and what is refused with words that help."""
import ctypes
import mmap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pymmc
from pymmc import Code


class Tensor:
    """What a CPU tensor of torch looks like from outside: no buffer protocol."""

    def __init__(self, array, device="cpu"):
        self._array = array
        self.device = device
        self.calls = 0

    def data_ptr(self):
        self.calls += 1
        return self._array.ctypes.data

    def numel(self):
        return self._array.size

    def element_size(self):
        return self._array.itemsize

    def is_contiguous(self):
        return self._array.flags.c_contiguous


class Dlpack:
    """Only DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


@pytest.mark.parametrize("wrap", [Tensor, Dlpack])
def test_tensors(local, wrap):
    source = np.arange(3000, dtype=np.float32).reshape(3, 1000)
    target = np.zeros_like(source)
    assert local.put_one("t", wrap(source))
    assert local.get_into([("t", wrap(target))])[0].bytes == 12_000
    assert np.array_equal(source, target)


@pytest.mark.parametrize("wrap", [Tensor, Dlpack])
def test_tensors_in_lists_and_transposed(local, wrap):
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert local.put_one("t", [wrap(array), wrap(array[0])])
    assert local.get_one("t") == array.tobytes() + array[0].tobytes()
    with pytest.raises(pymmc.InvalidArgumentError, match="contiguous"):
        local.put_one("u", wrap(array.T))


def test_tensors_of_devices_are_refused(local):
    with pytest.raises(pymmc.UnsupportedError, match="npu:3"):
        local.put_one("t", Tensor(np.ones(3), device="npu:3"))


def test_dlpack_memory_is_given_back(local):
    array = np.ones(100)
    import sys
    before = sys.getrefcount(array)
    for i in range(10):
        local.put_one(f"t{i}", Dlpack(array))
    assert sys.getrefcount(array) == before


class DlTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


class Versioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p),
                ("deleter", DELETER), ("flags", ctypes.c_uint64), ("tensor", DlTensor)]


class Dlpack1:
    """Memory of the first version of DLPack's ABI, which says whether it may be written."""

    def __init__(self, array, flags=0, major=1):
        self.given_back = 0
        self._array = array
        self._shape = (ctypes.c_int64 * 1)(array.size)
        tensor = DlTensor(array.ctypes.data, 1, 0, 1, 1, 8 * array.itemsize, 1, self._shape, None, 0)
        self._managed = Versioned(major, 0, None, Versioned.DELETER(self._give_back), flags, tensor)

    def _give_back(self, _):
        self.given_back += 1

    def __dlpack__(self, *, max_version=None):
        assert max_version == (1, 0)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return new(ctypes.addressof(self._managed), b"dltensor_versioned", None)


@pytest.mark.parametrize("wrap", [Tensor, Dlpack1])
def test_tensors_in_memory_that_may_not_be_written(local, wrap, tmp_path):
    """As a tensor over a file that was mapped for reading: a code instead of a signal."""
    path = tmp_path / "weights"
    path.write_bytes(b"w" * mmap.PAGESIZE)
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    tensor = wrap(np.frombuffer(mapped, dtype=np.uint8))
    assert local.put_one("t", tensor)
    result = local.get_into([("t", tensor)])[0]
    assert result.code == Code.INVALID_ARGUMENT and "can write" in result.status.message
    target = np.zeros(mmap.PAGESIZE, np.uint8)
    assert [r.ok for r in local.get_into([("t", tensor), ("t", wrap(target))])] == [False, True]
    assert target.tobytes() == b"w" * mmap.PAGESIZE


def test_dlpack_memory_that_may_not_be_written(local):
    source, target = np.arange(100, dtype=np.int32), np.zeros(100, dtype=np.int32)
    read_only, writable = Dlpack1(source, flags=1), Dlpack1(target)
    assert local.put_one("d", read_only) and local.get_into([("d", writable)])[0].ok
    assert np.array_equal(source, target) and (read_only.given_back, writable.given_back) == (1, 1)
    for flags, why in ((1, "read-only"), (2, "a copy"), (3, "read-only")):
        with pytest.raises(pymmc.InvalidArgumentError, match=why):
            local.get_into([("d", Dlpack1(target, flags=flags))])
    with pytest.raises(pymmc.InvalidArgumentError, match="version 2"):
        local.put([("e", Dlpack1(source, major=2))])


@pytest.mark.parametrize("strided", [
    np.arange(10)[::2], np.zeros((4, 4), order="F")[:, :2], np.zeros((4, 4)).T[:2], memoryview(b"abcdef")[::2]])
def test_strided_buffers_are_refused(local, strided):
    with pytest.raises(pymmc.InvalidArgumentError, match="contiguous"):
        local.put([("s", strided)])
    assert "s" not in local


def test_read_only_targets_are_refused(local):
    local.put_one("r", b"12345")
    frozen = np.zeros(5, np.uint8)
    frozen.flags.writeable = False
    for target in (b"abcde", memoryview(b"abcde"), frozen):
        with pytest.raises(pymmc.InvalidArgumentError, match="target"):
            local.get_into([("r", target)])


@pytest.mark.parametrize("wrong", ["text", 7, None, object(), {"a": 1}, 1.5])
def test_what_is_no_buffer(local, wrong):
    with pytest.raises(TypeError, match="is no buffer"):
        local.put([("k", wrong)])
    with pytest.raises(TypeError, match="is no buffer"):
        local.put([("k", [b"fine", wrong])])


def test_shapes_of_items(local):
    for items in ([("k",)], [("k", b"v", 0)], [("k", b"v", 0, 0)]):
        with pytest.raises(pymmc.InvalidArgumentError, match="members"):
            local.put(items)
    with pytest.raises(TypeError):
        local.put("key")
    with pytest.raises(TypeError):
        local.put(5)
    with pytest.raises(TypeError, match="a key is str or bytes"):
        local.put([(5, b"v")])
    with pytest.raises(TypeError, match="sequence, not one str"):
        local.get("key")
    with pytest.raises(TypeError):
        local.put_ptrs(["k"], [["text"]], [[1]])


def test_empty_pieces_are_left_out_and_empty_values_refused(local):
    assert local.put_one("k", [b"", np.zeros(0), b"x", (0, 0)])
    assert local.get_one("k") == b"x"
    assert local.put({"e": b"", "f": []}) == [Code.INVALID_ARGUMENT] * 2


def test_iterators_of_items(local):
    assert all(local.put((f"i{i}", bytes([i + 1])) for i in range(3)))
    assert local.get(f"i{i}" for i in range(3)) == [b"\x01", b"\x02", b"\x03"]


def test_buffers_are_held_while_a_call_runs_and_not_longer(local):
    data = bytearray(b"x" * 100)
    local.put_one("h", data)
    data.extend(b"more")  # BufferError while somebody still held it
    target = bytearray(100)
    local.get_into([("h", target)])
    target.clear()


def test_a_list_that_changes_while_it_is_read(local):
    pieces = []

    class Shrinking(Tensor):
        def data_ptr(self):
            pieces.clear()
            return super().data_ptr()

    array = np.ones(8, np.uint8)
    pieces.extend([Shrinking(array), Tensor(array), Tensor(array)])
    assert local.put_one("c", pieces)
    assert local.get_one("c") == array.tobytes()


def out_of_reach(size):
    """(address of a range that nobody may touch, what keeps it). An unmapped one could be taken by any thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    made = mmap.mmap(-1, size)
    address = ctypes.addressof(ctypes.c_char.from_buffer(made))
    assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), 0) == 0
    return address, made


def mapped_before_a_hole():
    """(address of the last page before a hole, what keeps it)."""
    page = mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    made = mmap.mmap(-1, 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(made))
    assert libc.mprotect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 0) == 0
    return address, made


def test_addresses_where_nothing_is(client, key):
    good = np.arange(1000, dtype=np.uint8)
    nothing, kept = out_of_reach(1 << 20)
    at, keep = mapped_before_a_hole()
    bad = [[16], [(1 << 64) - 8], [nothing], [at + mmap.PAGESIZE - 10], [good.ctypes.data, 4096]]
    sizes = [[8], [64], [1 << 20], [20], [10, 10]]
    keys = [f"{key}/{n}" for n in range(len(bad))]
    codes = client.put_ptrs([key, *keys], [[good.ctypes.data], *bad], [[1000], *sizes])
    assert codes == [Code.OK] + [Code.INVALID_ARGUMENT] * len(bad)
    assert client.exists([key, *keys]) == [True] + [False] * len(bad)
    codes, _ = client.get_ptrs([key] * len(bad), bad, sizes, True)
    assert codes == [Code.INVALID_ARGUMENT] * len(bad)
    codes, _ = client.get_ranges([key] * len(bad), [0] * len(bad), bad, sizes)
    assert codes == [Code.INVALID_ARGUMENT] * len(bad)
    assert client.put({key + "/pair": (nothing, 4096)})[0].code == Code.INVALID_ARGUMENT
    assert "not in memory" in client.get_into([(key, [(16, 1000)])])[0].status.message
    assert client.put_ptrs([key + "/last page"], [[at]], [[mmap.PAGESIZE]]) == [Code.OK]
    del keep, kept


def test_registered_memory(client, key):
    """Pieces inside it, over the seam of two ranges, and partly outside; taken back it is looked at in each call."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.PAGESIZE
    made = mmap.mmap(-1, 4 * page)
    at = ctypes.addressof(ctypes.c_char.from_buffer(made))
    client.register(at, 2 * page)
    client.register(at + 2 * page, 2 * page)
    made[:] = bytes(range(256)) * (len(made) // 256)
    assert client.put_ptrs([key], [[at + page, at]], [[3 * page, page]]) == [Code.OK]  # over the seam too
    assert client.get_ptrs([key], [[at, at + page]], [[page, 3 * page]]) == ([Code.OK], [4 * page])
    assert bytes(made) == bytes(range(256)) * (len(made) // 256)
    # Pieces that begin or end outside are looked at.
    nothing, kept = out_of_reach(page)
    assert client.get_ptrs([key] * 2, [[nothing], [at + 4 * page - 1]], [[4 * page], [1 << 40]], True)[0] == [
        Code.INVALID_ARGUMENT, Code.INVALID_ARGUMENT]
    client.unregister(at)
    with pytest.raises(pymmc.NotFoundError):
        client.unregister(at)
    assert libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(page), 0) == 0
    assert client.put_ptrs([key + "/gone"], [[at]], [[page]]) == [Code.INVALID_ARGUMENT]
    assert client.put_ptrs([key + "/seam"], [[at + page]], [[3 * page]]) == [Code.OK]
    client.unregister(at + 2 * page)
    del kept


def test_what_cannot_be_registered(client, key):
    page = mmap.PAGESIZE
    nothing, kept = out_of_reach(page)
    at, keep = mapped_before_a_hole()
    wrong = [(nothing, page), (at, 2 * page), (0, 10), (at, 0), (at, (1 << 64) - 1), (1 << 64, 1), (-1, 1)]
    for address, size in wrong:
        with pytest.raises(pymmc.InvalidArgumentError):
            client.register(address, size)
    with pytest.raises(TypeError):
        client.register("here", 1)
    # What is registered again has its new size, and none when that fails.
    client.register(at, page)
    with pytest.raises(pymmc.InvalidArgumentError):
        client.register(at, 2 * page)
    with pytest.raises(pymmc.NotFoundError):
        client.unregister(at)
    del keep, kept


@pytest.mark.parametrize("wrap", [None, Tensor, Dlpack1])
def test_a_target_that_was_made_read_only_since(local, wrap):
    page = mmap.PAGESIZE
    made = mmap.mmap(-1, page)
    array = np.frombuffer(made, dtype=np.uint8)
    target = (array.ctypes.data, page) if wrap is None else wrap(array)
    assert local.put_one("r", b"x" * page)
    assert local.get_into([("r", target)])[0].ok and array[-1] == ord("x")
    libc = ctypes.CDLL(None)
    assert libc.mprotect(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(page), mmap.PROT_READ) == 0
    assert local.get_into([("r", target)])[0].code == Code.INVALID_ARGUMENT
    assert local.put_one("s", target) and local.get_one("s") == b"x" * page


def test_targets_keep_their_bytes_when_nothing_is_read(client, key):
    arrays = [np.arange(n, n + 5000, dtype=np.int64) for n in range(300)]
    codes, _ = client.get_ptrs([f"{key}/{n}" for n in range(300)], [[a.ctypes.data] for a in arrays],
                               [[a.nbytes] for a in arrays])
    assert codes == [Code.NOT_FOUND] * 300
    assert all(np.array_equal(a, np.arange(n, n + 5000, dtype=np.int64)) for n, a in enumerate(arrays))


def test_registered_memory_that_is_read_only_is_no_target(client, key):
    constant = np.arange(1000, dtype=np.uint8).tobytes()
    page = mmap.PAGESIZE
    made = mmap.mmap(-1, page)
    at = ctypes.addressof(ctypes.c_char.from_buffer(made))
    made.write(constant)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(at), ctypes.c_size_t(page), mmap.PROT_READ) == 0
    client.register(at, page)
    assert client.put_ptrs([key], [[at]], [[1000]]) == [Code.OK]
    assert client.get_ptrs([key], [[at]], [[1000]])[0] == [Code.INVALID_ARGUMENT]
    assert client.get_one(key) == constant
    client.unregister(at)


def test_registering_from_many_threads(client, key):
    """Calls that use memory meanwhile see it registered or not, and move the same bytes."""
    arrays = [np.full(4096, n, dtype=np.uint8) for n in range(4)]
    outs = [np.zeros(4096, dtype=np.uint8) for _ in arrays]
    keys = [f"{key}/{n}" for n in range(len(arrays))]

    def one(n):
        for _ in range(200):
            client.register(outs[n].ctypes.data, 4096)
            assert client.get_ptrs([keys[n]], [[outs[n].ctypes.data]], [[4096]]) == ([Code.OK], [4096])
            assert (outs[n] == n).all()
            outs[n][:] = 255
            client.unregister(outs[n].ctypes.data)

    assert client.put_ptrs(keys, [[a.ctypes.data] for a in arrays], [[4096]] * 4) == [Code.OK] * 4
    with ThreadPoolExecutor(len(arrays)) as pool:
        list(pool.map(one, range(len(arrays))))


def test_null_and_empty_pieces(client, key):
    good = np.arange(10, dtype=np.uint8)
    codes = client.put_ptrs([f"{key}/{n}" for n in range(4)], [[0], [good.ctypes.data, 16], [16], []],
                            [[10], [10, 0], [0], []])
    assert codes == [Code.INVALID_ARGUMENT, Code.OK, Code.INVALID_ARGUMENT, Code.INVALID_ARGUMENT]
    assert client.get_one(f"{key}/1") == good.tobytes()


def test_more_raw_pieces_than_one_system_call_takes(local, key):
    data = np.arange(5000, dtype=np.uint8)
    pieces = [data.ctypes.data + n for n in range(5000)]
    assert local.put_ptrs([key, key + "/bad"], [pieces, pieces[:3000] + [16] + pieces[3000:]],
                          [[1] * 5000, [1] * 5001]) == [Code.OK, Code.INVALID_ARGUMENT]
    assert local.get_one(key) == data.tobytes()
