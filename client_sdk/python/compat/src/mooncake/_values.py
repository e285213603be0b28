"""Enums and value classes of mooncake.store."""
import copy
import enum
import operator


class ObjectDataType(enum.IntEnum):
    UNKNOWN = 0
    KVCACHE = 1
    TENSOR = 2
    WEIGHT = 3
    SAMPLE = 4
    ACTIVATION = 5
    GRADIENT = 6
    OPTIMIZER_STATE = 7
    METADATA = 8
    GENERAL = 9


class SoftPinAction(enum.IntEnum):
    PRESERVE = 0
    ENABLE = 1
    DISABLE = 2


class ReplicaStatus(enum.IntEnum):
    UNDEFINED = 0
    INITIALIZED = 1
    PROCESSING = 2
    COMPLETE = 3
    REMOVED = 4
    FAILED = 5


class TaskType(enum.IntEnum):
    REPLICA_COPY = 0
    REPLICA_MOVE = 1


class TaskStatus(enum.IntEnum):
    PENDING = 0
    PROCESSING = 1
    SUCCESS = 2
    FAILED = 3


class ReplicateConfig:
    """How a put places its replicas, and how long the values stay. `replica_num`, `preferred_segment(s)`, the soft and
    hard pins and `group_ids` have an effect; the others are kept and accepted."""

    # On the class too: clients ask hasattr(ReplicateConfig, "group_ids").
    replica_num = 1
    nof_replica_num = 0
    dfs_replica_num = 0
    soft_pin_action = SoftPinAction.PRESERVE
    with_hard_pin = False
    preferred_segments = ()
    preferred_nof_segments = ()
    preferred_segment = ""
    prefer_alloc_in_same_node = False
    data_type = ObjectDataType.UNKNOWN
    group_ids = None
    _soft_pin_ttl_ms = None

    def __init__(self):
        self.preferred_segments = []
        self.preferred_nof_segments = []

    @property
    def with_soft_pin(self):
        return self.soft_pin_action == SoftPinAction.ENABLE

    @with_soft_pin.setter
    def with_soft_pin(self, wanted):
        self.soft_pin_action = SoftPinAction.ENABLE if wanted else SoftPinAction.PRESERVE

    @property
    def soft_pin_ttl_ms(self):
        return self._soft_pin_ttl_ms

    @soft_pin_ttl_ms.setter
    def soft_pin_ttl_ms(self, value):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64):
            raise TypeError(f"soft_pin_ttl_ms is None or an integer of 0 to 2^64-1, not {value!r}")
        self._soft_pin_ttl_ms = value

    def nodes(self):
        """The names of the nodes to try first."""
        names = [self.preferred_segment, *(self.preferred_segments or ())]
        return tuple(dict.fromkeys(name for name in names if name))

    def of_key(self, n, count):
        """The same for the n-th of so many keys alone."""
        if len(self.group_ids or ()) != count:
            return self
        alone = copy.copy(self)
        alone.group_ids = [self.group_ids[n]]
        return alone

    def __repr__(self):
        return (f"ReplicateConfig: {{ replica_num: {self.replica_num}, with_soft_pin: {self.with_soft_pin}, "
                f"with_hard_pin: {self.with_hard_pin}, preferred_segments: {list(self.nodes())}, "
                f"prefer_alloc_in_same_node: {self.prefer_alloc_in_same_node}, group_ids: {self.group_ids} }}")


_DEFAULT = ReplicateConfig()


def checked(config):
    """The config, or that of a call without one. TypeError for anything else."""
    if config is None:
        return _DEFAULT
    if not isinstance(config, ReplicateConfig):
        raise TypeError(f"config is a ReplicateConfig, not {config!r}")
    return config


class Placement:
    """What a ReplicateConfig asks of a put of these keys. ValueError when it cannot be, TypeError for what is none."""

    def __init__(self, config, keys):
        config = checked(config)
        replicas = operator.index(config.replica_num)
        if replicas < 1:
            raise ValueError("replica_num")
        self.replicas = min(replicas, 8)
        self.options = {"preferred_nodes": config.nodes()}
        if config.with_hard_pin:
            self.options["hard_pin"] = True
        elif config.soft_pin_action == SoftPinAction.ENABLE and config.soft_pin_ttl_ms != 0:
            self.options["soft_pin"] = (config.soft_pin_ttl_ms or 0) / 1000  # 0: the master's default
        names = list(config.group_ids or ())
        if len(names) not in (0, 1, len(keys)):
            raise ValueError("group_ids")
        if not all(isinstance(name, (str, bytes)) for name in (*names, *self.options["preferred_nodes"])):
            raise TypeError("group_ids and preferred segments are lists of text")
        self._groups = dict(zip(keys, names * len(keys) if len(names) == 1 else names))

    def options_of(self, keys):
        """Of pymmc's puts, for some of the keys."""
        return {**self.options, "groups": [self._groups[key] for key in keys]} if self._groups else self.options


class Descriptor:
    """Where a replica lies: size in bytes, the endpoint that serves it; the address is the node's own affair (0)."""

    def __init__(self, size, transport_endpoint):
        self.size = self.size_ = size
        self.buffer_address = self.buffer_address_ = 0
        self.transport_endpoint = self.transport_endpoint_ = transport_endpoint


class MemoryDescriptor:
    def __init__(self, buffer_descriptor):
        self.buffer_descriptor = buffer_descriptor


class DiskDescriptor:
    def __init__(self, file_path="", object_size=0):
        self.file_path = file_path
        self.object_size = object_size


class ReplicaDescriptor:
    """One replica; all of them are in memory."""

    def __init__(self, size, transport_endpoint):
        self.status = ReplicaStatus.COMPLETE
        self._memory = MemoryDescriptor(Descriptor(size, transport_endpoint))

    def is_memory_replica(self):
        return True

    def is_disk_replica(self):
        return False

    def is_local_disk_replica(self):
        return False

    def get_memory_descriptor(self):
        return self._memory

    def get_disk_descriptor(self):
        raise RuntimeError("a memory replica has no disk descriptor")


class QueryTaskResponse:
    def __init__(self, id=(0, 0), type=TaskType.REPLICA_COPY, status=TaskStatus.FAILED, created_at_ms_epoch=0,
                 last_updated_at_ms_epoch=0, assigned_client=(0, 0), message=""):
        self.id = id
        self.type = type
        self.status = status
        self.created_at_ms_epoch = created_at_ms_epoch
        self.last_updated_at_ms_epoch = last_updated_at_ms_epoch
        self.assigned_client = assigned_client
        self.message = message


class ParallelAxis:
    def __init__(self, kind="", rank=0, size=1, split_dim=None, expert_id=None, stage_id=None):
        self.kind = kind
        self.rank = rank
        self.size = size
        self.split_dim = split_dim
        self.expert_id = expert_id
        self.stage_id = stage_id


class TensorParallelism:
    def __init__(self, axes=()):
        self.axes = list(axes)


class ReadTarget:
    def __init__(self, mode="as_stored", parallelism=None):
        self.mode = mode
        self.parallelism = parallelism
