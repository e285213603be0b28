"""Reads the catalog file of a node that runs, after docs/wire_format.md and without the product's own reader. It may be
written meanwhile: what is read twice the same, while nothing happens, is what it says."""
import struct
from collections import namedtuple

HEADER_BYTES, SLOT_BYTES, SLOT_STEP = 4096, 64, 64
LIVE = 0x4556494C
SLOT = struct.Struct("<4sIQIHBxIIQQQQ")
assert SLOT.size == SLOT_BYTES
UNIT_BYTES = 4096  # space is given out in these

Record = namedtuple("Record", "key generation segment size extents")


class BadCatalog(Exception):
    pass


def read(path):
    """The live records, in the order of the file."""
    data = path.read_bytes()
    if data[:8] != b"MMCCTLG1":
        raise BadCatalog(f"{path} begins with {data[:8]!r}")
    used, _, missing = struct.unpack_from("<QQQ", data, 2896)
    if missing:
        raise BadCatalog(f"{path}: {missing} records found no room")
    end = HEADER_BYTES + used
    records, at = [], HEADER_BYTES
    while at + SLOT_BYTES <= min(end, len(data)):
        magic, capacity, _, state, key_bytes, _, extents, segment, generation, size, _, _ = SLOT.unpack_from(data, at)
        if magic != b"SLOT":
            at += SLOT_STEP
            continue
        if state == LIVE:
            start = at + SLOT_BYTES
            where = start + (key_bytes + 7) // 8 * 8
            pairs = [struct.unpack_from("<QQ", data, where + 16 * i) for i in range(extents)]
            records.append(Record(data[start:start + key_bytes].decode(), generation, segment, size, pairs))
        at += capacity
    return records


def space(records):
    """Bytes of memory that these records claim. No two of them may claim the same."""
    claimed = set()
    for record in records:
        for offset, length in record.extents:
            units = {(record.segment, unit) for unit in range(offset // UNIT_BYTES,
                                                              -(-(offset + length) // UNIT_BYTES))}
            if units & claimed:
                raise BadCatalog(f"{record.key} claims bytes of another record at {offset}")
            claimed |= units
    return len(claimed) * UNIT_BYTES
