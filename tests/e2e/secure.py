"""Certificates for the end-to-end tests, from the script that ships, and what daemons and the CLI make of them."""
import socket
import subprocess
import threading
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_certs"


def make_certs(*args):
    """Runs the script; the last argument is the folder."""
    done = subprocess.run([str(SCRIPT), *map(str, args)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return Path(args[-1])


def settings(certs, name, authority="ca", prefix="ock.mmc.tls."):
    """The conf keys with which a service shows the certificate `name` of the folder."""
    return {
        prefix + "enable": "true",
        prefix + "ca.path": str(certs / f"{authority}.cert.pem"),
        prefix + "ca.crl.path": str(certs / f"{authority}.crl.pem"),
        prefix + "cert.path": str(certs / f"{name}.cert.pem"),
        prefix + "key.path": str(certs / f"{name}.key.pem"),
    }


def flags(certs, name, authorities=None):
    """The same for the CLI."""
    return ["--tls-ca", str((authorities or certs) / "ca.cert.pem"), "--tls-cert", str(certs / f"{name}.cert.pem"),
            "--tls-key", str(certs / f"{name}.key.pem")]


class Capture:
    """All frames of the loopback interface to or from one of `ports`, as the wire has them. Needs CAP_NET_RAW."""

    def __init__(self, ports):
        self.wanted = {port.to_bytes(2, "big") for port in ports}
        self.frames = []
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.socket.bind(("lo", 0))
        self.socket.settimeout(0.1)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)

    def _read(self):
        while True:
            try:
                frame = self.socket.recv(1 << 17)
            except socket.timeout:
                if self.stopped.is_set():
                    return
                continue
            # Ethernet, IPv4 without options, TCP: what the tests' daemons speak here.
            if frame[12:14] == b"\x08\x00" and frame[23] == 6 and {frame[34:36], frame[36:38]} & self.wanted:
                self.frames.append(frame[54:])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stopped.set()
        self.thread.join()
        self.socket.close()

    def bytes(self):
        return b"".join(self.frames)
