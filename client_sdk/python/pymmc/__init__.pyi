"""Types of pymmc. Sizes are bytes (int) or text ("512MB"); times are seconds (float); keys are str (UTF-8) or bytes.

All methods may be called from any thread, and release the GIL while they wait or copy.
"""

import asyncio
import enum
from types import TracebackType
from typing import Any, Iterable, Iterator, List, Mapping, Protocol, Sequence, Union

__version__: str

_Key = Union[str, bytes]
_Size = Union[int, str]

class _SupportsDataPtr(Protocol):
    def data_ptr(self) -> int: ...

class _SupportsDlpack(Protocol):
    def __dlpack__(self) -> Any: ...

# One piece of a value: anything with the buffer protocol (bytes, bytearray, memoryview, numpy, ctypes, mmap), a CPU
# tensor (data_ptr() or DLPack), or (address, bytes). Pieces are C-contiguous, and counted in bytes. Empty pieces are
# left out; a value of no bytes is refused.
_Piece = Union[bytes, bytearray, memoryview, Any, _SupportsDataPtr, _SupportsDlpack, tuple[int, int]]
# A value: one piece, or a list (or tuple) of pieces; (int, int) is one raw piece.
_Pieces = Union[_Piece, Sequence[_Piece]]

# Of a call: a mapping of key to value, or pairs; of reads also (key, pieces, first byte).
_Items = Union[Mapping[str, _Pieces], Mapping[bytes, _Pieces], Iterable[tuple[_Key, _Pieces]]]
_Targets = Union[_Items, Iterable[Union[tuple[_Key, _Pieces], tuple[_Key, _Pieces, int]]]]

class Code(enum.IntEnum):
    """Status codes; the numbers are those of the wire and never change."""
    OK = 0
    INVALID_ARGUMENT = 1
    INTERNAL = 2
    UNSUPPORTED = 3
    CONFIG = 4
    PERMISSION = 5
    IO = 6
    NOT_FOUND = 7
    QUEUE_FULL = 10
    DEADLINE = 11
    CANCELLED = 12
    CLOSED = 13
    UNAVAILABLE = 14
    CONNECTION_LOST = 15
    UNKNOWN_METHOD = 100
    BAD_VERSION = 101
    TOO_LARGE = 102
    MALFORMED = 103
    SHUTTING_DOWN = 104
    NOT_LEADER = 105
    RECOVERING = 106
    EXISTS = 1000
    BEING_WRITTEN = 1001
    NO_SPACE = 1002
    NO_NODE = 1003
    GRANT_LOST = 1004
    SIZE_MISMATCH = 1005
    LEASE_EXPIRED = 1006
    SESSION_LOST = 1007
    STALE_NODE = 1008
    REPLICAS_LOST = 1009
    STALE_REGION = 2000
    PEER_UNREACHABLE = 2001
    OUT_OF_RANGE = 2002
    READ_ONLY = 2003
    UNCONFIRMED = 2004
    CORRUPT = 3000

    @property
    def meaning(self) -> str: ...
    @property
    def recovery(self) -> Recovery: ...

class Recovery(str, enum.Enum):
    """What a caller should do about a code."""
    NONE = "none"
    BACKOFF = "backoff"
    REFRESH = "refresh"
    RECONNECT = "reconnect"
    ASK_OUTCOME = "ask_outcome"
    DROP_REPLICA = "drop_replica"

class MmcError(Exception):
    """A call failed. `key` is set when it is about one key."""
    code: Code
    recovery: Recovery
    key: _Key | None
    message: str
    def __init__(self, code: int, message: str = "", key: _Key | None = None) -> None: ...

class InvalidArgumentError(MmcError, ValueError): ...
class ConfigError(MmcError, ValueError): ...
class UnsupportedError(MmcError): ...
class NotFoundError(MmcError, LookupError): ...
class ExistsError(MmcError): ...
class NoSpaceError(MmcError): ...  # NO_SPACE, NO_NODE
class TooLargeError(MmcError, ValueError): ...
class SizeMismatchError(MmcError, ValueError): ...
class OutOfRangeError(MmcError, IndexError): ...
class DeadlineError(MmcError, TimeoutError): ...
class QueueFullError(MmcError): ...
class ClosedError(MmcError): ...  # CLOSED, SHUTTING_DOWN, CANCELLED
class UnavailableError(MmcError, ConnectionError): ...  # UNAVAILABLE, CONNECTION_LOST, PEER_UNREACHABLE, SESSION_LOST
class DataLostError(MmcError): ...  # REPLICAS_LOST, CORRUPT, GRANT_LOST

class Status:
    """Outcome for one key: true when OK. Equal to another status, a Code or an int of the same code."""
    @property
    def code(self) -> Code: ...
    @property
    def ok(self) -> bool: ...
    @property
    def message(self) -> str: ...
    @property
    def recovery(self) -> Recovery: ...
    def __bool__(self) -> bool: ...
    def __int__(self) -> int: ...
    def raise_for_error(self, key: _Key | None = None) -> None: ...

class GetResult:
    @property
    def status(self) -> Status: ...
    @property
    def code(self) -> Code: ...
    @property
    def ok(self) -> bool: ...
    @property
    def bytes(self) -> int:
        """Read; 0 when not ok, and the buffers then hold anything."""
    @property
    def size(self) -> int:
        """Of the whole value, when known."""
    def __bool__(self) -> bool: ...

class ReplicaInfo:
    @property
    def node(self) -> str: ...
    @property
    def medium(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def extents(self) -> int: ...

class ObjectInfo:
    @property
    def status(self) -> Status: ...
    @property
    def ok(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def checksum(self) -> int: ...  # 0: put without one
    @property
    def lease_left(self) -> float: ...
    @property
    def pins(self) -> int: ...
    @property
    def replicas(self) -> list[ReplicaInfo]: ...

class ListPage:
    @property
    def keys(self) -> list[_Key]: ...  # bytes where a key is not UTF-8
    @property
    def sizes(self) -> list[int]: ...
    @property
    def next_page_token(self) -> bytes: ...  # empty: that was the last page

class NodeInfo:
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...  # "serving", "suspect", "dead", "leaving", "recovering", "draining", "drained"
    @property
    def host_id(self) -> str: ...
    @property
    def endpoints(self) -> list[str]: ...  # "tcp 127.0.0.1:7000"
    @property
    def capacity_bytes(self) -> int: ...
    @property
    def used_bytes(self) -> int: ...
    @property
    def objects(self) -> int: ...
    @property
    def silent_ms(self) -> int: ...
    @property
    def drain_left_objects(self) -> int: ...  # while it drains; at 0 it is drained
    @property
    def drain_left_bytes(self) -> int: ...

class ClusterStatus:
    @property
    def version(self) -> str: ...
    @property
    def term(self) -> int: ...
    @property
    def uptime_ms(self) -> int: ...
    @property
    def objects(self) -> int: ...
    @property
    def value_bytes(self) -> int: ...
    @property
    def capacity_bytes(self) -> int: ...
    @property
    def used_bytes(self) -> int: ...
    @property
    def sessions(self) -> int: ...
    @property
    def grants(self) -> int: ...
    @property
    def pins(self) -> int: ...
    @property
    def waiting_to_free_bytes(self) -> int: ...
    @property
    def lookups_hit(self) -> int: ...
    @property
    def lookups_missed(self) -> int: ...
    @property
    def evicted_objects(self) -> int: ...
    @property
    def evicted_bytes(self) -> int: ...
    @property
    def puts(self) -> int: ...
    @property
    def gets(self) -> int: ...
    @property
    def removes(self) -> int: ...
    @property
    def recovering(self) -> bool: ...  # the meta service has just started, nodes still report
    @property
    def under_replicated(self) -> int: ...  # values with fewer replicas than asked for
    @property
    def copies_in_flight(self) -> int: ...
    @property
    def soft_pinned(self) -> int: ...  # values that are evicted after all others
    @property
    def hard_pinned(self) -> int: ...  # values that are not evicted
    @property
    def evict_threshold_high(self) -> int: ...
    @property
    def evict_threshold_low(self) -> int: ...
    @property
    def nodes(self) -> list[NodeInfo]: ...

class ClientStats:
    @property
    def put_bytes(self) -> int: ...
    @property
    def get_bytes(self) -> int: ...
    @property
    def shm_bytes(self) -> int: ...
    @property
    def tcp_bytes(self) -> int: ...
    @property
    def failovers(self) -> int: ...
    @property
    def location_cache_hits(self) -> int: ...
    @property
    def expired_reads(self) -> int: ...
    @property
    def corrupt_reads(self) -> int: ...  # replicas whose bytes were not those of their checksum; another one was read

class View:
    """A value in place: read-only bytes of the pool, pinned until release() or until the view and all that was made
    from it (memoryview, numpy.frombuffer) are gone. `memoryview(view)` needs a value in one piece (see pieces())."""
    @property
    def nbytes(self) -> int: ...
    @property
    def released(self) -> bool: ...
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def __buffer__(self, flags: int) -> memoryview: ...
    def pieces(self) -> tuple[memoryview, ...]: ...
    def release(self) -> None:
        """Ends the pin. BufferError while memoryviews of it live. Idempotent."""
    def __enter__(self) -> View: ...
    def __exit__(self, *exc: object) -> None: ...

class Client:
    def __init__(
        self,
        meta_url: str = "tcp://127.0.0.1:5000",
        *,
        name: str = "client",
        tenant: str = "",  # whose keys these are; "": the default tenant
        timeout: float = 60.0,  # of calls that give none
        connect_retry: float = 0.0,  # keep trying to reach the meta service for so long
        lease: float = 0.0,  # asked for by gets; 0: the service's default
        location_cache: bool = False,
        location_cache_keys: int = 1 << 20,
        same_host: bool = True,
        tcp_connections: int = 4,
        tcp_congestion_control: str = "",
        copy_threads: int = 0,
        async_threads: int = 4,
        async_queue: int = 4096,
        integrity: str = "put",  # checksums: "off"; "put": stored with values; "verify": and compared by whole reads
        # TLS to the meta service, by files in PEM form: ca_path, cert_path, key_path; crl_path, key_pass_path,
        # decrypter_path.
        tls: Mapping[str, str] | None = None,
        data_tls: Mapping[str, str] | None = None,  # the same for values that travel over TCP
        contribute_dram: _Size | None = None,  # memory of this process lent to the pool, rounded up to 2 MiB
        contribute: Mapping[str, Any] | None = None,  # further options of LocalService (name, data_url, ...)
    ) -> None:
        """Connects. `meta_url`: "tcp://host:port[,host:port...]", or "local://?dram=1GB" for a pool in this process.
        Raises MmcError; TypeError naming an option that is not known."""
    @property
    def meta_url(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def node_name(self) -> str | None: ...  # of the contributed memory

    # Batches. What one key meets is in its result and never raises; what fails as a whole raises MmcError.
    def put(self, items: _Items, *, replicas: int = 1,
            preferred_nodes: Sequence[str] = (), prefer_local: bool = True, timeout: float | None = None,
            soft_pin: float | None = None, hard_pin: bool = False,
            groups: Sequence[_Key | None] | None = None) -> List[Status]:
        """soft_pin: seconds for which the values are evicted after all others of the tenant (0: the service's default;
        the service has a limit too); hard_pin: they are not evicted, until they are removed. groups: a name of at most
        2048 bytes, or None, per item: a read of one value leases all of its group, and when one is evicted the others
        go too (at most 1024 at a time). A restart of the meta service forgets soft pins and groups, not hard pins."""
    def get(self, keys: Iterable[_Key], *, timeout: float | None = None) -> List[bytes | None]:
        """None where nothing could be read; get_results() says why."""
    def get_results(self, keys: Iterable[_Key], *,
                    timeout: float | None = None) -> List[tuple[Status, bytes | None]]: ...
    def get_into(self, items: _Targets, *,
                 allow_short: bool = False, timeout: float | None = None) -> List[GetResult]:
        """The third member of an item is the first byte of the value to read. From 0 without allow_short the pieces
        must hold exactly the value."""
    def exists(self, keys: Iterable[_Key], *, lease: float | None = None,
               timeout: float | None = None) -> List[bool]:
        """With a lease (seconds; 0: the service's default) what is there counts as used and stays readable so long;
        without, the question leaves no trace. Raises MmcError."""
    def prefix(self, keys: Iterable[_Key]) -> int: ...
    def stat(self, keys: Iterable[_Key]) -> List[ObjectInfo]: ...
    def remove(self, keys: Iterable[_Key]) -> List[Status]: ...
    def remove_by_prefix(self, prefix: _Key) -> int: ...
    def remove_all(self) -> int: ...
    def list(self, prefix: _Key = "", *, page_token: bytes = b"", limit: int = 1000) -> ListPage: ...
    def scan(self, prefix: _Key = "", *, page: int = 1000) -> Iterator[tuple[_Key, int]]: ...

    # One key; these raise.
    def put_one(self, key: _Key, value: _Pieces, *, replicas: int = 1, preferred_nodes: Sequence[str] = (),
                prefer_local: bool = True, timeout: float | None = None, soft_pin: float | None = None,
                hard_pin: bool = False, group: _Key | None = None) -> bool:
        """False when the key was there already (its value stays)."""
    def get_one(self, key: _Key, *, timeout: float | None = None) -> bytes: ...
    def view(self, key: _Key) -> View:
        """UnsupportedError when no replica is on this host."""
    def __contains__(self, key: _Key) -> bool: ...

    # For other bindings: addresses and byte counts as ints, plain int codes of Code back. ptrs[i] and sizes[i] are the
    # pieces of keys[i]. Lists of unequal length raise InvalidArgumentError; a bad key or address fails its own key only.
    # The memory must stay valid until the call returns. A size of 0 leaves its piece out. First and last byte of each
    # piece are looked at before: what this process cannot read (not mapped, of a device) is INVALID_ARGUMENT, and so is a
    # target in a mapping that it may not write. Pieces inside registered memory are not looked at.
    def put_ptrs(self, keys: Iterable[_Key], ptrs: Sequence[Sequence[int]], sizes: Sequence[Sequence[int]],
                 replicas: int = 1, preferred_nodes: Sequence[str] = (), prefer_local: bool = True,
                 timeout: float | None = None, soft_pin: float | None = None, hard_pin: bool = False,
                 groups: Sequence[_Key | None] | None = None) -> List[int]: ...
    def get_ptrs(self, keys: Iterable[_Key], ptrs: Sequence[Sequence[int]], sizes: Sequence[Sequence[int]],
                 allow_short: bool = False, timeout: float | None = None) -> tuple[List[int], List[int]]:
        """(codes, bytes read)."""
    def get_ranges(self, keys: Iterable[_Key], offsets: Sequence[int], ptrs: Sequence[Sequence[int]],
                   sizes: Sequence[Sequence[int]], timeout: float | None = None) -> tuple[List[int], List[int]]:
        """One range per entry, from offsets[i]; a key may stand in several. Reads min(sum of sizes, value - offset);
        OUT_OF_RANGE when offset >= size."""
    def register(self, address: int, bytes: int) -> None:
        """Memory that stays as it is until unregister(); an address that is registered already gets this size.
        INVALID_ARGUMENT: not all of it is host memory that this process can read; TOO_LARGE: more than 65536."""
    def unregister(self, address: int) -> None:
        """Before the memory goes. NOT_FOUND: it is not registered."""
    def exists_codes(self, keys: Iterable[_Key], lease: float | None = None,
                     timeout: float | None = None) -> List[int]:
        """Exactly 1 or 0 per key. Raises as exists()."""
    def remove_codes(self, keys: Iterable[_Key]) -> List[int]: ...
    def sizes(self, keys: Iterable[_Key]) -> List[int]:
        """Bytes of each value; minus the code where there is none."""

    def cluster(self) -> ClusterStatus: ...
    def stats(self) -> ClientStats: ...
    def close(self) -> None:
        """Ends the session and, with a pool or memory in this process, those. Idempotent; other calls then raise
        ClosedError (batch calls: the code CLOSED per key)."""
    def __enter__(self) -> Client: ...
    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None,
                 tb: TracebackType | None) -> None: ...

class TransferEngine:
    """Memory of processes, read and written by its address, without a pool. A peer is "host:port" of its engine."""
    def __init__(self, url: str | None = "tcp://127.0.0.1:0", *, same_host: bool = True, timeout: float = 30.0,
                 tcp_connections: int = 4, tcp_threads: int = 2, copy_threads: int = 0, async_threads: int = 8,
                 tls: Mapping[str, str] | None = None) -> None:
        """Started unless `url` is None."""
    @property
    def running(self) -> bool: ...
    @property
    def port(self) -> int: ...  # 0: not started
    @property
    def stats(self) -> dict[str, int]: ...  # shm_bytes, tcp_bytes: moved by this side since start()
    def start(self, url: str = "tcp://127.0.0.1:0", **options: Any) -> None:
        """EXISTS when it runs. What is registered and allocated stays from one start to the next."""
    def close(self) -> None:
        """Fails what waits; transfers that move bytes end first, with their timeout at the latest. Idempotent."""

    # Memory, by address and bytes. All that is registered must be readable; what this process may not write, others
    # may only read. INVALID_ARGUMENT for what is no memory of the host, NOT_FOUND for what is not registered.
    def register(self, address: int, bytes: int) -> None: ...
    def unregister(self, address: int) -> None:
        """No other process reads or writes it any more when this returns."""
    def allocate(self, bytes: int) -> int:
        """The address of registered memory of zeros, aligned to pages."""
    def free(self, address: int) -> None: ...
    def holds(self, address: int, bytes: int) -> bool:
        """Whether all these bytes are registered."""

    # local[i], remote[i] and sizes[i] are one contiguous move each. OUT_OF_RANGE: some of it is in no registered memory
    # of the peer, nothing of that is moved; UNAVAILABLE, PEER_UNREACHABLE, DEADLINE, UNCONFIRMED: it broke off, other
    # pieces may have been moved.
    def read(self, peer: str, local: Sequence[int], remote: Sequence[int], sizes: Sequence[int],
             timeout: float | None = None) -> None: ...
    def write(self, peer: str, local: Sequence[int], remote: Sequence[int], sizes: Sequence[int],
              timeout: float | None = None) -> None: ...
    # The same on a thread of the engine; the number is for poll() or wait(), whose answer is given once. The memory must
    # stay until then.
    def submit_read(self, peer: str, local: Sequence[int], remote: Sequence[int], sizes: Sequence[int],
                    timeout: float | None = None) -> int: ...
    def submit_write(self, peer: str, local: Sequence[int], remote: Sequence[int], sizes: Sequence[int],
                     timeout: float | None = None) -> int: ...
    def poll(self, number: int) -> Status | None:
        """None: it runs. NOT_FOUND: not submitted, or answered already."""
    def wait(self, number: int) -> None:
        """Raises what the transfer met."""

    def send_note(self, peer: str, name: str, text: str) -> None:
        """A short message (1 MiB at most) that the peer finds in take_notes()."""
    def take_notes(self) -> list[tuple[str, str]]: ...
    def first_address(self, peer: str) -> int:
        """Of what the peer registered first; 0: nothing is."""
    def __enter__(self) -> TransferEngine: ...
    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None,
                 tb: TracebackType | None) -> None: ...

class AsyncClient:
    """The same calls for asyncio. No thread is kept waiting per call. Options as for Client; connect() or
    `async with` opens it, and binds it to the running loop. A cancelled put or get_into first waits for its transfer
    (at most its timeout): buffers are never touched after the await has ended."""
    def __init__(self, meta_url: str = "tcp://127.0.0.1:5000", *, client: Client | None = None,
                 **options: Any) -> None: ...
    async def connect(self) -> AsyncClient: ...
    @property
    def client(self) -> Client: ...  # of a connected one: its calls that do not wait
    async def put(self, items: _Items, *, replicas: int = 1,
                  preferred_nodes: Sequence[str] = (), prefer_local: bool = True, timeout: float | None = None,
                  soft_pin: float | None = None, hard_pin: bool = False,
                  groups: Sequence[_Key | None] | None = None) -> List[Status]: ...
    async def get(self, keys: Iterable[_Key], *, timeout: float | None = None) -> List[bytes | None]: ...
    async def get_results(self, keys: Iterable[_Key], *,
                          timeout: float | None = None) -> List[tuple[Status, bytes | None]]: ...
    async def get_into(self, items: _Targets, *,
                       allow_short: bool = False, timeout: float | None = None) -> List[GetResult]: ...
    async def exists(self, keys: Iterable[_Key], *, lease: float | None = None,
                     timeout: float | None = None) -> List[bool]: ...
    async def prefix(self, keys: Iterable[_Key]) -> int: ...
    async def stat(self, keys: Iterable[_Key]) -> List[ObjectInfo]: ...
    async def remove(self, keys: Iterable[_Key]) -> List[Status]: ...
    async def remove_by_prefix(self, prefix: _Key) -> int: ...
    async def remove_all(self) -> int: ...
    async def list(self, prefix: _Key = "", *, page_token: bytes = b"", limit: int = 1000) -> ListPage: ...
    async def put_one(self, key: _Key, value: _Pieces, *, replicas: int = 1, preferred_nodes: Sequence[str] = (),
                      prefer_local: bool = True, timeout: float | None = None, soft_pin: float | None = None,
                      hard_pin: bool = False, group: _Key | None = None) -> bool: ...
    async def get_one(self, key: _Key, *, timeout: float | None = None) -> bytes: ...
    async def view(self, key: _Key) -> View: ...
    async def cluster(self) -> ClusterStatus: ...
    async def close(self) -> None: ...
    async def __aenter__(self) -> AsyncClient: ...
    async def __aexit__(self, *exc: object) -> None: ...

class MetaService:
    """A meta service inside this process, serving when the constructor returns. Logs nothing, takes no signals."""
    def __init__(
        self,
        url: str = "tcp://127.0.0.1:5000",  # port 0: a free one
        *,
        metrics_url: str = "",  # "http://127.0.0.1:8000": the HTTP pages; "": none
        io_threads: int = 2,
        evict_threshold_high: int = 90,  # percent
        evict_threshold_low: int = 80,
        evict_policy: str = "lru",
        lease: float = 5.0,
        max_lease: float = 600.0,
        soft_pin: float = 1800.0,  # of puts that ask for one and give no time
        max_soft_pin: float = 86400.0,
        evict_soft_pinned: bool = True,  # when nothing else can be evicted
        grant: float = 600.0,
        recovery: float = 0.0,  # how long nodes of an earlier meta service are waited for; 0: it is the first
        heartbeat: float = 1.0,
        session_expiry: float = 10.0,
        node_suspect: float = 3.0,
        node_grace: float = 30.0,
        max_sessions: int = 65536,
        max_connections: int = 16384,
        tls: Mapping[str, str] | None = None,  # paths as for Client
    ) -> None: ...
    @classmethod
    def from_conf(cls, path: str = "", settings: Mapping[str, str] | None = None) -> MetaService:
        """One with the settings of a conf file of mmc_meta_service ("": all defaults), and those of a mapping of its
        keys to texts on top. What the file says of logs has no effect. Raises ConfigError, which names file, line and
        key."""
    @staticmethod
    def read_conf(path: str = "", settings: Mapping[str, str] | None = None) -> tuple[dict[str, str], list[str]]:
        """({key: text} of all settings, warnings) that from_conf() would take. Raises ConfigError."""
    @staticmethod
    def setup(config: Any) -> int:
        """MetaService.setup of memcache_hybrid, for programs that still import it from here."""
    @staticmethod
    def main() -> int:
        """MetaService.main of memcache_hybrid, for programs that still import it from here."""
    @property
    def url(self) -> str: ...  # with the port that was taken
    @property
    def port(self) -> int: ...
    @property
    def http_port(self) -> int: ...  # 0 without pages
    @property
    def running(self) -> bool: ...
    def metrics(self) -> str:
        """In the Prometheus text format."""
    def drain(self, node: str, *, cancel: bool = False) -> None:
        """Begins to empty a node, or gives it up: see the states and drain_left_* of NodeInfo. NotFoundError."""
    def stop(self, timeout: float = 5.0) -> None:
        """Idempotent."""
    def __enter__(self) -> MetaService: ...
    def __exit__(self, *exc: object) -> None: ...

class LocalService:
    """A node inside this process: lends memory to a pool; a member of it when the constructor returns."""
    def __init__(
        self,
        meta_url: str = "tcp://127.0.0.1:5000",
        *,
        dram: _Size = "128MB",  # rounded up to 2 MiB
        name: str = "",  # "": host name and port of the data endpoint
        join_timeout: float = 60.0,
        data_url: str = "tcp://127.0.0.1:0",  # port 0: a free one
        tcp: bool = True,
        tcp_threads: int = 2,
        tcp_congestion_control: str = "",
        shm: bool = True,
        shm_directory: str = "",  # "": the default one
        shm_group: str = "",
        shm_group_writes: bool = True,
        numa_node: int = -1,
        hugepages: bool = True,
        prefault: bool = False,
        catalog_directory: str = "/dev/shm",
        tls: Mapping[str, str] | None = None,  # paths as for Client; certificates of role local
        data_tls: Mapping[str, str] | None = None,  # of values over TCP
        data_tickets: bool = True,  # with both: requests need tickets of the meta service
        client_access: str = "write",  # "none", "read" or "write": what holders of certificates of a role may do over
        admin_access: str = "write",  # TCP, with data_tls
        local_access: str = "read",
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def running(self) -> bool: ...
    @property
    def endpoints(self) -> list[str]: ...  # "tcp 127.0.0.1:7000"
    def stop(self, timeout: float = 5.0) -> None:
        """Leaves the pool: what was stored here is gone. Idempotent."""
    def __enter__(self) -> LocalService: ...
    def __exit__(self, *exc: object) -> None: ...

class Cluster:
    """A whole pool inside this process that other processes of this machine may use too."""
    def __init__(self, meta: MetaService, nodes: list[LocalService]) -> None: ...
    @staticmethod
    def local(dram: _Size = "1GB", *, nodes: int = 1, **meta_options: Any) -> Cluster:
        """`dram` per node. Listens on free ports of 127.0.0.1."""
    meta_url: str
    meta: MetaService
    nodes: list[LocalService]
    def client(self, **options: Any) -> Client: ...
    def async_client(self, **options: Any) -> AsyncClient: ...
    def close(self) -> None: ...
    def __enter__(self) -> Cluster: ...
    def __exit__(self, *exc: object) -> None: ...

def run_meta_service(url: str = "tcp://127.0.0.1:5000", *, stop: Any = None, **options: Any) -> None:
    """A MetaService with these options until `stop` (a threading.Event) is set, or KeyboardInterrupt."""

def parse_size(size: _Size) -> int:
    """Bytes of "1GB", "512 MiB", 4096: powers of 1024."""

def readable(addresses: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether this process can read the first and last byte of all these pieces of memory. True as well when the system
    does not allow to ask."""

# Of the drop-in package memcache_hybrid, for programs that still import them from here.
DistributedObjectStore: Any
KeyInfo: Any
LocalConfig: Any
MetaConfig: Any
ReplicateConfig: Any

def binary(name: str) -> str:
    """Path of "mmc", "mmc_meta_service" or "mmc_local_service": of this package, else of $MMC_BIN_DIR or $PATH."""
