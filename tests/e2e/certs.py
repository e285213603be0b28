"""Certificates for tests of real daemons: made by scripts/make_certs, each authority once per process."""
import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKE_CERTS = ROOT / "scripts" / "make_certs"


class Authority:
    """A folder of make_certs."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="mmc-certs-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self._run()
        self.ca, self.crl = self.folder / "ca.cert.pem", self.folder / "ca.crl.pem"
        self.made = 0

    def _run(self, *words):
        subprocess.run([str(MAKE_CERTS), *words, str(self.folder)], check=True, capture_output=True, timeout=60)

    def pair(self, name):
        return self.folder / f"{name}.cert.pem", self.folder / f"{name}.key.pem"

    def issue(self, role, **options):
        """A new pair; its name. `start` and `until` as `date -d` reads them."""
        self.made += 1
        name = f"issued-{self.made}"
        words = ["--issue", name, "--role", role]
        for key, value in options.items():
            words += ["--from" if key == "start" else f"--{key}", value]
        self._run(*words)
        return name

    def expired(self, role):
        return self.issue(role, start="2020-01-01", until="2020-02-01")

    def not_yet_valid(self, role):
        return self.issue(role, start="2099-01-01", until="2099-02-01")

    def revoke(self, name):
        self._run("--revoke", name)

    def settings(self, name, prefix="ock.mmc.tls.", encrypted=False):
        """The keys of a conf file that make a part show the pair `name`."""
        cert, key = self.pair(name)
        keys = {"enable": "true", "ca.path": self.ca, "ca.crl.path": self.crl, "cert.path": cert, "key.path": key}
        if encrypted:
            keys["key.path"] = self.folder / f"{name}.encrypted.key.pem"
            keys["key.pass.path"] = self.folder / "key.pass"
        return {prefix + key: str(value) for key, value in keys.items()}

    def both_planes(self, name):
        return {**self.settings(name), **self.settings(name, "ock.mmc.local_service.hcom.tls.")}


_authorities = {}


def authority(name="ours"):
    if name not in _authorities:
        _authorities[name] = Authority()
    return _authorities[name]


def private_copy(path, folder, mode):
    """A copy of a key with other permissions."""
    copy = Path(folder) / f"copy-{oct(mode)[2:]}-{Path(path).name}"
    shutil.copy(path, copy)
    os.chmod(copy, mode)
    return copy
