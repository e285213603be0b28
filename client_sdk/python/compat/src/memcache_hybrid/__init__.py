"""The module memcache_hybrid on top of pymmc: DistributedObjectStore and its configuration, a meta service.

Methods answer the integers of the original (0, or a negative code) and do not raise for what happens to a key. All may
be called from any thread, and release the GIL while they wait or copy. docs/compat_memcache.md says what differs.
"""
from ._config import LocalConfig, MetaConfig
from ._meta import MetaService
from ._store import DistributedObjectStore
from ._types import KeyInfo, ReplicateConfig

# Directions. "L" is memory of the caller's device, "H" of its host, "G" the pool; the kind of memory is seen from the
# address, so that L and H do the same.
COPY_L2G = L2G = 0
COPY_G2L = G2L = 1
COPY_G2H = G2H = 2
COPY_H2G = H2G = 3
COPY_AUTO = AUTO = 9

__all__ = ["AUTO", "COPY_AUTO", "COPY_G2H", "COPY_G2L", "COPY_H2G", "COPY_L2G", "G2H", "G2L", "H2G", "L2G",
           "DistributedObjectStore", "KeyInfo", "LocalConfig", "MetaConfig", "MetaService",
           "ReplicateConfig"]
