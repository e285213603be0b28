"""Pools for the tests of pymmc: inside the process, on its sockets, and of real daemons."""
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import pymmc

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import certs  # noqa: E402  (the folder must be on the path first)
import cluster as daemons  # noqa: E402


class Pool:
    """One pool, and how to connect to it."""

    def __init__(self, meta_url, settings=()):
        self.meta_url = meta_url
        self.settings = dict(settings)

    def client(self, **options):
        return pymmc.Client(self.meta_url, **{**self.settings, **options})


class Certificates:
    """Files of make_certs, as the option `tls` of pymmc wants them."""

    def __init__(self, folder):
        self._folder = folder
        certs.make_certs("--node", "node", folder)

    def files(self, role):
        names = {"ca_path": "ca.cert.pem", "crl_path": "ca.crl.pem", "cert_path": f"{role}.cert.pem",
                 "key_path": f"{role}.key.pem"}
        return {option: str(self._folder / name) for option, name in names.items()}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """One authority; "node" is the node in the certificate of role local."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def daemon_pool():
    """A meta service and two nodes, as processes."""
    made = daemons.Cluster()
    try:
        made.start(nodes=2, dram="128MB")
        yield Pool(made.meta.url)
    finally:
        made.cleanup()


@pytest.fixture(scope="session")
def cluster_pool():
    with pymmc.Cluster.local("128MB", nodes=2) as made:
        yield Pool(made.meta_url)


@pytest.fixture(params=["embedded", "cluster", "daemons", "daemons over tcp"])
def client(request):
    """A client of each kind of pool. Pools are shared: keys are the test's own (`key`)."""
    if request.param == "embedded":
        made = pymmc.Client("local://?dram=256MB")
    elif request.param == "cluster":
        made = request.getfixturevalue("cluster_pool").client()
    elif request.param == "daemons":
        made = request.getfixturevalue("daemon_pool").client()
    else:
        made = request.getfixturevalue("daemon_pool").client(same_host=False)
    with made:
        yield made


@pytest.fixture
def local():
    """A client of a pool of its own."""
    with pymmc.Client("local://?dram=64MB") as made:
        yield made


@pytest.fixture
def key():
    """A prefix for keys that nobody else uses."""
    return f"test/{uuid.uuid4().hex}"


@pytest.fixture
def run_python():
    """Runs a script in an interpreter of its own: (exit code, stdout, stderr)."""

    def run(script, timeout=60):
        done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", script], capture_output=True, text=True,
                              timeout=timeout, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def eventually():
    return daemons.eventually
