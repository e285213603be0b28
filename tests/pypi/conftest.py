"""Pools for the tests with real packages: our services and commands, as the package under test finds them."""
import sys
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import pymmc  # noqa: E402
from mooncake_support import Master, daemons  # noqa: E402


@pytest.fixture(scope="session")
def master():
    made = Master()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def meta():
    """A meta service and a node that lends memory."""
    with pymmc.Cluster.local("256MB") as made:
        yield type("Meta", (), {"url": made.meta_url})


@pytest.fixture
def key():
    return f"test/{uuid.uuid4().hex}"


@pytest.fixture
def eventually():
    return daemons.eventually
