"""Fixtures of the end-to-end tests. A failed test shows what its daemons said."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cluster import BIN, LOCAL, META, Cluster  # noqa: E402  (the folder must be on the path first)


def pytest_configure(config):
    del config
    for name in (META, LOCAL, "mmc"):
        if not (BIN / name).is_file():
            raise pytest.UsageError(f"{BIN / name} is not there: build it, or set MMC_BIN_DIR to its folder")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    cluster = item.funcargs.get("cluster") if hasattr(item, "funcargs") else None
    if call.when == "call" and report.failed and cluster is not None:
        for daemon in [cluster.meta, *cluster.locals]:
            if daemon is not None:
                report.sections.append((f"stderr of {daemon.folder.name}", daemon.stderr()[-4000:]))


@pytest.fixture
def cluster():
    """An empty cluster: the test starts what it needs; everything is ended afterwards."""
    made = Cluster()
    yield made
    made.cleanup()


@pytest.fixture(scope="module")
def shared_cluster():
    """Two nodes for tests that only look, or use keys of their own."""
    made = Cluster()
    try:
        yield made.start(nodes=2)
    finally:
        made.cleanup()
