"""The modules of this name that clients import, on top of pymmc: store, engine, mooncake_config and the commands' own.

Modules of an installed package of the same name that are not here can still be imported.
"""
import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)

_POOL_NAMES = ("BufferPool", "RegisteredBufferPool", "RegisteredBufferLease", "RegisteredBufferLeaseView")
__all__ = list(_POOL_NAMES)


def __getattr__(name):
    if name in _POOL_NAMES:
        from . import _buffers
        value = getattr(_buffers, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mooncake' has no attribute {name!r}")
