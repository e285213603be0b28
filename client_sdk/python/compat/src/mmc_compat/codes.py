"""The codes of the stores that the drop-in modules stand in for, from those of pymmc: one table."""
from pymmc import Code

# mooncake: all integers, 0 or negative.
MOONCAKE_OK = 0
MOONCAKE_SEGMENT_NOT_FOUND = -101
MOONCAKE_NO_AVAILABLE_HANDLE = -200
MOONCAKE_INVALID_PARAMS = -600
MOONCAKE_INVALID_REPLICA = -702
MOONCAKE_OBJECT_NOT_FOUND = -704
MOONCAKE_OBJECT_HAS_LEASE = -706
MOONCAKE_TRANSFER_FAIL = -800
MOONCAKE_RPC_FAIL = -900
MOONCAKE_NOT_SUPPORTED = -1012
MOONCAKE_FILE_NOT_FOUND = -1100
MOONCAKE_FILE_READ_FAIL = -1102
MOONCAKE_FILE_WRITE_FAIL = -1103
MOONCAKE_JOB_NOT_FOUND = -1402
MOONCAKE_TASK_NOT_FOUND = -1400

# memcache: results are 0 or negative.
MEMCACHE_OK = 0
MEMCACHE_ERROR = -1
MEMCACHE_INVALID_PARAM = -3000
MEMCACHE_DUPLICATED_OBJECT = -3006
MEMCACHE_NOT_ENOUGH_MEMORY = -3016
MEMCACHE_NOT_CONNECTED_TO_META = -3017
MEMCACHE_NOT_CONNECTED_TO_LOCAL = -3018
MEMCACHE_CLIENT_NOT_INIT = -3019
MEMCACHE_UNMATCHED_STATE = -3101
MEMCACHE_UNMATCHED_KEY = -3102
MEMCACHE_WRITE_READABLE_BLOB = -3108

# (of pymmc, of mooncake, of memcache)
_TABLE = (
    (Code.OK, MOONCAKE_OK, MEMCACHE_OK),
    (Code.INVALID_ARGUMENT, MOONCAKE_INVALID_PARAMS, MEMCACHE_INVALID_PARAM),
    (Code.INTERNAL, -1, MEMCACHE_ERROR),
    (Code.UNSUPPORTED, MOONCAKE_NOT_SUPPORTED, MEMCACHE_ERROR),
    (Code.CONFIG, MOONCAKE_INVALID_PARAMS, MEMCACHE_INVALID_PARAM),
    (Code.PERMISSION, -601, MEMCACHE_ERROR),
    (Code.IO, MOONCAKE_TRANSFER_FAIL, MEMCACHE_ERROR),
    (Code.NOT_FOUND, MOONCAKE_OBJECT_NOT_FOUND, MEMCACHE_UNMATCHED_KEY),
    (Code.QUEUE_FULL, -1010, -3013),
    (Code.DEADLINE, -901, -3004),
    (Code.CANCELLED, MOONCAKE_RPC_FAIL, MEMCACHE_ERROR),
    (Code.CLOSED, MOONCAKE_INVALID_PARAMS, MEMCACHE_CLIENT_NOT_INIT),
    (Code.UNAVAILABLE, MOONCAKE_RPC_FAIL, MEMCACHE_NOT_CONNECTED_TO_META),
    (Code.CONNECTION_LOST, MOONCAKE_RPC_FAIL, MEMCACHE_NOT_CONNECTED_TO_META),
    (Code.UNKNOWN_METHOD, MOONCAKE_NOT_SUPPORTED, MEMCACHE_ERROR),
    (Code.BAD_VERSION, -300, MEMCACHE_ERROR),
    (Code.TOO_LARGE, MOONCAKE_INVALID_PARAMS, MEMCACHE_INVALID_PARAM),
    (Code.MALFORMED, MOONCAKE_RPC_FAIL, MEMCACHE_ERROR),
    (Code.SHUTTING_DOWN, -1010, MEMCACHE_NOT_CONNECTED_TO_META),
    (Code.NOT_LEADER, -1011, MEMCACHE_NOT_CONNECTED_TO_META),
    (Code.RECOVERING, -1010, -3003),
    (Code.EXISTS, -705, MEMCACHE_DUPLICATED_OBJECT),
    (Code.BEING_WRITTEN, -703, MEMCACHE_UNMATCHED_STATE),
    (Code.NO_SPACE, MOONCAKE_NO_AVAILABLE_HANDLE, MEMCACHE_NOT_ENOUGH_MEMORY),
    (Code.NO_NODE, MOONCAKE_NO_AVAILABLE_HANDLE, MEMCACHE_NOT_ENOUGH_MEMORY),
    (Code.GRANT_LOST, -500, MEMCACHE_UNMATCHED_STATE),
    (Code.SIZE_MISMATCH, MOONCAKE_INVALID_PARAMS, MEMCACHE_ERROR),
    (Code.LEASE_EXPIRED, -707, -3106),
    (Code.SESSION_LOST, -103, MEMCACHE_NOT_CONNECTED_TO_META),
    (Code.STALE_NODE, MOONCAKE_SEGMENT_NOT_FOUND, MEMCACHE_NOT_CONNECTED_TO_LOCAL),
    # Clients of mooncake stop their process at codes that leave open whether bytes still move (TRANSFER_FAIL): when a
    # call of ours has answered, none do, so a replica that cannot be had is one of those that they take for a miss.
    (Code.REPLICAS_LOST, MOONCAKE_INVALID_REPLICA, -3007),
    (Code.STALE_REGION, MOONCAKE_INVALID_REPLICA, MEMCACHE_NOT_CONNECTED_TO_LOCAL),
    (Code.PEER_UNREACHABLE, MOONCAKE_RPC_FAIL, MEMCACHE_NOT_CONNECTED_TO_LOCAL),
    (Code.OUT_OF_RANGE, MOONCAKE_INVALID_PARAMS, MEMCACHE_INVALID_PARAM),
    (Code.READ_ONLY, -700, MEMCACHE_ERROR),
    (Code.UNCONFIRMED, MOONCAKE_TRANSFER_FAIL, MEMCACHE_NOT_CONNECTED_TO_LOCAL),
    (Code.CORRUPT, -801, MEMCACHE_ERROR),
)


class _Codes:
    """The codes of one store. Its calls take a pymmc code, or the int of one."""

    # Both stores call a put of a key that is there, or that another writer is just putting, a success.
    _TAKEN = (Code.EXISTS, Code.BEING_WRITTEN)

    def __init__(self, column, other):
        self._codes = {row[0]: row[column] for row in _TABLE}
        self._other = other

    def code(self, code):
        return self._codes.get(code, self._other)

    def put_code(self, code):
        """The same for the outcome of a put."""
        return self._codes[Code.OK] if code in self._TAKEN else self.code(code)


_mooncake, _memcache = _Codes(1, -1), _Codes(2, MEMCACHE_ERROR)
mooncake_code, mooncake_put_code = _mooncake.code, _mooncake.put_code
memcache_code, memcache_put_code = _memcache.code, _memcache.put_code


def memcache_get_code(code):
    """The same for a get: a key that is not there is -1."""
    return MEMCACHE_ERROR if code in (Code.NOT_FOUND, Code.BEING_WRITTEN) else memcache_code(code)
