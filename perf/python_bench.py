#!/usr/bin/env python3
"""What the Python binding costs: the same work through pymmc and through the C++ client (`mmc bench`), in one run; and
after it, where mooncake-transfer-engine can be installed, our drop-in module beside the original (mooncake_bench.py).

    PYTHONPATH=build/release/python perf/python_bench.py [--bin-dir build/release/bin] [--rounds 15] [--json]

Python and C++ work on a pool of their own inside their process, in turn, `--rounds` times; of each the median of the
rounds' median latencies is shown. Ratio: Python's latency over that of C++ (1.05: the binding costs 5 %), and between
which quartiles the ratios of single rounds lie: each round has memory of its own, whose place makes some 10 % by
itself.
"""
import argparse
import ctypes
import gc
import itertools
import json
import mmap
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pymmc

import mooncake_bench
from mooncake_bench import DEEPSEEK


class Work:
    """One kind of call: `pieces` byte counts per value, `batch` values per call, `keys` different keys."""

    def __init__(self, name, op, pieces, batch, keys, bench_args):
        self.name, self.op, self.pieces, self.batch, self.keys = name, op, pieces, batch, keys
        self.bench_args = bench_args

    @property
    def call_bytes(self):
        return 0 if self.op == "exists" else sum(self.pieces) * self.batch


def works():
    deepseek = ["--layout", "deepseek"]
    mega = ["--value-size", "1MB"]
    small = ["--value-size", "1KB"]
    return [
        Work("put 8.58 MiB in 122 buffers", "put", DEEPSEEK, 1, 20, deepseek),
        Work("get 8.58 MiB in 122 buffers", "get", DEEPSEEK, 1, 20, deepseek),
        Work("put 128 x 1 MiB", "put", [1 << 20], 128, 256, mega),
        Work("get 128 x 1 MiB", "get", [1 << 20], 128, 256, mega),
        Work("get 1 x 1 KiB", "get", [1 << 10], 1, 1000, small),
        Work("get 128 x 1 KiB", "get", [1 << 10], 128, 1024, small),
        Work("exists 1 key", "exists", [1 << 10], 1, 1000, small),
        Work("exists 128 keys", "exists", [1 << 10], 128, 1024, small),
    ]


def cpp_round(work, args):
    """Median latency of a call in microseconds, by the command line's benchmark."""
    command = [str(args.bin_dir / "mmc"), "bench", "--pool", args.pool, "--op", work.op, "--batch", str(work.batch),
               "--keys", str(work.keys), "--duration", f"{args.seconds}s", "--json", *work.bench_args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)[work.op]["latency_us"]["p50"]


class PythonRound:
    """The same in this process, with `pointers` (put_ptrs, get_ptrs) or with buffer objects (put, get_into)."""

    def __init__(self, work, args, pointers):
        self.work, self.args, self.pointers = work, args, pointers
        # As the C++ benchmark has it: one piece of memory, on huge pages where there are any.
        self.arena = mmap.mmap(-1, sum(work.pieces) * work.batch, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.arena.madvise(mmap.MADV_HUGEPAGE)
        self.arena.write(b"\x07" * len(self.arena))  # the pages are there before the clock runs
        at = ctypes.addressof(ctypes.c_char.from_buffer(self.arena))
        starts = list(itertools.accumulate(work.pieces * work.batch, initial=0))
        per_slot = [starts[i:i + len(work.pieces)] for i in range(0, len(starts) - 1, len(work.pieces))]
        whole = memoryview(self.arena)
        self.slots = [[whole[s:s + n] for s, n in zip(slot, work.pieces)] for slot in per_slot]
        self.ptrs = [[at + s for s in slot] for slot in per_slot]
        self.sizes = [list(work.pieces)] * work.batch
        self.names = [f"bench/{i}" for i in range(work.keys)]

    def put(self, client, names):
        if self.pointers:
            return client.put_ptrs(names, self.ptrs[:len(names)], self.sizes[:len(names)])
        return client.put(list(zip(names, self.slots)))

    def get(self, client, names):
        if self.pointers:
            return client.get_ptrs(names, self.ptrs, self.sizes)[0]
        return client.get_into(list(zip(names, self.slots)))

    def call(self, client, rng, turn):
        """One call; its time in microseconds."""
        batch, names = self.work.batch, self.names
        if self.work.op == "put":
            at = turn % (len(names) // batch) * batch
            chosen = names[at:at + batch]
            client.remove(chosen)
            begin = time.perf_counter()
            codes = self.put(client, chosen)
        else:
            chosen = rng.choices(names, k=batch)
            begin = time.perf_counter()
            codes = client.exists(chosen) if self.work.op == "exists" else self.get(client, chosen)
        took = (time.perf_counter() - begin) * 1e6
        good = all(codes) if self.work.op == "exists" or not self.pointers else not any(codes)
        if not good:
            raise SystemExit(f"{self.work.name}: a call failed: {codes}")
        return took

    def run(self):
        rng = random.Random(1)
        with pymmc.Client(f"local://?dram={self.args.pool}") as client:
            if self.pointers:  # as the clients of the drop-in modules do with their caches
                client.register(ctypes.addressof(ctypes.c_char.from_buffer(self.arena)), len(self.arena))
            for at in range(0, len(self.names), self.work.batch):
                self.put(client, self.names[at:at + self.work.batch])
            times = []
            gc.disable()
            end = time.monotonic() + self.args.seconds
            while time.monotonic() < end:
                times.append(self.call(client, rng, len(times)))
            gc.enable()
            return statistics.median(times)


def quartiles(times, base):
    """Of the ratios of single rounds."""
    ratios = [t / b for t, b in zip(times, base)]
    return statistics.quantiles(ratios, n=4)[::2] if len(ratios) > 1 else ratios * 2


def with_quartiles(row, way):
    low, high = row[way + "_quartiles"]
    return f"{row[way + '_ratio']:.2f} ({low:.2f}..{high:.2f})"


def measure(work, args):
    rounds = {"c++": [], "pointers": [], "objects": []}
    for _ in range(args.rounds):
        rounds["c++"].append(cpp_round(work, args))
        rounds["pointers"].append(PythonRound(work, args, pointers=True).run())
        rounds["objects"].append(PythonRound(work, args, pointers=False).run())
    medians = {name: statistics.median(times) for name, times in rounds.items()}
    extra = medians["pointers"] - medians["c++"]
    return {
        "work": work.name,
        "cpp_us": medians["c++"], "pointers_us": medians["pointers"], "objects_us": medians["objects"],
        "cpp_gb_per_s": work.call_bytes / medians["c++"] / 1e3,
        "pointers_gb_per_s": work.call_bytes / medians["pointers"] / 1e3,
        "pointers_ratio": medians["pointers"] / medians["c++"], "objects_ratio": medians["objects"] / medians["c++"],
        "pointers_quartiles": quartiles(rounds["pointers"], rounds["c++"]),
        "objects_quartiles": quartiles(rounds["objects"], rounds["c++"]),
        "extra_us_per_call": extra, "extra_us_per_key": extra / work.batch,
        "rounds": rounds,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", type=Path, default=Path(__file__).resolve().parents[1] / "build/release/bin")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=1, help="of each round")
    parser.add_argument("--pool", default="768MB")
    parser.add_argument("--mooncake-rounds", type=int, default=3, help="0: without the original and our drop-in module")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    head = f"{'work':30} {'C++ us':>10} {'pointers':>10} {'objects':>10} {'ratio':>18} {'ratio':>18} {'+us/key':>8}"
    if not args.json:
        print(head)
    rows = []
    for work in works():
        row = measure(work, args)
        rows.append(row)
        if not args.json:
            print(f"{row['work']:30} {row['cpp_us']:10.1f} {row['pointers_us']:10.1f} {row['objects_us']:10.1f} "
                  f"{with_quartiles(row, 'pointers'):>18} {with_quartiles(row, 'objects'):>18} "
                  f"{row['extra_us_per_key']:8.2f}", flush=True)
    mooncake = None
    if args.mooncake_rounds:
        mooncake = mooncake_bench.compare(argparse.Namespace(rounds=args.mooncake_rounds, seconds=2, segment=1 << 30))
    if args.json:
        all_of_it = {"pymmc": pymmc.__version__, "rounds": args.rounds, "results": rows, "mooncake": mooncake}
        json.dump(all_of_it, sys.stdout, indent=1)
        print()
    elif mooncake is not None:
        print()
        mooncake_bench.show(mooncake)


if __name__ == "__main__":
    main()
