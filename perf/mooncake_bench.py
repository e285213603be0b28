#!/usr/bin/env python3
"""The same calls of mooncake.store over our pool and over the original (mooncake-transfer-engine-non-cuda), in one run:
its mooncake_master, TCP, connection pool off (its default) and on.

    PYTHONPATH=build/release/python perf/mooncake_bench.py [--rounds 5] [--seconds 2]

One process lends the memory, another one, without memory of its own, puts and gets; both are on this host. Ours once
over TCP, as the original, and once as it comes: over shared memory. All variants take turns within a round; a figure is
the median of the rounds' median latencies, a ratio that of the rounds' ratios (2.0: ours takes half as long). The
original is installed with pip into build/mooncake-original; it needs Debian's libibverbs1.
"""
import argparse
import ctypes
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPAT = ROOT / "client_sdk/python/compat/src"
PACKAGE = "mooncake-transfer-engine-non-cuda==0.3.13.post1"
DEEPSEEK = [128 << 10, 16 << 10] * 61
START_SECONDS = 60


def port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# ---- in the interpreter of a variant: `--role owner` and `--role client`


def joined(master, segment):
    from mooncake.store import MooncakeDistributedStore
    store = MooncakeDistributedStore()
    code = store.setup("127.0.0.1", "P2PHANDSHAKE", segment, 64 << 20, "tcp", "", master)
    if code != 0:
        sys.exit(f"setup answered {code}")
    return store


def serve(args):
    store = joined(args.master, args.segment)
    print("ready", flush=True)
    sys.stdin.read()
    store.close()


class Calls:
    """Timed calls on memory that is registered."""

    def __init__(self, store, seconds):
        self.store, self.seconds = store, seconds
        self.memory = (ctypes.c_char * (128 << 20))()
        ctypes.memset(self.memory, 7, len(self.memory))
        self.base = ctypes.addressof(self.memory)
        if store.register_buffer(self.base, len(self.memory)) != 0:
            sys.exit("register_buffer failed")
        self.number = 0
        self.failed = 0

    def rows(self, pieces, batch):
        """(pointers, sizes) of one call."""
        pointers, at = [], self.base
        for _ in range(batch):
            row = []
            for size in pieces:
                row.append(at)
                at += size
            pointers.append(row)
        return pointers, [list(pieces)] * batch

    def names(self, count):
        self.number += count
        return [f"bench/{self.number - n}" for n in range(count)]

    def median(self, call, before=None, after=None):
        """Microseconds of call(), while before() and after() are not counted. A call that after() says has failed is
        not counted either, but in `failed`."""
        times, end, failed = [], time.monotonic() + self.seconds, 0
        while time.monotonic() < end or len(times) < 5:
            made = before() if before else None
            began = time.perf_counter()
            answer = call(made)
            took = (time.perf_counter() - began) * 1e6
            if after(made, answer):
                times.append(took)
                continue
            failed += 1
            if failed > 10 + len(times) // 10:
                sys.exit(f"{failed} of {failed + len(times)} calls failed, the last one answered {answer[:3]}")
        self.failed += failed
        return statistics.median(times)

    def put(self, pieces, batch):
        pointers, sizes = self.rows(pieces, batch)

        def forget(names, answer):
            for name in names:
                self.store.remove(name)
            return not any(answer)

        return self.median(lambda names: self.store.batch_put_from_multi_buffers(names, pointers, sizes),
                           lambda: self.names(batch), forget)

    def get(self, pieces, batch):
        pointers, sizes = self.rows(pieces, batch)
        names = self.names(batch)
        if any(self.store.batch_put_from_multi_buffers(names, pointers, sizes)):
            sys.exit("a put failed")

        return self.median(lambda _: self.store.batch_get_into_multi_buffers(names, pointers, sizes),
                           after=lambda _, answer: answer == [sum(pieces)] * batch)

    def exist(self, batch):
        pointers, sizes = self.rows([1024], batch)
        names = self.names(batch)
        self.store.batch_put_from_multi_buffers(names, pointers, sizes)

        return self.median(lambda _: self.store.batch_is_exist(names), after=lambda _, answer: answer == [1] * batch)


def measure(args):
    store = joined(args.master, 0)
    calls = Calls(store, args.seconds)
    medians = {
        "put 8.58 MiB in 122 buffers": calls.put(DEEPSEEK, 1), "get 8.58 MiB in 122 buffers": calls.get(DEEPSEEK, 1),
        "put 128 x 1 MiB": calls.put([1 << 20], 128), "get 128 x 1 MiB": calls.get([1 << 20], 128),
        "put 1 KiB": calls.put([1024], 1), "get 1 KiB": calls.get([1024], 1),
        "exist 1 key": calls.exist(1), "exist 128 keys": calls.exist(128),
    }
    print(json.dumps({"us": medians, "failed": calls.failed}), flush=True)
    store.close()


# ---- the run


class Variant:
    def __init__(self, name, python, master, ready=None, **env):
        self.name, self.python, self.master_command, self.ready = name, str(python), master, ready
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("MC_", "MOONCAKE_")) and k != "PYTHONPATH"}
        self.env.update(env)

    def round(self, args):
        at = port()
        master = subprocess.Popen([*self.master_command, f"--rpc_port={at}", f"--metrics_port={port()}",
                                   "--rpc_address=127.0.0.1"], env=self.env, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        common = [self.python, str(Path(__file__).resolve()), "--master", f"127.0.0.1:{at}"]
        owner = None
        try:
            self.wait(at)
            owner = subprocess.Popen([*common, "--role", "owner", "--segment", str(args.segment)], env=self.env,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                     text=True)
            while "ready" not in (line := owner.stdout.readline()):
                if not line:
                    sys.exit(f"{self.name}: the process that lends memory ended")
            done = subprocess.run([*common, "--role", "client", "--seconds", str(args.seconds)], env=self.env,
                                  capture_output=True, text=True, timeout=600, check=False)
            if done.returncode != 0:
                sys.exit(f"{self.name}: {done.stderr[-500:]}")
            return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        finally:
            if owner is not None:
                owner.stdin.close()
                owner.wait(60)
            master.terminate()
            master.wait(60)

    def wait(self, at):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", at), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(f"{self.name}: the master does not listen")


def original():
    """The interpreter with the original; None, with the reason, where it cannot be had."""
    folder = ROOT / "build" / "mooncake-original"
    python = folder / "bin" / "python"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if not python.exists():
        venv.create(folder, with_pip=True, symlinks=True)
    for command in ([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", PACKAGE],
                    [python, "-c", "import mooncake.store"]):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"the original cannot be had: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
    return python


def variants():
    ours = [sys.executable, "-m", "mooncake.master"]
    path = ":".join(filter(None, [str(COMPAT), os.environ.get("PYTHONPATH")]))
    yield Variant("ours, TCP", sys.executable, ours, MMC_SAME_HOST="0", PYTHONPATH=path)
    yield Variant("ours", sys.executable, ours, PYTHONPATH=path)
    python = original()
    if python is None:
        return
    master = [str(python.parent / "mooncake_master")]
    for name, pool in (("original", "0"), ("original, pool", "1")):
        yield Variant(name, python, master, MC_TCP_ENABLE_CONNECTION_POOL=pool)


def compare(args):
    """Per kind of call ("works"): medians in microseconds by variant, and the ratios to ours over TCP; and how many
    calls failed in all ("failed_calls"), by variant."""
    all_of_them = list(variants())
    rounds = {one.name: [] for one in all_of_them}
    for _ in range(args.rounds):
        for one in all_of_them:
            rounds[one.name].append(one.round(args))
    works = {work: {
        "us": {name: statistics.median(run["us"][work] for run in runs) for name, runs in rounds.items()},
        "ratios": {name: statistics.median(theirs["us"][work] / mine["us"][work]
                                           for theirs, mine in zip(runs, rounds["ours, TCP"]))
                   for name, runs in rounds.items() if name.startswith("original")},
    } for work in rounds["ours"][0]["us"]}
    return {"works": works, "failed_calls": {name: sum(run["failed"] for run in runs) for name, runs in rounds.items()}}


def show(results):
    names = results["failed_calls"]
    print(f"{'microseconds a call':28}" + "".join(f"{name:>16}" for name in names) + "   ratios to ours over TCP")
    for work, row in results["works"].items():
        print(f"{work:28}" + "".join(f"{median:16.1f}" for median in row["us"].values())
              + "".join(f"{ratio:10.2f}" for ratio in row["ratios"].values()))
    print(f"{'calls that failed':28}" + "".join(f"{count:16}" for count in names.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each kind of call in a round")
    parser.add_argument("--segment", type=int, default=1 << 30, help="bytes that are lent")
    parser.add_argument("--role", choices=("owner", "client"), help=argparse.SUPPRESS)
    parser.add_argument("--master", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role is not None:
        return serve(args) if args.role == "owner" else measure(args)
    show(compare(args))
    return None


if __name__ == "__main__":
    main()
