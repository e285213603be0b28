"""Installs real packages of our modules' clients into a virtual environment and runs the tests of this folder in it.

    python3 tests/pypi/run.py ENVIRONMENT [pytest arguments]

The environment is made once for each requirements.txt and sources.txt (2.6 GB; three minutes, most of it torch). Exit
code 77, and one line with the reason, when the package index does not give what is needed: ctest shows it as skipped.
PYTHONPATH must have pymmc and the compat modules, MMC_BIN_DIR the services.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SKIPPED = 77
PIP = ("--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "20")


class NotToBeHad(Exception):
    """The package index does not give it."""


def pip(python, *args):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([python, "-m", "pip", *args, *PIP], capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-300:]]
        raise NotToBeHad(f"pip {args[0]}: {said[0]}")


def unpack_sources(wheels, site_packages):
    for wheel in sorted(Path(wheels).glob("*.whl")):
        with zipfile.ZipFile(wheel) as opened:
            names = [name for name in opened.namelist()
                     if name.endswith((".py", ".json")) or ".dist-info/" in name]
            opened.extractall(site_packages, names)


def make(environment):
    print(f"making {environment}", flush=True)
    shutil.rmtree(environment, ignore_errors=True)
    venv.create(environment, with_pip=True, symlinks=True)
    python = str(environment / "bin" / "python")
    (site_packages,) = environment.glob("lib/python*/site-packages")
    pip(python, "install", "--no-deps", "--no-compile", "--only-binary", ":all:", "-r", HERE / "requirements.txt")
    with tempfile.TemporaryDirectory(dir=environment) as wheels:
        pip(python, "download", "--no-deps", "--only-binary", ":all:", "-d", wheels, "-r", HERE / "sources.txt")
        unpack_sources(wheels, site_packages)
    subprocess.run([python, HERE / "without_gpu.py", site_packages], check=True)


def fingerprint():
    read = (HERE / name for name in ("requirements.txt", "sources.txt", "without_gpu.py", "run.py"))
    return hashlib.sha256(sys.version.encode() + b"".join(path.read_bytes() for path in read)).hexdigest()


def main(folder, *pytest_args):
    environment = Path(folder).resolve()
    stamp = environment / "complete"
    if not stamp.exists() or stamp.read_text() != fingerprint():
        try:
            make(environment)
        except NotToBeHad as reason:
            print(f"skipped: {reason}")
            return SKIPPED
        stamp.write_text(fingerprint())
    env = {**os.environ, "LMCACHE_LOG_LEVEL": "ERROR", "LMCACHE_TRACK_USAGE": "false", "VLLM_NO_USAGE_STATS": "1",
           "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_PLUGINS": "none",  # vllm-ascend: only on an NPU
           "HF_HUB_OFFLINE": "1"}
    return subprocess.run([environment / "bin" / "python", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-W",
                           "ignore", HERE, *pytest_args], env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
