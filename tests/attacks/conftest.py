"""Fixtures of the attacks: real daemons, as in the end-to-end tests; what they cost is printed with -s."""
import resource
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "e2e")]

from cluster import Cluster  # noqa: E402  (the folder must be on the path first)


def pytest_configure(config):
    del config
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the daemons inherit it


@pytest.fixture
def cluster():
    made = Cluster()
    yield made
    made.cleanup()
