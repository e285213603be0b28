"""A client process that calls at random and writes down what it asked and what it was told (history.py reads it):

    history_client.py NAME SEED META_URL FOLDER KEYS SECONDS THREADS SAME_HOST

A line is in the file before the call begins, so what a client that is killed has left open is known."""
import json
import os
import random
import sys
import threading
import time

import pymmc
from worker import value_of, version_of

CALL_SECONDS = 8


class Diary:
    """One file per client; each line is written by one write(), so a kill cuts off no more than the last."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, **entry):
        # The clock of all processes of the machine.
        os.write(self.file, (json.dumps({"at": time.monotonic(), **entry}) + "\n").encode())


class Caller:
    """One thread's calls. Versions are unique over all clients."""

    def __init__(self, client, diary, number, seed, keys):
        self.client, self.diary, self.keys = client, diary, keys
        self.dice = random.Random(seed)
        self.next_id = number << 32

    def call(self):
        self.next_id += 1
        key = f"h-{self.dice.randrange(self.keys)}"
        what = self.dice.choices(("put", "get", "remove"), (4, 8, 1))[0]
        version = {"version": self.next_id} if what == "put" else {}
        self.diary.write(id=self.next_id, what=what, key=key, **version)
        try:
            answer = getattr(self, what)(key)
        except pymmc.MmcError as error:
            answer = {"code": error.code.name}
        self.diary.write(id=self.next_id, **answer)

    def put(self, key):
        size = self.dice.choice((200, 5_000, 60_000, 300_000))
        value = value_of(key, self.next_id, size)
        status, = self.client.put([(key, value)], replicas=self.dice.choice((1, 2)), timeout=CALL_SECONDS)
        return {"code": status.code.name}

    def get(self, key):
        (status, value), = self.client.get_results([key], timeout=CALL_SECONDS)
        return {"code": status.code.name, "found": version_of(key, value) if status.ok else None}

    def remove(self, key):
        return {"code": self.client.remove([key])[0].code.name}


def run(caller, until):
    while time.monotonic() < until:
        caller.call()


def main():
    name, seed, url, folder, keys, seconds, threads, same_host = sys.argv[1:]
    client = pymmc.Client(url, name=name, timeout=CALL_SECONDS, connect_retry=30, same_host=same_host == "1")
    diary = Diary(os.path.join(folder, name))
    until = time.monotonic() + float(seconds)
    # A number of its own for each caller of each process: the pid is the clients' number.
    callers = [Caller(client, diary, os.getpid() * 16 + at, f"{seed}/{at}", int(keys)) for at in range(int(threads))]
    running = [threading.Thread(target=run, args=(caller, until)) for caller in callers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    client.close()


if __name__ == "__main__":
    main()
