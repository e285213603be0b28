"""TransferEngine: registered memory of this process, read and written by others. The work is pymmc.TransferEngine's."""
import ctypes
import enum
import json
import logging
import operator
import os
import urllib.parse
import urllib.request

import pymmc

from . import _hosts

_log = logging.getLogger("mooncake.engine")
_METADATA_SECONDS = 10.0
_TLS = ("ca_path", "crl_path", "cert_path", "key_path", "key_pass_path")

SUPPORT_EFA = SUPPORT_HIP = SUPPORT_MNNVL = SUPPORT_MUSA = SUPPORT_INTRA_NVLINK = SUPPORT_CUDA = False

# What the other side does, and names that are no names: an answer, not an exception.
_FAILED = (pymmc.MmcError, OSError, ValueError)


class TransferOpcode(enum.IntEnum):
    Read = 0
    Write = 1


class TransferNotify:
    def __init__(self, name="", msg=""):
        self.name = name
        self.msg = msg


def _reads(opcode):
    try:
        return TransferOpcode(opcode) == TransferOpcode.Read
    except ValueError:
        raise TypeError(f"opcode is TransferOpcode.Read or Write, not {opcode!r}") from None


def _check_text(name):
    if not isinstance(name, str):
        raise TypeError(f"the name of an engine is text, not {name!r}")


class _Metadata:
    """Names of engines, at an HTTP metadata server. With any other kind the name is the address itself."""

    def __init__(self, url):
        self._url = url if url.startswith(("http://", "https://")) else ""
        self._known = {}

    def publish(self, name, address):
        """OSError when the server does not take it."""
        if self._url:
            self._call(name, "PUT", json.dumps({"address": address}).encode())

    def address(self, name):
        if not self._url:
            return name
        if name not in self._known:
            try:
                self._known[name] = json.loads(self._call(name, "GET"))["address"]
            except (OSError, ValueError, KeyError, TypeError):
                return name
        return self._known[name]

    def target(self, name):
        """"host:port" of that engine. ValueError when the name has no port."""
        address = self.address(name)
        host, port = _hosts.split_host(address)
        if port is None:
            raise ValueError(f"{address!r} names no port")
        return _hosts.join_host(host, port)

    def forget(self, name):
        self._known.pop(name, None)

    def withdraw(self, name):
        if self._url:
            try:
                self._call(name, "DELETE")
            except OSError:
                pass  # the entry names an address where nobody answers any more

    def _call(self, name, method, body=None):
        url = f"{self._url}?key={urllib.parse.quote('mmc/engine/' + name, safe='')}"
        request = urllib.request.Request(url, data=body, method=method)
        with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as answer:
            return answer.read()


def _options():
    """Of pymmc.TransferEngine, from the environment."""
    tls = {name: os.environ.get(f"MMC_ENGINE_TLS_{name.upper()}", "") for name in _TLS}
    return {"same_host": os.environ.get("MMC_SAME_HOST", "1") != "0",
            "timeout": max(5.0, _hosts.seconds_from_environment("MC_TRANSFER_TIMEOUT", 30.0)),
            "tls": {name: path for name, path in tls.items() if path} or None}


class TransferEngine:
    """Every call may be made from any thread. Codes: 0, or -1 when it failed; nothing raises for what the other side
    does."""

    TransferOpcode = TransferOpcode

    def __init__(self):
        self._native = pymmc.TransferEngine(None)
        self._metadata = _Metadata("")
        self._name = ""

    def initialize(self, local_hostname, metadata_server, protocol, device_name, /):
        """Opens the port that others use. With "P2PHANDSHAKE" it is a free one (get_rpc_port()), else the one in
        local_hostname if it is free. Any protocol and device is accepted; the transport is found out. 0 or -1."""
        del protocol, device_name
        if self._native.running:
            return -1
        try:
            host, port = _hosts.split_host(local_hostname)
            listen = _hosts.listen_host(host, "tcp://127.0.0.1:1")
            self._listen(listen, 0 if metadata_server.upper() == "P2PHANDSHAKE" else port or 0)
            self._metadata = _Metadata(metadata_server)
            self._name = local_hostname
            try:
                self._metadata.publish(local_hostname, _hosts.join_host(listen, self._native.port))
            except OSError:
                self._native.close()
                raise
        except (*_FAILED, AttributeError) as error:
            _log.error("initialize: %s", error)
            return -1
        return 0

    def _listen(self, host, port):
        options = _options()
        try:
            self._native.start("tcp://" + _hosts.join_host(host, port), **options)
        except pymmc.MmcError as error:
            if port == 0 or error.code != pymmc.Code.IO:
                raise
            self._native.start("tcp://" + _hosts.join_host(host, 0), **options)

    def initialize_ext(self, local_hostname, metadata_server, protocol, device_name, metadata_type, /):
        """initialize(); the type of the metadata is seen in its address."""
        del metadata_type
        return self.initialize(local_hostname, metadata_server, protocol, device_name)

    def _here(self, call, otherwise):
        """What the call answers; `otherwise` in a forked process, where this engine is not."""
        try:
            return call()
        except pymmc.ClosedError:
            return otherwise

    def _holds(self, addr, length):
        return addr > 0 and length >= 0 and self._here(lambda: self._native.holds(addr, length), False)

    def get_rpc_port(self):
        """The port that others use; 0 before initialize()."""
        return self._here(lambda: self._native.port, 0)

    def get_engine(self):
        """This object; MooncakeDistributedStore.setup() takes it."""
        return self

    def get_engine_ptr(self):
        """0: there is no object of the other store."""
        return 0

    def get_local_topology(self, device_name=None):
        """JSON text: the CPU, no devices."""
        del device_name
        return json.dumps({"cpu:0": [[], []]})

    def close(self):
        """Closes the port; idempotent."""
        if self._native.running:
            self._metadata.withdraw(self._name)
        self._native.close()

    def __del__(self):
        try:
            self.close()
        except Exception:  # the interpreter may be half gone
            return

    # Memory.

    @staticmethod
    def _code(call, *arguments):
        try:
            call(*arguments)
            return 0
        except _FAILED as error:
            _log.error("%s", error)
            return -1

    def register_memory(self, buffer_addr, capacity, location="*"):
        """Lets others read and write it (only read what this process may not write): 0, or -1 for what is no memory of
        this process."""
        del location
        return self._code(self._native.register, buffer_addr, capacity) if buffer_addr > 0 and capacity > 0 else -1

    def unregister_memory(self, buffer_addr, /):
        """0 when nobody else reads or writes it any more, or -1 for an address that is not registered."""
        return self._code(self._native.unregister, buffer_addr) if buffer_addr > 0 else -1

    def batch_register_memory(self, buffer_addresses, capacities, location="*"):
        """0, or -1 if one of them failed; those before it are registered."""
        if len(buffer_addresses) != len(capacities):
            return -1
        return min((self.register_memory(a, c, location) for a, c in zip(buffer_addresses, capacities)), default=0)

    def batch_unregister_memory(self, buffer_addresses, /):
        """0, or -1 if one of them was not registered."""
        return min([self.unregister_memory(address) for address in buffer_addresses], default=0)

    def allocate_managed_buffer(self, length, /):
        """The address of registered memory; 0 when there is none."""
        try:
            return self._native.allocate(length) if length > 0 else 0
        except pymmc.MmcError as error:
            _log.error("allocate_managed_buffer: %s", error)
            return 0

    def free_managed_buffer(self, addr, length, /):
        """0, or -1 for an address that is none of allocate_managed_buffer()."""
        del length
        return self._code(self._native.free, addr) if addr > 0 else -1

    def write_bytes_to_buffer(self, addr, data, length, /):
        """Copies bytes to registered memory: 0 or -1."""
        addr, length = operator.index(addr), operator.index(length)
        if not 0 <= length <= len(data) or not self._holds(addr, length):
            return -1
        ctypes.memmove(addr, bytes(data), length)
        return 0

    def read_bytes_from_buffer(self, addr, length, /):
        """Bytes of registered memory; b"" for other memory."""
        addr, length = operator.index(addr), operator.index(length)
        if not self._holds(addr, length):
            return b""
        return ctypes.string_at(addr, length)

    def get_first_buffer_address(self, segment, /):
        """The address that the other engine registered first; 0: none, or it cannot be reached."""
        _check_text(segment)
        try:
            return self._native.first_address(self._metadata.target(segment))
        except _FAILED as error:
            _log.error("%s: %s", segment, error)
            return 0

    # Transfers.

    def _transfer(self, call, target, buffers, peers, lengths, notify=None):
        """What the call returns; -1 when it failed."""
        _check_text(target)
        if notify is not None and not isinstance(notify, TransferNotify):
            raise TypeError(f"notify is a TransferNotify, not {notify!r}")
        try:
            address = self._metadata.target(target)
            done = call(address, buffers, peers, lengths)
            if notify is not None:
                self._native.send_note(address, notify.name, notify.msg)
            return done
        except TypeError:
            if min(map(min, filter(len, (buffers, peers, lengths))), default=0) >= 0:
                raise
            return -1
        except _FAILED as error:
            self._metadata.forget(target)
            _log.error("transfer with %s: %s", target, error)
            return -1

    def _sync(self, call, target, buffers, peers, lengths, notify=None):
        return 0 if self._transfer(call, target, buffers, peers, lengths, notify) is None else -1

    def _submit(self, call, target, buffers, peers, lengths):
        return max(0, self._transfer(call, target, buffers, peers, lengths))

    def transfer_sync_write(self, target_hostname, buffer, peer_buffer_address, length, transport_hint=""):
        """0 or -1."""
        del transport_hint
        return self._sync(self._native.write, target_hostname, [buffer], [peer_buffer_address], [length])

    def transfer_sync_read(self, target_hostname, buffer, peer_buffer_address, length, transport_hint=""):
        """0 or -1."""
        del transport_hint
        return self._sync(self._native.read, target_hostname, [buffer], [peer_buffer_address], [length])

    def transfer_sync(self, target_hostname, buffer, peer_buffer_address, length, opcode, notify=None,
                      transport_hint=""):
        """0 or -1."""
        return self.batch_transfer_sync(target_hostname, [buffer], [peer_buffer_address], [length], opcode, notify,
                                        transport_hint)

    def batch_transfer_sync_write(self, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint=""):
        """0 or -1."""
        del transport_hint
        return self._sync(self._native.write, target_hostname, buffers, peer_buffer_addresses, lengths)

    def batch_transfer_sync_read(self, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint=""):
        """0 or -1."""
        del transport_hint
        return self._sync(self._native.read, target_hostname, buffers, peer_buffer_addresses, lengths)

    def batch_transfer_sync(self, target_hostname, buffers, peer_buffer_addresses, lengths, opcode, notify=None,
                            transport_hint=""):
        """0 or -1. `notify` reaches the other engine behind the bytes."""
        del transport_hint
        call = self._native.read if _reads(opcode) else self._native.write
        return self._sync(call, target_hostname, buffers, peer_buffer_addresses, lengths, notify)

    def batch_transfer_async_write(self, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint=""):
        """The number of the transfer, for get_batch_transfer_status(); 0 when it failed."""
        del transport_hint
        return self._submit(self._native.submit_write, target_hostname, buffers, peer_buffer_addresses, lengths)

    def batch_transfer_async_read(self, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint=""):
        """The number of the transfer, for get_batch_transfer_status(); 0 when it failed."""
        del transport_hint
        return self._submit(self._native.submit_read, target_hostname, buffers, peer_buffer_addresses, lengths)

    def batch_transfer_async(self, target_hostname, buffers, peer_buffer_addresses, lengths, opcode,
                             transport_hint=""):
        """The number of the transfer, for get_batch_transfer_status(); 0 when it failed."""
        run = self.batch_transfer_async_read if _reads(opcode) else self.batch_transfer_async_write
        return run(target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)

    def transfer_submit_write(self, target_hostname, buffer, peer_buffer_address, length, transport_hint=""):
        """The number of the transfer, for transfer_check_status(); 0 when it failed."""
        return self.batch_transfer_async_write(target_hostname, [buffer], [peer_buffer_address], [length],
                                               transport_hint)

    def transfer_check_status(self, batch_id, /):
        """1: done, 0: under way, -1: failed or not known. What is over is answered once."""
        try:
            outcome = self._native.poll(batch_id) if batch_id > 0 else False
        except pymmc.MmcError:
            return -1
        return 0 if outcome is None else 1 if outcome else -1

    def get_batch_transfer_status(self, batch_ids, /):
        """Waits for all of them: 0, or -1 when one failed or is not known."""
        return min([self._code(self._native.wait, number) if number > 0 else -1 for number in batch_ids], default=0)

    def get_notifies(self):
        """The TransferNotify that came since the last call."""
        return [TransferNotify(*note) for note in self._here(self._native.take_notes, [])]

    def send_probe(self, peer_server_name, /):
        """Whether the other engine answers: 0 or -1."""
        _check_text(peer_server_name)
        return self._code(lambda: self._native.first_address(self._metadata.target(peer_server_name)))

    def warmup_efa_segment(self, segment_name):
        """0 when the other engine answers; there is nothing to warm up."""
        return self.send_probe(segment_name)


InnerTransferEngine = TransferEngine
