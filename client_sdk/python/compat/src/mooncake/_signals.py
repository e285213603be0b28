"""Ending a command."""
import signal
import threading


def stop_event():
    """Set by SIGTERM and SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def run_until(stop, call):
    """What the call answers; None when `stop` is set first, and the call is left behind."""
    answers = []
    working = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    working.start()
    while working.is_alive() and not stop.is_set():
        working.join(0.1)
    return answers[0] if answers else None
