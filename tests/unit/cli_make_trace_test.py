"""Goal: scripts/make_trace makes traces like recorded ones, the same each time. Usage: cli_make_trace_test.py SCRIPT"""
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = None


def make(*args):
    done = subprocess.run([sys.executable, SCRIPT, *args], capture_output=True, text=True, timeout=60, check=False)
    return done


def lines_of(*args):
    done = make(*args)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class MakeTrace(unittest.TestCase):
    def test_same_seed_same_bytes(self):
        first = make("--requests", "200", "--seed", "9").stdout
        self.assertEqual(first, make("--requests", "200", "--seed", "9").stdout)
        self.assertNotEqual(first, make("--requests", "200", "--seed", "10").stdout)

    def test_every_request_is_as_the_format_says(self):
        requests = lines_of("--requests", "500", "--seed", "2")
        self.assertEqual(len(requests), 500)
        last = 0
        for request in requests:
            self.assertEqual(set(request), {"timestamp", "input_length", "output_length", "hash_ids"})
            self.assertGreaterEqual(request["timestamp"], last)
            last = request["timestamp"]
            self.assertEqual(len(request["hash_ids"]), -(-request["input_length"] // 512))
            self.assertEqual(len(set(request["hash_ids"])), len(request["hash_ids"]))
            self.assertGreater(request["output_length"], 0)

    def test_shared_ids_are_prefixes(self):
        before = {}
        for request in lines_of("--requests", "500", "--seed", "3"):
            previous = None
            for block in request["hash_ids"]:
                self.assertEqual(before.setdefault(block, previous), previous)
                previous = block

    def test_prefixes_are_shared_as_in_practice(self):
        seen, hit, total = set(), 0, 0
        for request in lines_of("--requests", "1000", "--seed", "4"):
            total += len(request["hash_ids"])
            for block in request["hash_ids"]:
                if block not in seen:
                    break
                hit += 1
            seen.update(request["hash_ids"])
        self.assertGreater(hit / total, 0.2)
        self.assertLess(hit / total, 0.8)

    def test_sessions_bound_the_conversations(self):
        few = lines_of("--requests", "300", "--sessions", "5", "--system-prompts", "1", "--max-tokens", "8000000")
        many = lines_of("--requests", "300", "--sessions", "300", "--system-prompts", "1", "--max-tokens", "8000000")
        self.assertGreater(max(r["input_length"] for r in few), max(r["input_length"] for r in many))

    def test_out_and_wrong_values(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.jsonl"
            self.assertEqual(make("--requests", "3", "--out", str(path)).stdout, "")
            self.assertEqual(len(path.read_text(encoding="ascii").splitlines()), 3)
            wrong = make("--out", folder)
            self.assertNotEqual(wrong.returncode, 0)
            self.assertEqual(len(wrong.stderr.splitlines()), 1)
        wrong_values = {"requests": "0", "rate": "0", "sessions": "-1", "turns": "0.5", "max-tokens": "99999999"}
        for name, value in wrong_values.items():
            self.assertEqual(make(f"--{name}", value).returncode, 2, name)


if __name__ == "__main__":
    SCRIPT = sys.argv.pop(1)
    unittest.main()
