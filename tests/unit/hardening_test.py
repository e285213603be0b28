"""Goal: what is shipped is linked and compiled hardened. Method: readelf. Usage: hardening_test.py CONFIG FILE..."""
import re
import subprocess
import sys
import unittest
from pathlib import Path

FILES = []


def readelf(*args):
    return subprocess.run(["readelf", "-W", *map(str, args)], capture_output=True, text=True, timeout=60,
                          check=True).stdout


class Hardening(unittest.TestCase):
    def test_addresses_are_random(self):
        for path in FILES:
            self.assertRegex(readelf("-h", path), r"Type:\s+DYN", path)
            if ".so" not in path.name:
                self.assertRegex(readelf("-d", path), r"\(FLAGS_1\).*\bPIE\b")

    def test_what_the_loader_resolved_cannot_be_written(self):
        for path in FILES:
            self.assertIn("GNU_RELRO", readelf("-l", path), path)
            self.assertRegex(readelf("-d", path), r"\(FLAGS_1\).*\bNOW\b", path)

    def test_no_segment_is_writable_and_executable(self):
        for path in FILES:
            segments = readelf("-l", path)
            stack = re.search(r"GNU_STACK.*?\s([RWE ]{1,3})\s+0x", segments)
            self.assertIsNotNone(stack, segments)
            self.assertNotIn("E", stack.group(1))
            self.assertIsNone(re.search(r"LOAD.*\sRWE\s", segments), segments)

    def test_libraries_come_from_the_system_only(self):
        # The build tree links libmmc_client by its path; an installed program must not carry one.
        for path in FILES:
            for found in re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", readelf("-d", path)):
                for folder in found.split(":"):
                    self.assertTrue(Path(folder).is_absolute() or folder.startswith("$ORIGIN"), found)

    @unittest.skipUnless("Release" in sys.argv[1:2], "stack protector and fortified calls are of release builds")
    def test_returns_and_buffers_are_checked(self):
        for path in FILES:
            symbols = readelf("--dyn-syms", path)
            self.assertIn("__stack_chk_fail", symbols, path)
            self.assertRegex(symbols, r"__\w+_chk\b", path)


if __name__ == "__main__":
    FILES = [Path(word) for word in sys.argv[2:]]
    assert FILES, "name the files to look at"
    unittest.main(argv=[sys.argv[0]])
