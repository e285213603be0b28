"""Goal: the program behaves as a program: exit codes, pipes, signals. Usage: cli_program_test.py MMC MAKE_TRACE

Pools are inside the process (local://), so no daemon is needed.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

MMC = MAKE_TRACE = None
ENV = {k: v for k, v in os.environ.items() if k not in ("MMC_META_URL", "MMC_LOCAL_CONFIG_PATH")}


def mmc(*args, **kwargs):
    return subprocess.run([MMC, *args], capture_output=True, text=True, timeout=100, check=False, env=ENV, **kwargs)


class Program(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.trace = Path(self.folder.name) / "trace.jsonl"
        subprocess.run([sys.executable, MAKE_TRACE, "--requests", "60", "--out", self.trace], check=True, timeout=60)

    def test_bench_verifies_in_a_pool_of_its_own(self):
        for op in ("put", "get", "exists", "mixed"):
            done = mmc("bench", "--pool", "64MB", "--op", op, "--count", "400", "--value-size", "20KB",
                       "--buffers", "5", "--keys", "100", "--batch", "4", "--threads", "2", "--verify", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            report = json.loads(done.stdout)
            self.assertEqual(report["wrong_bytes"], 0)
            self.assertEqual(report["errors"], {})
            self.assertEqual(report["ops"], 400)

    def test_replay_in_a_pool_that_is_too_small(self):
        done = mmc("replay", str(self.trace), "--pool", "16MB", "--block-bytes", "64KB", "--concurrency", "2", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(report["requests"], 60)
        self.assertEqual(report["wrong_bytes"], 0)
        self.assertGreater(report["blocks_verified"], 0)
        self.assertGreater(report["evicted_objects"], 0)
        self.assertGreater(report["prefix_hit_ratio"], 0)

    def test_replay_reads_stdin(self):
        text = self.trace.read_text(encoding="ascii")
        done = mmc("replay", "-", "--pool", "64MB", "--block-bytes", "4KB", input=text)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("replayed 60 requests", done.stdout)

    def test_interrupt_ends_bench_with_its_summary(self):
        bench = subprocess.Popen([MMC, "bench", "--pool", "64MB", "--value-size", "4KB", "--duration", "90s", "--json"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV)
        try:
            # The handler stands once the work has begun; the threads of the pool and of the bench show that.
            status = Path(f"/proc/{bench.pid}/status")
            while "SigCgt" in status.read_text() and not self.catches_interrupt(status):
                self.assertIsNone(bench.poll())
            bench.send_signal(signal.SIGINT)
            out, err = bench.communicate(timeout=60)
        finally:
            bench.kill()
        self.assertEqual(bench.returncode, 130, err)
        self.assertTrue(json.loads(out)["interrupted"])

    @staticmethod
    def catches_interrupt(status):
        caught = [line for line in status.read_text().splitlines() if line.startswith("SigCgt")]
        return caught and int(caught[0].split()[1], 16) >> (signal.SIGINT - 1) & 1

    def test_a_closed_pipe_is_no_crash(self):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([MMC, "help"], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
        os.close(writer)
        self.assertEqual(done.returncode, 141)
        self.assertEqual(done.stderr, b"")

    def test_unreachable_and_usage(self):
        done = mmc("--meta", "tcp://127.0.0.1:1", "nodes", "--timeout", "2s")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertEqual(mmc("nodes", "--frobnicate").returncode, 2)
        self.assertEqual(mmc("nodes", "--meta", "carrier-pigeon").returncode, 2)

    def test_doctor_says_that_the_service_is_missing(self):
        done = mmc("--meta", "tcp://127.0.0.1:1", "doctor", "--json", "--timeout", "2s")
        self.assertEqual(done.returncode, 1, done.stderr)
        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        self.assertEqual(checks["meta service"]["verdict"], "fail")
        self.assertIn("mmc_meta_service", checks["meta service"]["remedy"])
        self.assertEqual(mmc("--meta", "local://?dram=64MB", "doctor").returncode, 0)


if __name__ == "__main__":
    MMC, MAKE_TRACE = sys.argv[1:3]
    del sys.argv[1:3]
    unittest.main()
