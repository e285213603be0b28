"""memcache_hybrid under its older name."""
from memcache_hybrid import *  # noqa: F403
from memcache_hybrid import __all__  # noqa: F401
