"""TLS on both planes and no shared memory: tickets between real daemons, and a node that is a client too."""
import json

import pytest

from cluster import Cluster, run_program
from certs import make_certs, settings

DATA = "ock.mmc.local_service.hcom.tls."


def both_planes(certs, name):
    return {**settings(certs, name), **settings(certs, name, prefix=DATA)}


@pytest.fixture(name="pool", scope="module")
def pool_fixture(tmp_path_factory):
    cluster = Cluster()
    folder = tmp_path_factory.mktemp("tickets")
    certs = make_certs("--node", "node-0" + cluster.tag, "--tenant", "alpha", folder / "certs")
    make_certs("--issue", "beta", "--role", "client", "--tenant", "beta", certs)
    make_certs("--issue", "node-1", "--role", "local", "--node", "node-1" + cluster.tag, certs)
    over_tcp = {"ock.mmc.local_service.shm.enable": "false"}
    try:
        # What docs/operating.md says of processes that are a node and a client.
        cluster.start_meta({**settings(certs, "meta"), "ock.mmc.meta.access.local": "@local, @client",
                            "ock.mmc.meta.write_ticket_milliseconds": "1000"})
        cluster.add_local("node-0", settings={**both_planes(certs, "local"), **over_tcp})
        cluster.add_local("node-1", settings={**both_planes(certs, "node-1"), **over_tcp})
        yield cluster, certs, folder
    finally:
        cluster.cleanup()


def mmc(pool, who, *args, **kwargs):
    cluster, certs, folder = pool
    conf = folder / f"{who}.conf"
    conf.write_text("".join(f"{key} = {value}\n" for key, value in both_planes(certs, who).items()), encoding="utf-8")
    return run_program("mmc", "--config", conf, "--meta", cluster.meta.url, *args, **kwargs)


def test_tenants_put_and_get_under_tickets(pool):
    for who in ("client", "beta"):
        done = mmc(pool, who, "put", "shared", "-", "--replicas", "2", input=f"of {who} " * 50_000)
        assert done.returncode == 0, done.stderr
    for who in ("client", "beta"):
        done = mmc(pool, who, "get", "shared")
        assert (done.returncode, done.stdout) == (0, f"of {who} " * 50_000), done.stderr


def test_load_under_tickets(pool):
    done = mmc(pool, "client", "--json", "bench", "--op", "mixed", "--value-size", "64KB", "--keys", "100", "--threads",
               "2", "--duration", "3s", "--verify", timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["errors"] == {}, done.stdout


def test_a_node_that_is_a_client_too_puts_and_gets(pool):
    done = mmc(pool, "local", "put", "of-a-node", "-", "--replicas", "2", input="x" * 100_000)
    assert done.returncode == 0, done.stderr
    assert mmc(pool, "local", "get", "of-a-node").stdout == "x" * 100_000
    done = mmc(pool, "local", "rm", "--all")
    assert done.returncode == 1 and "may not call" in done.stderr, "what a client may not, it may not either"


def test_what_is_drained_is_copied_from_node_to_node(pool):
    cluster, _, _ = pool
    done = mmc(pool, "beta", "put", "moves", "-", input="y" * 300_000)
    assert done.returncode == 0, done.stderr
    for number in (0, 1):
        name = f"node-{number}" + cluster.tag
        done = mmc(pool, "admin", "drain", name, "--wait", timeout=60)
        assert done.returncode == 0, done.stderr
        assert mmc(pool, "beta", "get", "moves").stdout == "y" * 300_000
        assert mmc(pool, "admin", "drain", name, "--cancel").returncode == 0
