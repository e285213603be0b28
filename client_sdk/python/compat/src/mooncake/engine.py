"""TransferEngine: registered memory of this process, read and written by others, over TCP."""
import concurrent.futures
import ctypes
import enum
import itertools
import json
import logging
import threading
import urllib.error
import urllib.parse
import urllib.request

from . import _engine_wire, _hosts, _memory

_log = logging.getLogger("mooncake.engine")
_METADATA_SECONDS = 10.0
_WORKERS = 8

SUPPORT_EFA = SUPPORT_HIP = SUPPORT_MNNVL = SUPPORT_MUSA = SUPPORT_INTRA_NVLINK = SUPPORT_CUDA = False


class TransferOpcode(enum.IntEnum):
    Read = 0
    Write = 1


class TransferNotify:
    def __init__(self, name="", msg=""):
        self.name = name
        self.msg = msg


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


class TransferEngine:
    """Every call may be made from any thread. Codes: 0, or -1 when it failed; nothing raises for what the other side
    does."""

    TransferOpcode = TransferOpcode

    def __init__(self):
        self._server = None
        self._links = _engine_wire.Links()
        self._registered = _memory.Registered()
        self._memory = _memory.HostMemory()
        self._metadata = _Metadata("")
        self._name = ""
        self._lock = threading.Lock()
        self._workers = None
        self._ids = itertools.count(1)
        self._pending = {}

    def initialize(self, local_hostname, metadata_server, protocol, device_name, /):
        """Opens the port that others use. With "P2PHANDSHAKE" it is a free one (get_rpc_port()), else the one in
        local_hostname if it is free. Any protocol and device is accepted: it is TCP. 0 or -1."""
        del protocol, device_name
        if self._server is not None:
            return -1
        try:
            host, port = _hosts.split_host(local_hostname)
            listen = _hosts.listen_host(host, "tcp://127.0.0.1:1")
            peers = metadata_server.upper() == "P2PHANDSHAKE"
            try:
                server = _engine_wire.Server(listen, 0 if peers or port is None else port, self._registered)
            except OSError:
                server = _engine_wire.Server(listen, 0, self._registered)
            self._metadata = _Metadata(metadata_server)
            self._name = local_hostname
            try:
                self._metadata.publish(local_hostname, _hosts.join_host(listen, server.port))
            except OSError:
                server.close()
                raise
        except (OSError, ValueError, AttributeError) as error:
            _log.error("initialize: %s", error)
            return -1
        self._server = server
        return 0

    def initialize_ext(self, local_hostname, metadata_server, protocol, device_name, metadata_type, /):
        """initialize(); the type of the metadata is seen in its address."""
        del metadata_type
        return self.initialize(local_hostname, metadata_server, protocol, device_name)

    def get_rpc_port(self):
        """The port that others use; 0 before initialize()."""
        return self._server.port if self._server is not None else 0

    def get_engine(self):
        """This object; MooncakeDistributedStore.setup() takes it."""
        return self

    def get_engine_ptr(self):
        """0: there is no native object."""
        return 0

    def get_local_topology(self, device_name=None):
        """JSON text: the CPU, no devices."""
        del device_name
        return json.dumps({"cpu:0": [[], []]})

    def close(self):
        """Closes the port; idempotent."""
        server, self._server = self._server, None
        if server is not None:
            self._metadata.withdraw(self._name)
            server.close()
        self._links.close()
        with self._lock:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.shutdown(wait=False)

    def __del__(self):
        try:
            self.close()
        except Exception:  # the interpreter may be half gone
            return

    # Memory.

    def register_memory(self, buffer_addr, capacity, location="*"):
        """Lets others read and write it: 0, or -1 for what is no memory of this process."""
        del location
        if buffer_addr <= 0 or capacity <= 0 or not _memory.is_host_memory([buffer_addr], [capacity]):
            return -1
        self._registered.add(buffer_addr, capacity)
        return 0

    def unregister_memory(self, buffer_addr, /):
        """0, or -1 for an address that is not registered."""
        return 0 if self._registered.discard(buffer_addr) else -1

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
        address = self._memory.alloc(length)
        if address:
            self._registered.add(address, length)
        return address

    def free_managed_buffer(self, addr, length, /):
        """0, or -1 for an address that is none of allocate_managed_buffer()."""
        del length
        if self._memory.free(addr) != 0:
            return -1
        self._registered.discard(addr)
        return 0

    def write_bytes_to_buffer(self, addr, data, length, /):
        """Copies bytes to registered memory: 0 or -1."""
        if length > len(data) or not self._registered.holds(addr, length):
            return -1
        ctypes.memmove(addr, bytes(data), length)
        return 0

    def read_bytes_from_buffer(self, addr, length, /):
        """Bytes of registered memory; b"" for other memory."""
        return ctypes.string_at(addr, length) if self._registered.holds(addr, length) else b""

    def get_first_buffer_address(self, segment, /):
        """The address that the other engine registered first; 0: none, or it cannot be reached."""
        try:
            return self._links.first(self._metadata.address(segment))
        except (OSError, ValueError) as error:
            _log.error("%s: %s", segment, error)
            return 0

    # Transfers.

    def _transfer(self, target, operation, buffers, peers, lengths, notify=None):
        if self._server is None or not len(buffers) == len(peers) == len(lengths) or min(lengths, default=0) < 0:
            return -1
        pieces = [piece for piece in zip(buffers, peers, lengths) if piece[2]]
        if pieces and not self._registered.usable([piece[0] for piece in pieces], [piece[2] for piece in pieces]):
            return -1
        try:
            address = self._metadata.address(target)
            if pieces:
                self._links.transfer(address, operation, pieces)
            if notify is not None:
                self._links.note(address, notify.name, notify.msg)
            return 0
        except (OSError, ValueError) as error:
            self._metadata.forget(target)
            _log.error("transfer with %s: %s", target, error)
            return -1

    def transfer_sync_write(self, target_hostname, buffer, peer_buffer_address, length, transport_hint=""):
        """0 or -1."""
        del transport_hint
        return self._transfer(target_hostname, _engine_wire.WRITE, [buffer], [peer_buffer_address], [length])

    def transfer_sync_read(self, target_hostname, buffer, peer_buffer_address, length, transport_hint=""):
        """0 or -1."""
        del transport_hint
        return self._transfer(target_hostname, _engine_wire.READ, [buffer], [peer_buffer_address], [length])

    def transfer_sync(self, target_hostname, buffer, peer_buffer_address, length, opcode, notify=None,
                      transport_hint=""):
        """0 or -1."""
        return self.batch_transfer_sync(target_hostname, [buffer], [peer_buffer_address], [length], opcode, notify,
                                        transport_hint)

    def batch_transfer_sync_write(self, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint=""):
        """0 or -1."""
        del transport_hint
        return self._transfer(target_hostname, _engine_wire.WRITE, buffers, peer_buffer_addresses, lengths)

    def batch_transfer_sync_read(self, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint=""):
        """0 or -1."""
        del transport_hint
        return self._transfer(target_hostname, _engine_wire.READ, buffers, peer_buffer_addresses, lengths)

    def batch_transfer_sync(self, target_hostname, buffers, peer_buffer_addresses, lengths, opcode, notify=None,
                            transport_hint=""):
        """0 or -1."""
        del transport_hint
        operation = _engine_wire.READ if opcode == TransferOpcode.Read else _engine_wire.WRITE
        return self._transfer(target_hostname, operation, buffers, peer_buffer_addresses, lengths, notify)

    def _submit(self, *transfer):
        if self._server is None:
            return 0
        with self._lock:
            if self._workers is None:
                self._workers = concurrent.futures.ThreadPoolExecutor(_WORKERS, thread_name_prefix="engine")
            number = next(self._ids)
            self._pending[number] = self._workers.submit(self._transfer, *transfer)
            return number

    def batch_transfer_async_write(self, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint=""):
        """The number of the transfer, for get_batch_transfer_status(); 0 when it failed."""
        del transport_hint
        return self._submit(target_hostname, _engine_wire.WRITE, list(buffers), list(peer_buffer_addresses),
                            list(lengths))

    def batch_transfer_async_read(self, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint=""):
        """The number of the transfer, for get_batch_transfer_status(); 0 when it failed."""
        del transport_hint
        return self._submit(target_hostname, _engine_wire.READ, list(buffers), list(peer_buffer_addresses),
                            list(lengths))

    def batch_transfer_async(self, target_hostname, buffers, peer_buffer_addresses, lengths, opcode,
                             transport_hint=""):
        """The number of the transfer, for get_batch_transfer_status(); 0 when it failed."""
        run = self.batch_transfer_async_read if opcode == TransferOpcode.Read else self.batch_transfer_async_write
        return run(target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)

    def transfer_submit_write(self, target_hostname, buffer, peer_buffer_address, length, transport_hint=""):
        """The number of the transfer, for transfer_check_status(); 0 when it failed."""
        return self.batch_transfer_async_write(target_hostname, [buffer], [peer_buffer_address], [length],
                                               transport_hint)

    def transfer_check_status(self, batch_id, /):
        """1: done, 0: under way, -1: failed or not known. What is over is answered once."""
        with self._lock:
            future = self._pending.get(batch_id)
            if future is None:
                return -1
            if not future.done():
                return 0
            del self._pending[batch_id]
        return 1 if future.result() == 0 else -1

    def get_batch_transfer_status(self, batch_ids, /):
        """Waits for all of them: 0, or -1 when one failed or is not known."""
        with self._lock:
            futures = [self._pending.pop(number, None) for number in batch_ids]
        return min([-1 if future is None else future.result() for future in futures], default=0)

    def get_notifies(self):
        """The TransferNotify that came since the last call."""
        return [TransferNotify(*note) for note in self._server.notes()] if self._server is not None else []

    def send_probe(self, peer_server_name, /):
        """Whether the other engine answers: 0 or -1."""
        try:
            self._links.first(self._metadata.address(peer_server_name))
            return 0
        except (OSError, ValueError):
            return -1

    def warmup_efa_segment(self, segment_name):
        """0 when the other engine answers; there is nothing to warm up."""
        return self.send_probe(segment_name)


InnerTransferEngine = TransferEngine
