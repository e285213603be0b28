"""MetaService: a meta service that is this process."""
import os
import signal
import socket
import threading

import pymmc
from mmc_compat.codes import MEMCACHE_ERROR, MEMCACHE_OK

from ._conf_file import ConfigError, MetaSettings, log
from ._config import MetaConfig

_STOP_SECONDS = 5.0


class _ConfigStore:
    """Accepts and closes: there is no config store, but programs wait until something listens on its port."""

    def __init__(self, host, port):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        self._thread = threading.Thread(target=self._serve, name="mmc-config-store", daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                taken, _ = self._socket.accept()
            except OSError:
                return
            taken.close()

    def stop(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(_STOP_SECONDS)
        self._socket.close()


class _StopSignals:
    """SIGTERM and SIGINT end wait(); their handlers are given back. In another thread than the main one: no signals."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __enter__(self):
        self._read, self._write = os.pipe()
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._before[number] = signal.signal(number, self._stop)
        return self

    def _stop(self, number, frame):
        os.write(self._write, b"x")

    def wait(self):
        os.read(self._read, 1)

    def __exit__(self, *exc):
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        os.close(self._read)
        os.close(self._write)


class MetaService:
    """setup(MetaConfig), or the conf file that MMC_META_CONFIG_PATH names, then main()."""

    _keys = None

    @staticmethod
    def setup(config):
        """0; -1 for a configuration that cannot be used."""
        if not isinstance(config, MetaConfig):
            raise TypeError(f"setup() takes a MetaConfig, not {type(config).__name__}")
        keys = config._keys()
        try:
            MetaSettings(keys=keys)
        except ConfigError as error:
            log.error("setup: %s", error)
            return MEMCACHE_ERROR
        MetaService._keys = keys
        return MEMCACHE_OK

    @staticmethod
    def main():
        """Serves until SIGTERM or SIGINT: 0; -1 when it cannot."""
        try:
            settings = MetaService._settings()
            for warning in settings.warnings:
                log.warning("%s", warning)
            with _StopSignals() as signals:
                with settings.start() as service:
                    store = _config_store(settings, service)
                    log.info("meta service serves at %s", service.url)
                    try:
                        signals.wait()
                    finally:
                        if store is not None:
                            store.stop()
        except (ConfigError, pymmc.MmcError) as error:
            log.error("meta service: %s", error)
            return MEMCACHE_ERROR
        return MEMCACHE_OK

    @staticmethod
    def _settings():
        if MetaService._keys is not None:
            return MetaSettings(keys=MetaService._keys)
        path = os.environ.get("MMC_META_CONFIG_PATH", "")
        if not path:
            log.warning("MMC_META_CONFIG_PATH is not set: defaults are used")
        return MetaSettings(path)


def _config_store(settings, service):
    host, port = settings.config_store
    if port == service.port:
        return None
    try:
        return _ConfigStore(host, port)
    except OSError as error:
        log.warning("cannot listen at the config store's %s:%d: %s; the meta service does not need it", host, port,
                    error)
        return None
