"""Real daemons for the tests: started on free ports in a folder of their own, waited for by events, ended by pid."""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

BIN = Path(os.environ.get("MMC_BIN_DIR", Path(__file__).resolve().parents[2] / "build" / "debug" / "bin")).resolve()
START_SECONDS = 60
STOP_SECONDS = 30

META = "mmc_meta_service"
LOCAL = "mmc_local_service"

# Times of the meta service that let a test see a node die without waiting for half a minute.
SHORT_TIMES = {
    "ock.mmc.meta.heartbeat_milliseconds": "100",
    "ock.mmc.meta.node_suspect_milliseconds": "1000",
    "ock.mmc.meta.node_grace_milliseconds": "3000",
    "ock.mmc.meta.session_expiry_milliseconds": "3000",
}


_held = []


def free_port(host="127.0.0.1"):
    """A port that nobody else is given while this process lives, also while the service that uses it is down: a socket
    stays bound to it and does not listen. Whoever listens there sets SO_REUSEADDR, as services do."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    _held.append(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, 0))
    return sock.getsockname()[1]


def eventually(probe, what, seconds=60.0):
    """Calls probe() until it answers something true; fails naming `what` and the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}; last answer: {answer!r}")
        time.sleep(0.02)


def clean_environment(**extra):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MMC_", "NOTIFY_"))}
    return {**env, **extra}


def run_program(name, *args, timeout=60, env=None, **kwargs):
    kwargs.setdefault("text", True)
    return subprocess.run([str(BIN / name), *map(str, args)], capture_output=True, timeout=timeout,
                          env=env or clean_environment(), check=False, **kwargs)


class Daemon:
    """One service process. Ready means: it said READY=1 to systemd's notify socket, as in production."""

    def __init__(self, program, folder, settings, args=()):
        self.program = program
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.conf = self.folder / f"{program}.conf"
        self.conf.write_text("".join(f"{k} = {v}\n" for k, v in settings.items()), encoding="utf-8")
        self.stderr_path = self.folder / "stderr"
        self.args = list(args)
        self.process = None

    def command(self):
        return [str(BIN / self.program), "--config", str(self.conf), *self.args]

    def start(self, wait=True):
        notify_path = self.folder / "notify"
        notify_path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(notify_path))
            with open(self.stderr_path, "ab") as stderr:
                self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                                                cwd=self.folder, env=clean_environment(NOTIFY_SOCKET=str(notify_path)))
            if wait:
                self._wait_ready(notify)
        return self

    def _wait_ready(self, notify):
        notify.settimeout(0.1)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if b"READY=1" in notify.recv(4096).split(b"\n"):
                    return
            except socket.timeout:
                code = self.process.poll()
                if code is not None:
                    raise AssertionError(f"{self.program} ended with {code} before it was ready:\n{self.stderr()}")
        raise AssertionError(f"{self.program} was not ready after {START_SECONDS} s:\n{self.stderr()}")

    def stderr(self):
        return self.stderr_path.read_text(encoding="utf-8", errors="replace") if self.stderr_path.exists() else ""

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        os.kill(self.process.pid, number)

    def stop(self):
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def cleanup(self):
        if self.alive():
            self.signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(STOP_SECONDS)


class Meta(Daemon):
    def __init__(self, folder, settings=(), host="127.0.0.1"):
        bracketed = f"[{host}]" if ":" in host else host
        self.url = f"tcp://{bracketed}:{free_port(host)}"
        self.http = f"http://127.0.0.1:{free_port()}"
        super().__init__(META, folder, {
            "ock.mmc.meta_service_url": self.url,
            "ock.mmc.meta_service.metrics_url": self.http,
            "ock.mmc.meta.recovery_milliseconds": "0",  # what starts afresh has nothing to wait for
            **dict(settings),
        })

    def get(self, path, timeout=10):
        """(status, content type, body) of a GET."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=timeout) as answer:
                return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("Content-Type", ""), error.read().decode()


class Local(Daemon):
    def __init__(self, folder, meta_url, name, dram="64MB", settings=(), host="127.0.0.1", memory="/dev/shm"):
        bracketed = f"[{host}]" if ":" in host else host
        self.port = free_port(host)
        super().__init__(LOCAL, folder, {
            "ock.mmc.meta_service_url": meta_url,
            "ock.mmc.local_service.name": name,
            "ock.mmc.local_service.dram.size": dram,
            "ock.mmc.local_service.hcom_url": f"tcp://{bracketed}:{self.port}",
            "ock.mmc.local_service.shm.directory": str(folder),
            "ock.mmc.local_service.segment.directory": str(memory),
            "ock.mmc.local_service.catalog.directory": str(memory),
            **dict(settings),
        })


MEMORY_PREFIX = "mmc-e2e-"


def sweep_memory():
    """What a test run that was killed could not clean up."""
    for path in Path("/dev/shm").glob(MEMORY_PREFIX + "*-*"):
        pid = path.name.removeprefix(MEMORY_PREFIX).split("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists() and path.stat().st_uid == os.geteuid():
            shutil.rmtree(path, ignore_errors=True)


class Cluster:
    """One meta service and its nodes. A node's name is unique on its host, so the real ones carry a tag; what the tests
    see (states, JSON, metrics) shows them without it."""

    def __init__(self):
        # Short: the path of a unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="mmc-e2e-"))
        # Nodes that are killed leave their memory behind: it goes with the cluster.
        sweep_memory()
        self.memory = Path(tempfile.mkdtemp(prefix=f"{MEMORY_PREFIX}{os.getpid()}-", dir="/dev/shm"))
        self.tag = "." + self.folder.name.removeprefix("mmc-e2e-")
        self.meta = None
        self.locals = []
        self.background = []

    def start(self, nodes=1, dram="64MB", meta_settings=(), local_settings=(), host="127.0.0.1"):
        self.start_meta(meta_settings, host)
        for number in range(nodes):
            self.add_local(f"node-{number}", dram, local_settings, host)
        return self

    def start_meta(self, settings=(), host="127.0.0.1"):
        self.meta = Meta(self.folder / "meta", settings, host).start()
        return self.meta

    def add_local(self, name, dram="64MB", settings=(), host="127.0.0.1"):
        local = Local(self.folder / name, self.meta.url, name + self.tag, dram, settings, host,
                      self.memory).start()
        self.locals.append(local)
        return local

    def untagged(self, text):
        return text.replace(self.tag, "") if isinstance(text, str) else text

    def http_get(self, path):
        status, content_type, body = self.meta.get(path)
        return status, content_type, self.untagged(body)

    def cli(self, *args, timeout=60, **kwargs):
        done = run_program("mmc", "--meta", self.meta.url, *args, timeout=timeout, **kwargs)
        done.stdout, done.stderr = self.untagged(done.stdout), self.untagged(done.stderr)
        return done

    def cli_json(self, *args, expect=0, **kwargs):
        done = self.cli("--json", *args, **kwargs)
        assert done.returncode == expect, f"mmc {args} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def bench(self, words, **kwargs):
        return self.cli_json("bench", *words.split(), **kwargs)

    def bench_start(self, words):
        return self.cli_start("--json", "bench", *words.split())

    def cli_start(self, *args):
        """The CLI in the background; ended with the cluster."""
        process = subprocess.Popen([str(BIN / "mmc"), "--meta", self.meta.url, *map(str, args)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment())
        self.background.append(process)
        return process

    def states(self):
        return {node["name"]: node["state"] for node in self.cli_json("nodes")["nodes"]}

    def wait_state(self, name, state, seconds=60.0):
        """`state` None: the node is not in the list any more."""
        eventually(lambda: self.states().get(name) == state, f"{name} {state}", seconds)

    def put(self, key, value, *args):
        done = self.cli("put", key, "-", *args, input=value, text=False)
        assert done.returncode == 0, done.stderr.decode()

    def get(self, key):
        done = self.cli("get", key, text=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def counters(self):
        """The numbers of /metrics: {"name{labels}": value}."""
        _, _, text = self.http_get("/metrics")
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    def cleanup(self):
        for process in self.background:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for daemon in [*self.locals, self.meta]:
            if daemon is not None:
                daemon.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.memory, ignore_errors=True)
