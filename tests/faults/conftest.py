"""Fixtures of the fault tests: pools behind proxies. What the daemons said is shown with a failed test."""
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

from pool import FaultPool, programs  # noqa: E402  (the folders must be on the path first)


def pytest_configure(config):
    del config
    for program in programs():
        if not program.is_file():
            raise pytest.UsageError(f"{program} is not there: build it, or set MMC_BIN_DIR to its folder")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    pool = item.funcargs.get("pool") if hasattr(item, "funcargs") else None
    if call.when == "call" and report.failed and pool is not None:
        for daemon in [pool.meta, *pool.locals]:
            if daemon is not None:
                report.sections.append((f"stderr of {daemon.folder.name}", daemon.stderr()[-6000:]))


@pytest.fixture
def pool():
    """An empty pool: the test starts it; everything is ended afterwards."""
    made = FaultPool()
    yield made
    made.cleanup()
