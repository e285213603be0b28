"""Codes, what to do about them, and the exceptions they become."""
import enum

from . import _pymmc

__all__ = [
    "ClosedError", "Code", "ConfigError", "DataLostError", "DeadlineError", "ExistsError", "InvalidArgumentError",
    "MmcError", "NoSpaceError", "NotFoundError", "OutOfRangeError", "QueueFullError", "Recovery", "SizeMismatchError",
    "TooLargeError", "UnavailableError", "UnsupportedError",
]


class Recovery(str, enum.Enum):
    """What a caller should do about a code."""

    NONE = "none"  # final: report it
    BACKOFF = "backoff"  # the same call again, later
    REFRESH = "refresh"  # look the location up again, then retry
    RECONNECT = "reconnect"  # make a new client, then retry
    ASK_OUTCOME = "ask_outcome"  # the effect is unknown: ask before doing it again
    DROP_REPLICA = "drop_replica"  # read another replica


Code = enum.IntEnum("Code", [(name, number) for name, number, _, _ in _pymmc.CODES], module=__package__)
Code.__doc__ = "Status codes; the numbers are those of the wire and never change."
_MEANING = {number: meaning for _, number, meaning, _ in _pymmc.CODES}
_RECOVERY = {number: Recovery(recovery) for _, number, _, recovery in _pymmc.CODES}
Code.meaning = property(lambda self: _MEANING[int(self)])
Code.recovery = property(lambda self: _RECOVERY[int(self)])


class MmcError(Exception):
    """A call failed: code, recovery, message, and the key when it is about one."""

    def __init__(self, code, message="", key=None):
        self.code = Code(code)
        self.recovery = self.code.recovery
        self.message = message or self.code.meaning
        self.key = key
        about = "" if key is None else f" (key {key!r})"
        super().__init__(f"{self.code.name}: {self.message}{about}")

    def __reduce__(self):
        return type(self), (int(self.code), self.message, self.key)


class InvalidArgumentError(MmcError, ValueError):
    """The request itself is wrong."""


class ConfigError(MmcError, ValueError):
    """An option of a service is wrong."""


class UnsupportedError(MmcError):
    """This build, peer or machine cannot do it."""


class NotFoundError(MmcError, LookupError):
    """No such key."""


class ExistsError(MmcError):
    """The key is there already; its value stays."""


class NoSpaceError(MmcError):
    """No room in the pool, or no node that could hold it."""


class TooLargeError(MmcError, ValueError):
    """A key, value or batch is over its limit."""


class SizeMismatchError(MmcError, ValueError):
    """The buffers do not match the value's size."""


class OutOfRangeError(MmcError, IndexError):
    """An offset is behind the end of the value."""


class DeadlineError(MmcError, TimeoutError):
    """The time given was over; the effect is unknown."""


class QueueFullError(MmcError):
    """Too many calls wait already; nothing was started."""


class ClosedError(MmcError):
    """The client or service is closed."""


class UnavailableError(MmcError, ConnectionError):
    """A service cannot be reached."""


class DataLostError(MmcError):
    """The value is known but cannot be read or kept any more."""


_ERRORS = {
    Code.INVALID_ARGUMENT: InvalidArgumentError,
    Code.CONFIG: ConfigError,
    Code.UNSUPPORTED: UnsupportedError,
    Code.NOT_FOUND: NotFoundError,
    Code.EXISTS: ExistsError,
    Code.NO_SPACE: NoSpaceError,
    Code.NO_NODE: NoSpaceError,
    Code.TOO_LARGE: TooLargeError,
    Code.SIZE_MISMATCH: SizeMismatchError,
    Code.OUT_OF_RANGE: OutOfRangeError,
    Code.DEADLINE: DeadlineError,
    Code.QUEUE_FULL: QueueFullError,
    Code.CLOSED: ClosedError,
    Code.CANCELLED: ClosedError,
    Code.SHUTTING_DOWN: ClosedError,
    Code.UNAVAILABLE: UnavailableError,
    Code.CONNECTION_LOST: UnavailableError,
    Code.PEER_UNREACHABLE: UnavailableError,
    Code.SESSION_LOST: UnavailableError,
    Code.REPLICAS_LOST: DataLostError,
    Code.CORRUPT: DataLostError,
    Code.GRANT_LOST: DataLostError,
}


def error_for(code, message, key):
    """The exception of a code."""
    return _ERRORS.get(code, MmcError)(code, message, key)


def was_stored(status, key):
    """The answer of put_one(): False when the key was there already. Raises MmcError."""
    if status == Code.EXISTS:
        return False
    status.raise_for_error(key)
    return True


def value_of(result, key):
    """The answer of get_one(), of a pair of get_results(). Raises MmcError."""
    status, value = result
    status.raise_for_error(key)
    return value


_pymmc.set_types(Code, Recovery, error_for)
