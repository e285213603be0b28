"""Partitions between hosts that are network namespaces: cables unplugged, packets dropped in one direction or both,
between
client and meta service, node and meta service, client and node."""
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import netns
import pytest
from cluster import BIN, LOCAL, META, Daemon, clean_environment, eventually
from pool import TIMES, Worker

HOSTS = ("meta", "node-0", "node-1", "client", "admin")
KEYS = {f"key-{number}": 3000 + 20_000 * number for number in range(8)}


class HostDaemon(Daemon):
    def __init__(self, lab, host, *args):
        super().__init__(*args)
        self.lab, self.host = lab, host

    def command(self):
        return [*self.lab.inside(self.host), *super().command()]


class HostPool:
    """A meta service, two nodes and clients, each on a host of its own. "admin" is never cut off."""

    def __init__(self, lab, meta_settings=()):
        self.lab = lab
        self.folder = Path(tempfile.mkdtemp(prefix="mmc-part-"))
        self.memory = Path(tempfile.mkdtemp(prefix="mmc-part-", dir="/dev/shm"))
        self.url = f"tcp://{lab.address('meta')}:5000"
        self.workers = []
        self.daemons = [self._daemon("meta", META, {
            **TIMES, "ock.mmc.meta_service_url": self.url, "ock.mmc.meta_service.metrics_url": "",
            **dict(meta_settings)})]
        for host in ("node-0", "node-1"):
            self.daemons.append(self._daemon(host, LOCAL, {
                "ock.mmc.meta_service_url": self.url,
                "ock.mmc.local_service.name": f"{host}.{self.folder.name}",
                "ock.mmc.local_service.dram.size": "16MB",
                "ock.mmc.local_service.hcom_url": f"tcp://{lab.address(host)}:7000",
                "ock.mmc.local_service.shm.enable": "false",  # hosts share no memory
                "ock.mmc.local_service.segment.directory": str(self.memory),
                "ock.mmc.local_service.catalog.directory": str(self.memory)}))

    def _daemon(self, host, program, settings):
        return HostDaemon(self.lab, host, program, self.folder / host, settings)

    def start(self):
        for daemon in self.daemons:
            daemon.start()
        return self

    def worker(self, host, **options):
        made = Worker(self.lab.inside(host))
        self.workers.append(made)
        made.connect(self.url, same_host=False, **options)
        return made

    def status(self):
        done = subprocess.run([*self.lab.inside("admin"), str(BIN / "mmc"), "--meta", self.url, "--json", "status"],
                              capture_output=True, text=True, timeout=30, env=clean_environment(), check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def state(self, host):
        done = subprocess.run([*self.lab.inside("admin"), str(BIN / "mmc"), "--meta", self.url, "--json", "nodes"],
                              capture_output=True, text=True, timeout=30, env=clean_environment(), check=False)
        assert done.returncode == 0, done.stderr
        return next((node["state"] for node in json.loads(done.stdout)["nodes"]
                     if node["name"].startswith(host + ".")), None)

    def wait_state(self, host, state):
        eventually(lambda: self.state(host) == state, f"{host} {state}")

    def cleanup(self):
        for worker in self.workers:
            worker.close()
        for daemon in self.daemons:
            daemon.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.memory, ignore_errors=True)


@pytest.fixture
def hosts(request):
    try:
        with netns.Lab(HOSTS) as lab:
            made = HostPool(lab, getattr(request, "param", ()))
            try:
                yield made.start()
            finally:
                made.cleanup()
    except netns.Unavailable as why:
        pytest.skip(f"no network namespaces here: {why}")


SHORT_GRACE = pytest.mark.parametrize("hosts", [{"ock.mmc.meta.node_grace_milliseconds": "1500"}], indirect=True)


def put_all(worker, replicas=2, nodes=()):
    for number, (key, size) in enumerate(KEYS.items()):
        answer = worker.ask(do="put", key=key, version=number, size=size, replicas=replicas, nodes=list(nodes))
        assert answer["code"] == "OK", answer


def check_all(worker, also=("OK",)):
    """Every key, whole and right; `also`: other answers that are no lie here."""
    for number, key in enumerate(KEYS):
        answer = worker.ask(do="get", key=key, timeout=30)
        assert answer["found"] == number or answer["code"] in also, f"{key}: {answer}"


@SHORT_GRACE
def test_a_node_is_unplugged_until_it_is_dead_and_comes_back(hosts):
    client = hosts.worker("client", timeout=30)
    put_all(client)
    with hosts.lab.unplugged("node-0"):
        check_all(client)
        hosts.wait_state("node-0", "dead")
        check_all(client)
        assert client.ask(do="put", key="meanwhile", version=1, size=5000)["code"] == "OK"
    hosts.wait_state("node-0", "serving")
    check_all(client)
    # Objects get back the replicas they have lost.
    eventually(lambda: hosts.status()["under_replicated"] == 0, "all replicas again")
    with hosts.lab.unplugged("node-1"):
        check_all(client)


@pytest.mark.parametrize("both_ways", [True, False], ids=["drop", "one-way"])
def test_a_client_that_the_meta_service_does_not_hear(hosts, both_ways):
    client, admin = hosts.worker("client", timeout=60), hosts.worker("admin")
    put_all(client)
    with hosts.lab.dropped("client", "meta", both_ways):
        client.tell(do="put", key="late", version=1, size=70_000, timeout=60)
        # Itself and this command: the client's session is over.
        eventually(lambda: hosts.status()["sessions"] <= 2, "its session to expire")
        assert admin.ask(do="put", key="other", version=1, size=70_000)["code"] == "OK"
    answer = client.answer()
    assert answer["code"] == "OK", answer
    for key in ("late", "other"):
        assert admin.ask(do="get", key=key)["found"] == 1
    check_all(client)


@pytest.mark.parametrize("both_ways", [True, False], ids=["drop", "one-way"])
@SHORT_GRACE
def test_a_node_that_the_meta_service_does_not_hear(hosts, both_ways):
    """It is dead for the meta service, and still there for the client that writes to it: what the client is told
    holds."""
    client = hosts.worker("client", timeout=30)
    put_all(client)
    with hosts.lab.dropped("node-0", "meta", both_ways):
        answers = {}
        deadline = time.monotonic() + 60
        while hosts.state("node-0") != "dead":
            assert time.monotonic() < deadline, "node-0 is not dead"
            key = f"during-{len(answers)}"
            answers[key] = client.ask(do="put", key=key, version=7, size=9000)["code"]
            check_all(client)
    hosts.wait_state("node-0", "serving")
    check_all(client)
    assert set(answers.values()) <= {"OK"}, answers
    for key in answers:
        # One replica: with node-0 it was lost, or it is right.
        answer = client.ask(do="get", key=key)
        assert answer["found"] == 7 or answer["code"] == "NOT_FOUND", answer
    eventually(lambda: hosts.status()["under_replicated"] == 0, "all replicas again")


def test_a_client_that_does_not_reach_a_node(hosts):
    client, admin = hosts.worker("client", timeout=60), hosts.worker("admin")
    put_all(client)
    where = {"nodes": [f"node-0.{hosts.folder.name}"]}
    assert client.ask(do="put", key="only-there", version=1, size=9000, **where)["code"] == "OK"
    with hosts.lab.dropped("client", "node-0"):
        answer = client.ask(do="get", key="only-there", timeout=2)
        assert answer["code"] in ("REPLICAS_LOST", "DEADLINE", "PEER_UNREACHABLE"), answer
        check_all(client)
        assert client.ask(do="put", key="around", version=1, size=40_000, timeout=60)["code"] == "OK"
        check_all(admin)
    eventually(lambda: hosts.state("node-0") == "serving", "node-0 to be placed on again")
    check_all(client)
    assert client.ask(do="get", key="only-there", timeout=30)["found"] == 1
    assert admin.ask(do="get", key="around")["found"] == 1
    assert client.ask(do="put", key="after", version=2, size=40_000, replicas=2)["code"] == "OK"
