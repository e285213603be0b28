"""Certificates for tests of real daemons, from the script that ships, and what daemons and the CLI make of them. A test
has folders of its own (make_certs), or shares an authority with the others of its process (authority)."""
import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKE_CERTS = ROOT / "scripts" / "make_certs"


def make_certs(*words):
    """Runs the script; the last word is the folder."""
    done = subprocess.run([str(MAKE_CERTS), *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return Path(words[-1])


def settings(folder, name, prefix="ock.mmc.tls."):
    """The keys of a conf file that make a part show the folder's pair `name`."""
    keys = {"enable": "true", "ca.path": folder / "ca.cert.pem", "ca.crl.path": folder / "ca.crl.pem",
            "cert.path": folder / f"{name}.cert.pem", "key.path": folder / f"{name}.key.pem"}
    return {prefix + key: str(value) for key, value in keys.items()}


def flags(folder, name, authorities=None):
    """The same for the CLI; `authorities`: the folder of those that it trusts, when they are others."""
    return ["--tls-ca", str((authorities or folder) / "ca.cert.pem"), "--tls-cert", str(folder / f"{name}.cert.pem"),
            "--tls-key", str(folder / f"{name}.key.pem")]


class Authority:
    """A folder of make_certs that is gone when the process ends."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="mmc-certs-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        make_certs(self.folder)
        self.ca, self.crl = self.folder / "ca.cert.pem", self.folder / "ca.crl.pem"
        self.made = 0

    def pair(self, name):
        return self.folder / f"{name}.cert.pem", self.folder / f"{name}.key.pem"

    def issue(self, role, **options):
        """A new pair; its name. `start` and `until` as `date -d` reads them."""
        self.made += 1
        name = f"issued-{self.made}"
        words = ["--issue", name, "--role", role]
        for key, value in options.items():
            words += ["--from" if key == "start" else f"--{key}", value]
        make_certs(*words, self.folder)
        return name

    def expired(self, role):
        return self.issue(role, start="2020-01-01", until="2020-02-01")

    def not_yet_valid(self, role):
        return self.issue(role, start="2099-01-01", until="2099-02-01")

    def revoke(self, name):
        make_certs("--revoke", name, self.folder)

    def settings(self, name, prefix="ock.mmc.tls.", encrypted=False):
        keys = settings(self.folder, name, prefix)
        if encrypted:
            keys[prefix + "key.path"] = str(self.folder / f"{name}.encrypted.key.pem")
            keys[prefix + "key.pass.path"] = str(self.folder / "key.pass")
        return keys

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
