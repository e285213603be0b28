"""Many clients call at random on few keys while processes are killed and started again; afterwards every answer must be
explained by the history of its key (history.py).

MMC_HISTORY_SECONDS: how long (12 for each of two pools). MMC_HISTORY_SEED: as printed by an earlier run; the order of
events still is the machine's."""
import collections
import os
import random
import subprocess
import sys
import time

import history
import pytest
from cluster import clean_environment, eventually
from history import Happening
from pool import HERE

SECONDS = float(os.environ.get("MMC_HISTORY_SECONDS", "12"))
SEED = int(os.environ.get("MMC_HISTORY_SEED", random.SystemRandom().randrange(1 << 30)))
SYNC = {"ock.mmc.meta.commit_mode": "sync"}
CLIENTS, THREADS = 4, 2


class Run:
    def __init__(self, pool, keys):
        self.pool, self.keys = pool, keys
        self.folder = pool.folder / "history"
        self.folder.mkdir()
        self.dice = random.Random(SEED)
        self.clients = []
        self.started = 0
        self.happenings = []
        self.kills = collections.Counter()
        self.evicted = (time.monotonic(), 0)
        self.until = time.monotonic() + SECONDS

    def start_client(self):
        self.started += 1
        name = f"client-{self.started}"
        seconds = max(0.1, self.until - time.monotonic())
        arguments = [name, f"{SEED}/{self.started}", self.pool.client_link.url, self.folder, self.keys, seconds,
                     THREADS, self.started % 2]
        process = subprocess.Popen([sys.executable, str(HERE / "history_client.py"), *map(str, arguments)],
                                   stdin=subprocess.DEVNULL,
                                   env=clean_environment(PYTHONPATH=os.environ.get("PYTHONPATH", "")))
        self.pool.background.append(process)
        self.clients.append(process)

    def kill_something(self):
        victim = self.dice.choice(("meta", "node", "client", "links"))
        self.kills[victim] += 1
        if victim == "client":
            process = self.dice.choice(self.clients)
            self.clients.remove(process)
            process.kill()
            process.wait()
            self.start_client()
        elif victim == "links":
            for proxy in self.pool.network.proxies:
                proxy.cut()
        elif victim == "node":
            node = self.dice.choice(self.pool.locals)
            node.kill()
            node.start()
        else:
            before = time.monotonic()
            self.pool.meta.kill()
            self.happenings.append(Happening("meta killed", before, time.monotonic()))
            self.note_evictions(0)  # it counts from 0 again; what it had evicted since the last look is not known
            self.pool.meta.start()

    def note_evictions(self, count=None):
        now = time.monotonic()
        since, before = self.evicted
        if count is None:
            count = self.pool.judge.cluster().evicted_objects
            if count == before:
                self.evicted = (now, count)
                return
            self.happenings.append(Happening("evicted", since, time.monotonic()))
        elif self.pool_evicts:
            self.happenings.append(Happening("evicted", since, now))
        self.evicted = (now, count)

    def go(self, evicts):
        """The calls of all clients. On a slow machine it goes on until there are enough to judge by."""
        self.pool_evicts = evicts
        limit = self.until + 5 * SECONDS
        while True:
            self.go_on()
            calls = history.read(sorted(self.folder.iterdir()))
            if seen_enough(counted(calls)) or time.monotonic() > limit:
                return calls
            self.until = time.monotonic() + SECONDS / 2

    def go_on(self):
        for _ in range(CLIENTS):
            self.start_client()
        next_kill = time.monotonic() + 1
        while time.monotonic() < self.until:
            self.note_evictions()
            if time.monotonic() > next_kill:
                self.kill_something()
                next_kill = time.monotonic() + self.dice.uniform(0.2, 1.2)
            time.sleep(0.02)
        for process in self.clients:
            assert process.wait(60) == 0
        self.clients.clear()
        self.note_evictions()


def counted(calls):
    return collections.Counter((call.what, call.code) for call in calls)


def seen_enough(counts):
    return counts["get", "OK"] > 50 and counts["put", "OK"] > 50 and counts["remove", "OK"] > 5


def judge(calls, run):
    """Every kind of trouble happened, and there is an explanation for every answer."""
    counts = counted(calls)
    print("seed", SEED, "kills", dict(run.kills), "calls", {f"{what} {code}": n for (what, code), n in counts.items()})
    assert seen_enough(counts)
    wrong = history.check(calls, run.happenings)
    assert not wrong, f"seed {SEED}: " + "\n".join(wrong[:10])
    # And the check has bitten: nothing else explains what the removes explain.
    assert history.check([call for call in calls if call.what != "remove"], [])
    odd = {code for what, code in counts if code not in ("OK", "NOT_FOUND", "EXISTS", "REPLICAS_LOST", "DEADLINE",
                                                         "CONNECTION_LOST", "UNAVAILABLE", "BEING_WRITTEN",
                                                         "GRANT_LOST",
                                                         "SESSION_LOST", "RECOVERING", "NO_NODE", "NO_SPACE",
                                                         "PEER_UNREACHABLE", "UNCONFIRMED", None)}
    assert not odd, odd


@pytest.mark.parametrize("evicts", [False, True], ids=["room", "full"])
def test_every_answer_is_explained(pool, evicts):
    """With room for everything nothing but a remove explains a miss: commits are in the catalogs when they are
    answered,
    and nodes that are killed come back with what they had."""
    pool.start(nodes=2, dram="4MB" if evicts else "64MB", meta_settings=SYNC)
    run = Run(pool, keys=40)
    calls = run.go(evicts)
    evicted = any(happening.what == "evicted" for happening in run.happenings)
    assert evicted == evicts, "the pool was to be full" if evicts else "the pool was to have room"
    judge(calls, run)
    eventually(lambda: len(pool.judge.cluster().nodes) == 2, "both nodes")
    pool.settle()
    for key in [key for key, _ in pool.judge.scan()]:
        assert pool.get(key) is not None, f"{key} is listed and not there"
    pool.unstick([f"h-{number}" for number in range(40)])
