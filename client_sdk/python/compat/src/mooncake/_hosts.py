"""Host names, sizes and times as the clients write them."""
import ipaddress
import logging
import os
import random
import socket

import pymmc

_log = logging.getLogger("mooncake")

MASTER_PORT = 50051
_AUTO_PORTS = range(12300, 14301)


def split_host(text):
    """(host without brackets, port or None) of "ip", "ip:port", "[v6]:port", "v6" and "ip:port:device"."""
    text = text.strip()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        fields = rest.split(":")
    else:
        try:
            ipaddress.IPv6Address(text)
            return text, None
        except ValueError:
            host, *fields = text.split(":")
            fields = ["", *fields]
    port = fields[1] if len(fields) > 1 else ""
    if not host:
        raise ValueError(f"{text!r} names no host")
    if not port:
        return host, None
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: the port is a number of 1 to 65535, not {port!r}")
    return host, int(port)


def join_host(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def master_url(text):
    """The address of the meta service, for pymmc: "host:port", several separated by commas."""
    if "://" in text and not text.startswith("tcp://"):
        raise ValueError(f"{text!r}: give the master's host:port")
    members = []
    for member in text.removeprefix("tcp://").split(","):
        host, port = split_host(member)
        members.append(join_host(host, port or MASTER_PORT))
    return "tcp://" + ",".join(members)


def _can_listen(host, port=0):
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    except OSError:
        return False


def listen_host(host, master):
    """An address of this machine under which others reach it: `host` itself, else the one that faces the master."""
    if _can_listen(host):
        return host
    peer, port = split_host(master.removeprefix("tcp://").split(",")[0])
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(peer, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return probe.getsockname()[0]
    except OSError:
        return "127.0.0.1"


def auto_port(host):
    """A free port for a host name that came without one."""
    for _ in range(20):
        port = random.choice(_AUTO_PORTS)
        if _can_listen(host, port):
            return port
    raise OSError(f"no free port of {_AUTO_PORTS[0]} to {_AUTO_PORTS[-1]} at {host}")


def size_of(value):
    """Bytes of 123, "123", "16MB", "16 mb". ValueError for anything else."""
    if isinstance(value, bool) or value is None:
        raise ValueError(f"{value!r} is no size")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"a size is not negative: {value}")
        return value
    try:
        return pymmc.parse_size(str(value).strip())
    except (pymmc.MmcError, TypeError) as wrong:
        raise ValueError(f"{value!r} is no size: write 512MB or a number of bytes") from wrong


def seconds_from_environment(name, default):
    """`default` when the variable is not set, or is no number."""
    try:
        return float(os.environ.get(name, default))
    except ValueError:
        _log.warning("%s=%r is no number of seconds; taking %s", name, os.environ[name], default)
        return default
