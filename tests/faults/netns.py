"""Hosts as network namespaces of one machine: each has one veth to a namespace that routes between them and where
nftables
drops what a partition drops. Needs root, iproute2 and nftables."""
import contextlib
import os
import subprocess
import uuid


class Unavailable(Exception):
    pass


def run(*words, check=True, **kwargs):
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False, **kwargs)
    if check and done.returncode != 0:
        raise Unavailable(f"{' '.join(words)}: {done.stderr.strip()}")
    return done


class Lab:
    """Use with `with`: takes its namespaces away at the end. Raises Unavailable where the machine cannot have them."""

    def __init__(self, hosts):
        self.tag = f"mmc{os.getpid()}{uuid.uuid4().hex[:4]}"
        self.hosts = list(hosts)
        self.router = self.tag + "-router"
        self.made = []

    def __enter__(self):
        try:
            self._build()
        except (Unavailable, OSError) as error:
            self.__exit__()
            raise Unavailable(str(error)) from error
        return self

    def __exit__(self, *exc):
        for name in self.made:
            run("ip", "netns", "del", name, check=False)
        self.made.clear()

    def namespace(self, host):
        return f"{self.tag}-{host}"

    def address(self, host):
        return f"10.231.{self.hosts.index(host) + 1}.2"

    def inside(self, host):
        """What a command line begins with that runs on this host. It becomes the process itself: signals reach it."""
        return ["ip", "netns", "exec", self.namespace(host)]

    def _build(self):
        self._add(self.router)
        run("ip", "netns", "exec", self.router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for number, host in enumerate(self.hosts, 1):
            name = self.namespace(host)
            self._add(name)
            run("ip", "-n", self.router, "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0",
                "netns", name)
            run("ip", "-n", self.router, "addr", "add", f"10.231.{number}.1/30", "dev", f"to{number}")
            run("ip", "-n", self.router, "link", "set", f"to{number}", "up")
            run("ip", "-n", name, "addr", "add", f"10.231.{number}.2/30", "dev", "eth0")
            for device in ("lo", "eth0"):
                run("ip", "-n", name, "link", "set", device, "up")
            run("ip", "-n", name, "route", "add", "default", "via", f"10.231.{number}.1")
        self._nft("add table ip faults", "add chain ip faults forward { type filter hook forward priority 0; }")

    def _add(self, name):
        run("ip", "netns", "add", name)
        self.made.append(name)

    def _nft(self, *commands):
        run("ip", "netns", "exec", self.router, "nft", "; ".join(commands))

    @contextlib.contextmanager
    def unplugged(self, host):
        """The host's veth is down."""
        device = f"to{self.hosts.index(host) + 1}"
        run("ip", "-n", self.router, "link", "set", device, "down")
        try:
            yield
        finally:
            run("ip", "-n", self.router, "link", "set", device, "up")

    @contextlib.contextmanager
    def dropped(self, one, other, both_ways=True):
        """Packets between the two are dropped; with both_ways=False those from `one` to `other` only."""
        ways = [(one, other)] + ([(other, one)] if both_ways else [])
        self._nft(*[f"add rule ip faults forward ip saddr {self.address(a)} ip daddr {self.address(b)} drop"
                    for a, b in ways])
        try:
            yield
        finally:
            self._nft("flush chain ip faults forward")
