"""Roles, nodes and tenants by certificate, with real daemons."""
import json

import pytest

from cluster import LOCAL, Cluster, Local, run_program
from certs import flags, make_certs, settings


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    cluster = Cluster()
    certs = make_certs("--node", "node-0" + cluster.tag, "--tenant", "alpha", tmp_path_factory.mktemp("certs") / "own")
    make_certs("--issue", "beta", "--role", "client", "--tenant", "beta", certs)
    try:
        cluster.start_meta(settings(certs, "meta"))
        cluster.add_local("node-0", settings=settings(certs, "local"))
        yield cluster, certs
    finally:
        cluster.cleanup()


def mmc(secure, who, *args, **kwargs):
    cluster, certs = secure
    return cluster.cli(*flags(certs, who), *args, **kwargs)


def keys_of(secure, who, *args):
    done = mmc(secure, who, "--json", *args, "ls")
    assert done.returncode == 0, done.stderr
    return sorted(entry["key"] for entry in json.loads(done.stdout)["keys"])


def test_tenants_share_a_key_and_nothing_else(secure):
    for who, value in (("client", "of alpha"), ("beta", "of beta")):
        done = mmc(secure, who, "put", "shared", "-", input=value)
        assert done.returncode == 0, done.stderr
    assert mmc(secure, "beta", "put", "own", "-", input="x").returncode == 0
    assert mmc(secure, "client", "get", "shared").stdout == "of alpha"
    assert mmc(secure, "beta", "get", "shared").stdout == "of beta"
    assert mmc(secure, "client", "get", "own").returncode == 1
    assert keys_of(secure, "client") == ["shared"]
    assert keys_of(secure, "beta") == ["own", "shared"]
    assert mmc(secure, "client", "rm", "--prefix", "o").returncode == 0
    assert mmc(secure, "beta", "get", "own").stdout == "x", "another tenant's removal"
    assert mmc(secure, "admin", "--tenant", "alpha", "get", "shared").stdout == "of alpha", "an admin of no tenant"
    assert mmc(secure, "admin", "get", "shared").returncode == 1, "its own is the default tenant"


def test_a_tenant_cannot_be_named_without_its_certificate(secure):
    done = mmc(secure, "client", "--tenant", "beta", "get", "shared")
    assert done.returncode == 1
    assert "PERMISSION" in done.stderr and "of tenant 'alpha'" in done.stderr and "'beta'" in done.stderr
    status = json.loads(mmc(secure, "client", "--json", "status").stdout)
    assert [tenant["name"] for tenant in status["tenants"]] == ["alpha"]
    names = {tenant["name"] for tenant in json.loads(mmc(secure, "admin", "--json", "status").stdout)["tenants"]}
    assert {"alpha", "beta", "default"} <= names


@pytest.mark.parametrize("words", ["rm --all", "drain NODE", "scrub"])
def test_what_changes_the_pool_for_others_needs_an_admin(secure, words):
    cluster, _ = secure
    words = words.replace("NODE", "node-0" + cluster.tag).split()
    for who in ("client", "local"):
        done = mmc(secure, who, *words)
        assert done.returncode == 1, done.stdout
        assert "PERMISSION" in done.stderr and "may not call" in done.stderr, done.stderr
    assert mmc(secure, "admin", *words).returncode == 0
    if words[0] == "drain":
        assert mmc(secure, "admin", *words, "--cancel").returncode == 0


def test_a_node_cannot_take_another_ones_name(secure):
    cluster, certs = secure
    thief = Local(cluster.folder / "thief", cluster.meta.url, "node-1" + cluster.tag, "64MB",
                  {**settings(certs, "local"), "ock.mmc.local_service.join_timeout_milliseconds": "2000"},
                  memory=cluster.memory)
    done = run_program(LOCAL, "--config", thief.conf)
    assert done.returncode == 2
    assert "speaks for node" in done.stderr, done.stderr
    assert cluster.tag not in mmc(secure, "client", "nodes").stdout.replace("node-0" + cluster.tag, "")
