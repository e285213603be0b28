"""Goal: the units of systemd run without root and with few rights. Method: their text, and systemd's own judgement
where systemd-analyze is installed. Usage: units_test.py FOLDER BIN"""
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

FOLDER = BIN = None
# systemd's exposure level in tenths: 0 is shut, 100 is open. What the units have today; a right more shows here.
EXPOSURE = {"mmc-meta.service": 14, "mmc-local@.service": 21}
EVERYWHERE = {
    "Type": "notify", "User": "mmc", "Group": "mmc", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "",
    "AmbientCapabilities": "", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
    "ProtectKernelTunables": "yes", "ProtectKernelModules": "yes", "ProtectControlGroups": "yes",
    "RestrictNamespaces": "yes", "RestrictSUIDSGID": "yes", "LockPersonality": "yes", "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native", "DevicePolicy": "closed", "RestartPreventExitStatus": "2",
}


def settings(path):
    """{key: [values]} of the [Service] part."""
    found, section = {}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


class Units(unittest.TestCase):
    def units(self):
        return [FOLDER / name for name in EXPOSURE]

    def test_every_unit_is_judged(self):
        self.assertEqual({p.name for p in FOLDER.glob("*.service")}, set(EXPOSURE))

    def test_rights(self):
        for path in self.units():
            found = settings(path)
            for key, value in EVERYWHERE.items():
                self.assertEqual(found.get(key), [value], f"{key} of {path.name}")
            self.assertIn("@system-service", found["SystemCallFilter"])
            self.assertIn("~@privileged", found["SystemCallFilter"])
            self.assertLessEqual(int(found["UMask"][0], 8), 0o777)
            self.assertEqual(int(found["UMask"][0], 8) & 0o007, 0o007, "others read what the service writes")

    def test_what_they_start_is_what_is_built(self):
        for path in self.units():
            program, *words = settings(path)["ExecStart"][0].split()
            self.assertEqual(words[0], "--config")
            self.assertTrue((BIN / Path(program).name).is_file(), program)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_systemd_judges_the_exposure(self):
        with tempfile.TemporaryDirectory() as folder:
            for path in self.units():
                copy = Path(folder) / path.name
                shutil.copy(path, copy)
                done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager",
                                       f"--threshold={EXPOSURE[path.name]}", str(copy)],
                                      capture_output=True, text=True, timeout=60, check=False)
                self.assertEqual(done.returncode, 0, path.name + done.stdout[-600:] + done.stderr)


if __name__ == "__main__":
    FOLDER, BIN = (Path(word) for word in sys.argv[1:3])
    unittest.main(argv=[sys.argv[0]])
