"""docs/operating.md: the commands of "With TLS, from nothing to the first put", as they stand there."""
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from certs import ROOT
from cluster import BIN, clean_environment, free_port


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="mmc-tls-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def commands():
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    return re.search(r"<!-- tests/e2e/test_deployment.py runs this block -->\n```\n(.*?)```", text, re.S).group(1)


def count(script):
    """Commands as a reader counts them: a loop, or a command with the text that it reads, is one."""
    script = re.sub(r"<<CONF\n.*?^CONF$", "", script, flags=re.S | re.M)
    script = re.sub(r"^for .*?^done$", "loop", script, flags=re.S | re.M)
    return len([line for line in script.splitlines() if line.strip()])


def test_from_nothing_to_the_first_put(folder):
    script = commands()
    assert count(script) < 10
    name = f"deployed-{secrets.token_hex(4)}"
    for port in ("5000", "7000", "8000"):
        assert f"127.0.0.1:{port}" in script
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
    # This machine's: another name, less memory, sockets in the folder. The daemons end with the shell.
    script = script.replace("node-0", name)
    script = script.replace(f"name = {name}", f"name = {name}\nock.mmc.local_service.dram.size = 64MB\n"
                            f"ock.mmc.local_service.shm.directory = {folder}\n"
                            f"ock.mmc.local_service.segment.directory = {folder}\n"
                            f"ock.mmc.local_service.catalog.directory = {folder}")
    env = clean_environment(PATH=f"{BIN}:{ROOT / 'scripts'}:{os.environ['PATH']}")
    process = subprocess.Popen(["bash", "-euc", "trap 'kill $(jobs -p); wait' EXIT\n" + script], cwd=folder, env=env,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, out + err
    assert out.endswith("hello, pool\n"), out + err
    report = out[out.rindex("ok    conf file"):]
    assert "fail " not in report, report
    assert "TLS with the meta service" in report and f"TLS with the local service {name}" in report
