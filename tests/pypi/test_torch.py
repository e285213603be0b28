"""Tensors of torch as sources and targets, and the tensor calls of mooncake.store."""
import mmap

import numpy
import pytest

torch = pytest.importorskip("torch")

import pymmc  # noqa: E402
from mooncake.store import MooncakeDistributedStore  # noqa: E402

KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.uint8,
         torch.int16, torch.int32, torch.int64, torch.bool]


def sample(kind, *shape):
    return (torch.arange(torch.Size(shape).numel()).reshape(shape) % 2).to(kind)


def content(tensor):
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and content(one) == content(other)


@pytest.fixture
def store(master):
    made = MooncakeDistributedStore()
    assert made.setup("127.0.0.1", "P2PHANDSHAKE", 64 << 20, 16 << 20, "tcp", "", master.address) == 0
    yield made
    assert made.close() == 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_pymmc_takes_tensors_as_they_are(meta, key, kind):
    with pymmc.Client(meta.url) as client:
        source, target = sample(kind, 30, 128), torch.empty(30, 128, dtype=kind)
        assert client.put({key: [source[:10], source[10:]]})[0].ok
        result = client.get_into({key: target})[0]
        assert result.ok and result.bytes == source.nbytes and same(source, target)


def test_pymmc_refuses_what_is_not_in_one_piece_or_not_on_the_cpu(meta, key):
    with pymmc.Client(meta.url) as client:
        with pytest.raises(pymmc.MmcError, match="contiguous"):
            client.put({key: torch.ones(8, 8)[:, :2]})
        with pytest.raises(pymmc.MmcError, match="meta"):
            client.put({key: torch.ones(8, device="meta")})


class Dlpack:
    """Only DLPack, of the version that is asked for."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)


def test_pymmc_does_not_write_where_it_may_not(meta, key, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"w" * mmap.PAGESIZE)
    with open(path, "rb") as file, pymmc.Client(meta.url) as client:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        tensor, frozen = torch.frombuffer(mapped, dtype=torch.uint8), numpy.frombuffer(mapped, dtype=numpy.uint8)
        assert client.put({key: tensor, key + "2": Dlpack(frozen)}) == [pymmc.Code.OK] * 2
        assert client.get_into({key: tensor})[0].code == pymmc.Code.INVALID_ARGUMENT
        with pytest.raises(pymmc.InvalidArgumentError, match="read-only"):
            client.get_into({key: Dlpack(frozen)})
        target = torch.zeros(mmap.PAGESIZE, dtype=torch.uint8)
        assert client.get_into({key + "2": Dlpack(target)})[0].ok and content(target) == path.read_bytes()


def test_pymmc_dlpack_and_views(meta, key):
    with pymmc.Client(meta.url) as client:
        source = torch.randn(1000)
        assert client.put({key: source.numpy()})[0].ok
        with client.view(key) as view:
            assert torch.equal(torch.frombuffer(view, dtype=torch.float32), source)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_mooncake_tensors(store, key, kind):
    tensor = sample(kind, 2, 3, 4)
    assert store.put_tensor(key, tensor) == 0 and same(store.get_tensor(key), tensor)
    assert store.put_tensor(key, sample(kind, 5)) == 0 and same(store.get_tensor(key), tensor)
    assert store.upsert_tensor(key, sample(kind, 5)) == 0 and same(store.get_tensor(key), sample(kind, 5))


def test_mooncake_tensors_of_odd_shapes(store, key):
    shapes = [(), (0,), (1,), (3, 0, 2), (2,) * 8]
    tensors = [torch.ones(shape) for shape in shapes] + [torch.randn(6, 8).t(), torch.randn(6, 8)[:, ::2]]
    keys = [f"{key}/{n}" for n in range(len(tensors))]
    assert store.batch_put_tensor(keys, tensors) == [0] * len(keys)
    assert all(same(back, tensor) for back, tensor in zip(store.batch_get_tensor([*keys, key]), tensors))
    assert store.batch_get_tensor([key]) == [None]


def test_mooncake_tensor_parallel(store, key):
    whole = torch.randn(8, 12)
    assert store.put_tensor_with_tp(f"{key}/columns", whole, 0, 4, 1) == 0  # all shards at once
    parts = [store.get_tensor_with_tp(f"{key}/columns", rank, 4, 1) for rank in range(4)]
    assert torch.equal(torch.cat(parts, 1), whole)
    assert store.batch_put_tensor_with_tp([f"{key}/a", f"{key}/b"], [whole, whole * 2], 1, 2, 0) == [0, 0]
    a, b = store.batch_get_tensor_with_tp([f"{key}/a", f"{key}/b"], 1, 2)
    assert torch.equal(a, whole[4:]) and torch.equal(b, whole[4:] * 2)


def test_mooncake_tensor_into_memory(store, key):
    tensor, room = torch.randn(64, 32), torch.zeros(64 * 32 * 4 + 4096, dtype=torch.uint8)
    assert store.put_tensor(key, tensor) == 0 and store.register_buffer(room.data_ptr(), room.nbytes) == 0
    back = store.get_tensor_into(key, room.data_ptr(), room.nbytes)
    assert same(back, tensor)
    low, high = room.data_ptr(), room.data_ptr() + room.nbytes
    assert low <= back.data_ptr() < high, "not a copy"


def test_mooncake_safetensors(store, key, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    tensor, name = torch.randn(16, 16).to(torch.bfloat16), str(tmp_path / "one.safetensors")
    assert store.put_tensor(key, tensor) == 0
    assert store.save_tensor_to_safetensor(key, name) == 0
    assert any(same(saved, tensor) for saved in safetensors.load_file(name).values())
    assert store.remove(key, force=True) == 0
    assert store.load_tensor_from_safetensor(key, name) == 0 and same(store.get_tensor(key), tensor)
    assert store.load_tensor_from_safetensor(key, str(tmp_path / "none")) == -1100
    (tmp_path / "wrong").write_bytes(b"no tensors")
    assert store.load_tensor_from_safetensor(key, str(tmp_path / "wrong")) == -1102
    assert store.save_tensor_to_safetensor(key, str(tmp_path / "none" / "one")) == -1103


def test_mooncake_values_that_only_say_that_they_are_tensors(store, key):
    """A header whose shape and bytes do not fit each other is no tensor, whatever memory it asks for."""
    assert store.put_tensor(key, torch.ones(4, dtype=torch.float32)) == 0
    good = bytearray(store.get(key))
    lies = []
    for dimension in (0, 3, 5, 1 << 40):
        lies.append(bytes(good[:16]) + dimension.to_bytes(8, "little") + bytes(good[24:]))
    lies.append(bytes(good[:16]) + (1 << 40).to_bytes(8, "little") + bytes(good[24:80]) + bytes(48))  # no bytes at all
    assert len(lies[-1]) == 128
    for number, lie in enumerate(lies):
        assert store.put(f"{key}/{number}", lie) == 0
        assert store.get_tensor(f"{key}/{number}") is None
    assert same(store.get_tensor(key), torch.ones(4))


def test_mooncake_tensors_that_cannot_be_stored(store, key):
    for tensor in (torch.ones(4, device="meta"), torch.ones(4, 4).to_sparse(), torch.ones((1,) * 9),
                   torch.ones(4, dtype=torch.complex64)):
        assert store.put_tensor(key, tensor) == -600 and store.upsert_tensor(key, tensor) == -600
    assert store.is_exist(key) == 0
