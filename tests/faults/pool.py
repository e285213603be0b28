"""A cluster whose every connection runs through proxies of the test, client processes that can be killed, and the check
of what must hold once the faults are over."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import catalog
import proxy
import pymmc
from cluster import BIN, Cluster, Local, clean_environment, eventually
from worker import value_of, version_of

HERE = Path(__file__).resolve().parent
ANSWER_SECONDS = 60
QUIET_SECONDS = 60

TIMES = {
    "ock.mmc.meta.heartbeat_milliseconds": "100",
    "ock.mmc.meta.lease_milliseconds": "150",
    "ock.mmc.meta.session_expiry_milliseconds": "600",
    "ock.mmc.meta.node_suspect_milliseconds": "600",
    "ock.mmc.meta.node_grace_milliseconds": "60000",
    "ock.mmc.meta.recovery_milliseconds": "0",  # at the first start: nobody can have anything
}
TCP_ONLY = {"ock.mmc.local_service.shm.enable": "false"}


class WorkerDied(Exception):
    pass


class Worker:
    """A client in a process of its own (worker.py). `prefix`: words before its command line."""

    def __init__(self, prefix=()):
        env = clean_environment(PYTHONPATH=os.environ.get("PYTHONPATH", ""))
        self.process = subprocess.Popen([*prefix, sys.executable, str(HERE / "worker.py")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=env)

    def connect(self, meta_url, **options):
        self._read()
        defaults = {"name": "worker", "timeout": 10, "connect_retry": 10, "tcp_connections": 1}
        return self.ask(meta_url=meta_url, **{**defaults, **options})

    def tell(self, **command):
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except OSError as gone:
            raise WorkerDied from gone

    def ask(self, **command):
        self.tell(**command)
        return self._read()

    def _read(self):
        line = self.process.stdout.readline()
        if not line.endswith("\n"):
            raise WorkerDied(f"exit code {self.process.wait(ANSWER_SECONDS)}")
        return json.loads(line)

    def answer(self):
        return self._read()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait(ANSWER_SECONDS)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(ANSWER_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


class FaultLocal(Local):
    """A node that says whether it has joined since its last start: the meta service takes one that was killed for there
    until its heartbeats are missing."""
    said_before = 0

    def start(self, wait=True):
        self.said_before = len(self.stderr())
        return super().start(wait)

    def joined(self):
        return "joined as node" in self.stderr()[self.said_before:]


class FaultPool(Cluster):
    """Links: "client-meta", and of each node NAME "NAME-meta" and "NAME-data"."""

    def __init__(self):
        super().__init__()
        self.network = proxy.Network()
        self.client_link = None
        self.judge = None
        self.workers = []
        self.spare = None

    def start(self, nodes=2, dram="16MB", meta_settings=(), local_settings=(), host="127.0.0.1"):
        state = self.folder / "state"
        state.mkdir()
        settings = {**TIMES, "ock.mmc.meta.state_path": str(state), **dict(meta_settings)}
        self.start_meta(settings, host)
        self.meta_address = (host, int(self.meta.url.rpartition(":")[2]))
        self.client_link = self.network.add("client-meta", self.meta_address, proxy.control())
        for number in range(nodes):
            self.add_local(f"node-{number}", dram, local_settings, host)
        # From here on a start waits for the nodes there are, and ends its wait when all of them have reported.
        text = self.meta.conf.read_text(encoding="utf-8")
        self.meta.conf.write_text(text.replace("recovery_milliseconds = 0", "recovery_milliseconds = 10000"),
                                  encoding="utf-8")
        members = state / "members"
        eventually(lambda: members.exists() and members.read_text(encoding="utf-8").count("\nnode ") == nodes,
                   "the list of nodes")
        self.judge = pymmc.Client(self.meta.url, name="judge", timeout=20, connect_retry=20, same_host=False)
        return self

    def add_local(self, name, dram="16MB", settings=(), host="127.0.0.1"):
        local = FaultLocal(self.folder / name, self.meta.url, name + self.tag, dram, settings, host, self.memory)
        data = self.network.add(f"{name}-data", (host, local.port), proxy.data)
        real, seen = (f"{host}:{port}".encode() for port in (local.port, data.port))
        assert len(real) == len(seen), "a port of another length would change the length of Join"
        meta = self.network.add(f"{name}-meta", self.meta_address,
                                proxy.control(lambda frame: frame.replace(real, seen)))
        local.conf.write_text(local.conf.read_text(encoding="utf-8").replace(self.meta.url, meta.url), encoding="utf-8")
        local.short_name = name
        self.locals.append(local.start())
        return local

    def new_worker(self):
        """A client that is not connected. The next one gets its interpreter ready meanwhile."""
        made = self.spare or Worker()
        self.spare = Worker()
        self.workers.append(made)
        return made

    def worker(self, **options):
        """A client behind the proxies."""
        made = self.new_worker()
        made.connect(self.client_link.url, **options)
        return made

    def release(self, worker):
        worker.close()
        self.workers.remove(worker)

    def put(self, key, version, size, *, replicas=1, nodes=(), timeout=30):
        """By the judge, who is not behind the proxy of the clients."""
        tagged = [name + self.tag for name in nodes]
        status, = self.judge.put([(key, value_of(key, version, size))], replicas=replicas, preferred_nodes=tagged,
                                 timeout=timeout)
        assert status.ok, f"put of {key}: {status.code.name} {status.message}"

    def proxied_cli(self, *args):
        """The command line tool behind the proxy, in the background."""
        process = subprocess.Popen([str(BIN / "mmc"), "--meta", self.client_link.url, *args], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_environment())
        self.background.append(process)
        return process

    def get(self, key, timeout=30):
        """The version found; None when there is none. Anything else than these fails."""
        (status, value), = self.judge.get_results([key], timeout=timeout)
        if status == pymmc.Code.NOT_FOUND:
            return None
        assert status.ok, f"get of {key}: {status.code.name} {status.message}"
        found = version_of(key, value)
        assert isinstance(found, int), f"get of {key}: {found}"
        return found

    def node_state(self, name):
        states = {self.untagged(node.name): node.state for node in self.judge.cluster().nodes}
        return states.get(name)

    def records(self):
        """{node: records of its catalog}"""
        return {local.short_name: catalog.read(next(self.memory.glob(f"mmc-{local.short_name}{self.tag}-*.catalog")))
                for local in self.locals}

    def unrest(self):
        """What is not as it must be when all faults are over and nothing goes on; "" when nothing is."""
        status = self.judge.cluster()
        for what in ("grants", "waiting_to_free_bytes"):
            if getattr(status, what):
                return f"{what}: {getattr(status, what)}"
        starting = [local.short_name for local in self.locals if not local.joined()]
        if starting:
            return f"nodes {starting} have not joined since they were started"
        states = {self.untagged(node.name): node.state for node in status.nodes}
        away = [local.short_name for local in self.locals if states.get(local.short_name) != "serving"]
        if away:
            return f"nodes {away} are not serving: {states}"
        records = self.records()
        claimed = sum(catalog.space(of_node) for of_node in records.values())
        if claimed != status.used_bytes:
            return f"the catalogs claim {claimed} bytes, the meta service {status.used_bytes}"
        keys = {key for key, _ in self.judge.scan()}
        recorded = {record.key for of_node in records.values() for record in of_node}
        if keys != recorded:
            return f"keys in catalogs only: {sorted(recorded - keys)}, not in any: {sorted(keys - recorded)}"
        return ""

    def settle(self):
        """Waits until nothing goes on: no grant, no space waits, and the catalogs say what the meta service says."""
        deadline = time.monotonic() + QUIET_SECONDS
        while True:
            try:
                why = self.unrest()
            except (catalog.BadCatalog, StopIteration, pymmc.MmcError, AssertionError) as error:
                why = f"{type(error).__name__}: {error}"
            if not why:
                return
            assert time.monotonic() < deadline, f"no rest {QUIET_SECONDS} s after the last fault: {why}"
            time.sleep(0.02)

    def check(self, expected):
        """`expected`: {key: versions that may be there, None for absent}. No other key may be there."""
        found = {key: self.get(key) for key, _ in self.judge.scan()}
        for key, allowed in expected.items():
            assert found.get(key) in allowed, f"{key} is {found.get(key)}, may be {sorted(allowed, key=str)}"
        strange = set(found) - set(expected)
        assert not strange, f"keys that nobody put: {sorted(strange)}"

    def unstick(self, keys, version=999_999):
        """Every key can be put and got, whatever happened to it; then it is gone."""
        for key in keys:
            self.judge.remove([key])
            self.put(key, version, 3000)
            assert self.get(key) == version
            assert self.judge.remove([key])[0].ok

    def cleanup(self):
        for worker in [*self.workers, *([self.spare] if self.spare else [])]:
            worker.close()
        if self.judge is not None:
            # It ends its session, which needs nobody when the meta service is gone.
            self.judge.close()
        super().cleanup()
        self.network.close()


class Undertaker:
    """Kills a process of the pool at a step, once, and starts it again."""

    def __init__(self, pool, step, victim, when):
        self.pool, self.step, self.victim, self.when = pool, step, victim, when
        self.lock = threading.Lock()
        self.struck = threading.Event()
        self.client = None  # the process that plays the client
        self.thread = None

    def hook(self, step):
        if step != self.step or self.struck.is_set():
            return proxy.FORWARD
        if self.when == "after":
            return self.strike
        self.strike()
        return proxy.DROP if self.when == "lost" else proxy.FORWARD

    def strike(self):
        with self.lock:
            if self.struck.is_set():
                return
            self.struck.set()
            if self.victim == "client":
                if self.client is not None:
                    self.client.kill()
                return
            daemon = self._daemon()
            daemon.kill()
            self.thread = threading.Thread(target=daemon.start, kwargs={"wait": False})
            self.thread.start()

    def restart(self, daemon):
        """A fault that is part of the scenario itself."""
        with self.lock:
            daemon.kill()
            daemon.start(wait=False)

    def _daemon(self):
        if self.victim == "meta":
            return self.pool.meta
        return next(local for local in self.pool.locals if local.short_name == self.victim)

    def done(self):
        with self.lock:
            if self.thread is not None:
                self.thread.join()


def full_mode():
    return os.environ.get("MMC_FAULTS", "") == "full"


def programs():
    return [BIN / name for name in ("mmc", "mmc_meta_service", "mmc_local_service")]
