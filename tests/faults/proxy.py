"""A forwarding proxy between client, nodes and meta service that knows the frames it forwards. A test hooks into it:
kill
a process when a certain frame passes, hold one back, delay, cut connections, or stop forwarding as a partition does."""
import collections
import contextlib
import socket
import threading
import time

from frames import ControlStream, DataStream, Malformed

FORWARD, DROP = "forward", "drop"

# A frame, or a piece of one: on which link ("client-meta"), whether towards the service, what, and which of its kind
# since Network.begin().
Step = collections.namedtuple("Step", "link up label count")


class Network:
    """All proxies of a cluster and what is done to the frames that pass them. Frames are told to `hook` one at a time.

    hook(step) -> FORWARD, DROP (the frame is lost and its connection cut), or a callable, which runs after the frame
    was forwarded."""

    def __init__(self):
        self.lock = threading.Lock()
        self.proxies = []
        self.hook = None
        self.steps = []  # in the order of passing
        self.counts = collections.Counter()

    def begin(self, hook=None):
        """Steps count from here."""
        with self.lock:
            self.hook, self.steps, self.counts = hook, [], collections.Counter()

    def end(self):
        """The steps since begin()."""
        with self.lock:
            self.hook = None
            return list(self.steps)

    def passes(self, link, up, label):
        with self.lock:
            step = Step(link, up, label, self.counts[link, label])
            self.counts[link, label] += 1
            self.steps.append(step)
            hook = self.hook
        return FORWARD if hook is None else hook(step)

    def add(self, link, upstream, make_stream):
        proxy = Proxy(self, link, upstream, make_stream)
        self.proxies.append(proxy)
        return proxy

    def on(self, link):
        return [proxy for proxy in self.proxies if proxy.link == link]

    def close(self):
        self.end()
        for proxy in self.proxies:
            proxy.close()


class Proxy:
    """Forwards connections of one link to one address. Thread-safe."""

    def __init__(self, network, link, upstream, make_stream):
        self.network = network
        self.link = link
        self.upstream = upstream
        self.make_stream = make_stream  # (from_client) -> ControlStream or DataStream
        self.delay = 0.0                # seconds that every piece is held back
        self.open = threading.Event()   # clear: connections stay, nothing gets through, as in a partition
        self.open.set()
        self.closed = False
        self.pairs = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"tcp://127.0.0.1:{self.port}"

    def cut(self):
        """Breaks every connection there is, with a reset."""
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            pair.break_off()
        return len(pairs)

    def close(self):
        self.closed = True
        self.open.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()
        self.thread.join(10)

    def _accept(self):
        while not self.closed:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.open.wait()
            try:
                far = socket.create_connection(self.upstream, timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            pair = Pair(self, near, far)
            with self.lock:
                self.pairs.add(pair)
            pair.start()

    def forget(self, pair):
        with self.lock:
            self.pairs.discard(pair)


class Pair:
    """Two connected sockets and the two threads that forward between them."""

    def __init__(self, proxy, near, far):
        self.proxy = proxy
        self.near, self.far = near, far
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.up, self.down = proxy.make_stream(True), proxy.make_stream(False)
        self.up.peer, self.down.peer = self.down, self.up

    def start(self):
        for source, target, stream in ((self.near, self.far, self.up), (self.far, self.near, self.down)):
            threading.Thread(target=self._pump, args=(source, target, stream), daemon=True).start()

    def break_off(self):
        # Whoever is gone must look gone to the other side at once: a process that is killed loses all its sockets.
        for sock in (self.near, self.far):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _pump(self, source, target, stream):
        try:
            while data := source.recv(1 << 18):
                for label, piece in stream.feed(data):
                    self._pass(stream is self.up, label, piece, target)
        except OSError:
            pass
        except Malformed as bad:
            print(f"proxy of {self.proxy.link}: {bad}")
        finally:
            self.break_off()
            self.proxy.forget(self)

    def _pass(self, up, label, piece, target):
        verdict = FORWARD if label is None else self.proxy.network.passes(self.proxy.link, up, label)
        if self.proxy.delay:
            time.sleep(self.proxy.delay)
        self.proxy.open.wait()
        if verdict == DROP:
            raise ConnectionAbortedError
        target.sendall(piece)
        if callable(verdict):
            verdict()


def control(rewrite_join=None):
    return lambda from_client: ControlStream(rewrite_join if from_client else None)


def data(from_client):
    return DataStream(from_client)
