"""The programs that come with the package: where they are, and commands that run them."""
import os
import shutil
import sys

PROGRAMS = ("mmc", "mmc_meta_service", "mmc_local_service")


def binary(name):
    """Path of "mmc", "mmc_meta_service" or "mmc_local_service": of this package, else of $MMC_BIN_DIR or $PATH.

    Raises ValueError for another name, FileNotFoundError.
    """
    if name not in PROGRAMS:
        raise ValueError(f"{name!r} is none of {', '.join(PROGRAMS)}")
    places = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin"), os.environ.get("MMC_BIN_DIR")]
    for place in filter(None, places):
        path = os.path.join(place, name)
        if os.access(path, os.X_OK):
            return path
    own = os.path.realpath(sys.argv[0]) if sys.argv and sys.argv[0] else ""
    path = shutil.which(name)
    if path is not None and os.path.realpath(path) != own:
        return path
    raise FileNotFoundError(f"{name} is not in the package, $MMC_BIN_DIR or $PATH")


def _run(name):
    path = binary(name)
    os.execv(path, [name, *sys.argv[1:]])


def mmc():
    """The command `mmc`."""
    _run("mmc")


def mmc_meta_service():
    """The command `mmc_meta_service`."""
    _run("mmc_meta_service")


def mmc_local_service():
    """The command `mmc_local_service`."""
    _run("mmc_local_service")
