"""A client process that is told what to do: one JSON object per line on stdin, one answer per line on stdout. Values
say
whose they are: every byte of one follows from its key and version."""
import json
import random
import sys

import pymmc

HEAD = "{key}|{version}|{size}|"


def value_of(key, version, size):
    head = HEAD.format(key=key, version=version, size=size).encode()
    assert size >= len(head), f"{size} bytes cannot hold {head}"
    return head + random.Random(head).randbytes(size - len(head))


def version_of(key, value):
    """The version of a whole and right value; else a text that says what is wrong."""
    parts = bytes(value[:4096]).split(b"|", 3)
    if len(parts) != 4 or not parts[1].isdigit() or not parts[2].isdigit():
        return f"{len(value)} bytes that begin with {bytes(value[:40])!r}"
    owner, version, size = parts[0].decode(errors="replace"), int(parts[1]), int(parts[2])
    if owner != key or size != len(value):
        return f"{len(value)} bytes of version {version}, {size} bytes, of {owner}"
    if value != value_of(key, version, size):
        return f"version {version} with wrong bytes"
    return version


def put(client, key, version, size, replicas=1, nodes=(), timeout=10):
    value = value_of(key, version, size)
    status, = client.put([(key, value)], replicas=replicas, preferred_nodes=nodes, timeout=timeout)
    return {"code": status.code.name, "message": status.message}


def get(client, key, timeout=10):
    (status, value), = client.get_results([key], timeout=timeout)
    found = version_of(key, value) if status.ok else None
    return {"code": status.code.name, "message": status.message, "found": found}


def remove(client, key):
    status, = client.remove([key])
    return {"code": status.code.name, "message": status.message}


def drain(client, node, cancel=False):
    client.drain(node, cancel=cancel)
    return {"code": "OK"}


ACTIONS = {"put": put, "get": get, "remove": remove, "drain": drain}


def answer(client, command):
    try:
        return ACTIONS[command.pop("do")](client, **command)
    except pymmc.MmcError as error:
        return {"code": error.code.name, "message": str(error)}


def main():
    print("{}", flush=True)  # the interpreter is there, with the library
    options = json.loads(sys.stdin.readline())
    client = pymmc.Client(options.pop("meta_url"), **options)
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(client, json.loads(line))), flush=True)
    client.close()


if __name__ == "__main__":
    main()
