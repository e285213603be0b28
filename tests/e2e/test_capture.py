"""Goal: with TLS on, whoever listens on the wire sees neither keys nor values, of calls and of blocks.
Method: real daemons and the CLI in a network namespace of the test's own, all packets of its loopback recorded; the
same with TLS off shows keys and values, so the recording would have seen them."""
import ctypes
import fcntl
import os
import secrets
import socket
import struct

import pytest

from capture import Capture
from certs import authority
from cluster import Cluster, run_program

CLONE_NEWNET, CLONE_NEWUSER = 0x40000000, 0x10000000
NODE = "node-captured"
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def libc_call(name, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


@pytest.fixture(name="network")
def network_fixture():
    """This thread, and every process it starts, is alone with a loopback of its own."""
    if os.geteuid() != 0:
        libc_call("unshare", CLONE_NEWUSER)  # in which this process may do what follows
    with open("/proc/self/ns/net", "rb") as before:
        libc_call("unshare", CLONE_NEWNET)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                request = struct.pack("16sh14x", b"lo", 0)
                flags, = struct.unpack("16xh14x", fcntl.ioctl(sock, SIOCGIFFLAGS, request))
                fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
            yield
        finally:
            if os.geteuid() == 0:
                libc_call("setns", before.fileno(), CLONE_NEWNET)


@pytest.fixture(name="node", scope="module")
def node_fixture():
    """The name of a certificate that says the node's."""
    return authority().issue("local", node=NODE)


def of_values(role, node):
    name = node if role == "local" else role
    return {} if role == "meta" else authority().settings(name, "ock.mmc.local_service.hcom.tls.")


def of_calls(role, node):
    return authority().settings(node if role == "local" else role)


def put_and_get(folder, settings_of):
    """What travels when a key is put and got over TCP: (recording, key, value)."""
    key = "conversation-" + secrets.token_hex(16)
    value = secrets.token_bytes(300_000)
    cluster = Cluster()
    try:
        cluster.start(nodes=1, meta_settings=settings_of("meta"),
                      local_settings={"ock.mmc.local_service.shm.enable": "false",
                                      "ock.mmc.local_service.name": NODE, **settings_of("local")})
        conf = folder / "client.conf"
        conf.write_text("".join(f"{name} = {value}\n" for name, value in settings_of("client").items()))
        arguments = ("--config", conf, "--meta", cluster.meta.url)
        with Capture() as wire:
            put = run_program("mmc", *arguments, "put", key, "-", input=value, text=False)
            got = run_program("mmc", *arguments, "get", key, text=False)
        packets = wire.bytes()
        assert put.returncode == 0, put.stderr.decode() + cluster.meta.stderr()[-2000:]
        assert got.returncode == 0, got.stderr.decode()
        assert got.stdout == value
        assert len(packets) > 2 * len(value), "the value travelled another way"
        return packets, key.encode(), value
    finally:
        cluster.cleanup()


def seen(packets, key, value):
    """A packet boundary may fall anywhere: some of many short pieces of the value are whole in one."""
    return key in packets, any(value[at:at + 32] in packets for at in range(0, len(value) - 32, 997))


def test_without_tls_the_recording_shows_key_and_value(network, tmp_path):
    del network
    assert seen(*put_and_get(tmp_path, lambda role: {})) == (True, True)


def test_with_tls_of_values_it_shows_no_value(network, node, tmp_path):
    del network
    assert seen(*put_and_get(tmp_path, lambda role: of_values(role, node))) == (True, False)


def test_with_tls_of_calls_too_it_shows_neither(network, node, tmp_path):
    del network
    found = put_and_get(tmp_path, lambda role: {**of_calls(role, node), **of_values(role, node)})
    assert seen(*found) == (False, False)
