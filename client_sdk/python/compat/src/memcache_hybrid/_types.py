"""What the store's calls take and answer besides integers."""
import operator

MEDIA_HBM = 0
MEDIA_DRAM = 1
MEDIA_SSD = 2

_MEDIA = {"hbm": MEDIA_HBM, "dram": MEDIA_DRAM, "ssd": MEDIA_SSD}


class ReplicateConfig:
    """How a put replicates: replicaNum (1 to 8) copies, on the local services of preferredLocalServiceIDs first."""

    __slots__ = ("replicaNum", "preferredLocalServiceIDs")

    def __init__(self):
        self.replicaNum = 1
        self.preferredLocalServiceIDs = []

    def __setattr__(self, name, value):
        if name == "replicaNum":
            value = operator.index(value)
        elif name == "preferredLocalServiceIDs":
            value = [operator.index(one) for one in value]
        object.__setattr__(self, name, value)

    def __repr__(self):
        return (f"ReplicateConfig(replicaNum={self.replicaNum}, "
                f"preferredLocalServiceIDs={self.preferredLocalServiceIDs})")


class KeyInfo:
    """Size and places of a value; a key that is not there has size 0 and no places. Comes from get_key_info only."""

    __slots__ = ("_size", "_locations", "_media", "_gvas")

    def __new__(cls, *args, **kwargs):
        raise TypeError("memcache_hybrid.KeyInfo: No constructor defined!")

    @classmethod
    def _make(cls, size=0, locations=(), media=(), gvas=None):
        """gvas: called for the addresses when they are asked for."""
        made = object.__new__(cls)
        made._size = size
        made._locations = list(locations)
        made._media = [_MEDIA.get(name.lower(), MEDIA_DRAM) for name in media]
        made._gvas = gvas
        return made

    def size(self):
        """Bytes."""
        return self._size

    def loc_list(self):
        """The ids of the local services that hold a copy."""
        return list(self._locations)

    def type_list(self):
        """The medium of each copy: 0 HBM, 1 DRAM, 2 SSD."""
        return list(self._media)

    def gva_list(self):
        """An address of each copy for batch_copy, valid in this process; [] when there are none."""
        if self._gvas is None:
            return []
        return [self._gvas()] * len(self._locations)

    def __str__(self):
        locations = "".join(f"{value}," for value in self._locations)
        media = "".join(f"{value}," for value in self._media)
        return f"loc:{locations} type:{media} blobNum:{len(self._locations)}, size:{self._size}"

    __repr__ = __str__
