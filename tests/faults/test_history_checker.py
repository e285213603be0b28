"""The checker of histories finds what it is there to find: hand-made histories, good and bad."""
import json

import pytest
from history import Call, Happening, check, read


def put(version, begin, end, code="OK"):
    return Call("put", "k", begin, end, code, version)


def get(version, begin, end):
    return Call("get", "k", begin, end, "OK", version)


def miss(begin, end):
    return Call("get", "k", begin, end, "NOT_FOUND")


def remove(begin, end, code="OK"):
    return Call("remove", "k", begin, end, code)


def killed(at):
    return Happening("meta killed", at, at)


def evicted(begin, end):
    return Happening("evicted", begin, end)


GOOD = {
    "a value that was put": [put(1, 0, 1), get(1, 2, 3)],
    "seen while its put runs": [put(1, 0, 5), get(1, 2, 3)],
    "not seen while its put runs": [put(1, 0, 5), miss(2, 3), get(1, 6, 7)],
    "a put without an answer, seen": [put(1, 0, None, None), get(1, 50, 51)],
    "a put without an answer, not seen": [put(1, 0, None, None), miss(50, 51)],
    "a put without an answer, seen late": [put(1, 0, None, None), miss(5, 6), get(1, 50, 51)],
    "a put that failed openly, seen": [put(1, 0, 1, "DEADLINE"), get(1, 2, 3)],
    "removed": [put(1, 0, 1), remove(2, 3), miss(4, 5)],
    "a remove that overlaps the get": [put(1, 0, 1), remove(2, 6), get(1, 3, 4), miss(7, 8)],
    "a remove without an answer": [put(1, 0, 1), remove(2, None, None), miss(9, 10)],
    "removed and put again": [put(1, 0, 1), remove(2, 3), put(2, 4, 5), get(2, 6, 7)],
    "a put that outlasts a remove": [put(1, 0, 9), remove(2, 3), get(1, 10, 11)],
    "evicted": [put(1, 0, 1), get(1, 2, 3), evicted(4, 5), miss(6, 7)],
    "a node with it was lost": [put(1, 0, 1), Happening("node lost", 2, 3), miss(6, 7)],
    "an eviction that died with the meta service": [
        put(1, 0, 1), evicted(1, 2), put(2, 3, 4), killed(4.5), get(1, 5, 6)],
    "nothing was put": [miss(0, 1)],
    "refused": [put(1, 0, 1, "NO_SPACE"), miss(2, 3)],
    "an error says nothing": [put(1, 0, 1), Call("get", "k", 2, 3, "DEADLINE")],
}
BAD = {
    "a value that nobody put": ([get(1, 2, 3)], "nobody put this"),
    "bytes that are no value": ([put(1, 0, 1), get("7 wrong bytes", 2, 3)], "nobody put this"),
    "seen before it was put": ([get(1, 0, 1), put(1, 2, 3)], "before it was put"),
    "a put that was refused": ([put(1, 0, 1, "NO_SPACE"), get(1, 2, 3)], "refused"),
    "back after its removal": ([put(1, 0, 1), remove(2, 3), get(1, 4, 5)], "had been removed"),
    "back after its removal, with another meta service": (
        [put(1, 0, 1), remove(2, 3), killed(3.5), get(1, 4, 5)], "had been removed"),
    "back although another was put since": (
        [put(1, 0, 1), evicted(1, 2), put(2, 3, 4), get(1, 5, 6)], "made way"),
    "back although another was seen since": (
        [put(1, 0, 1), evicted(1, 2), put(2, 3, None, None), get(2, 5, 6), get(1, 7, 8)], "made way"),
    "an open put that was seen, removed, and is back": (
        [put(1, 0, None, None), get(1, 2, 3), remove(4, 5), get(1, 6, 7)], "had been removed"),
    "gone for no reason": ([put(1, 0, 1), miss(2, 3)], "nothing took it away"),
    "gone after it was seen": ([put(1, 0, None, None), get(1, 2, 3), miss(4, 5)], "nothing took it away"),
    "gone, and the eviction was before": (
        [evicted(-3, -2), put(1, 0, 1), miss(2, 3)], "nothing took it away"),
    "gone, and the removal found nothing": (
        [put(1, 0, 1), remove(-2, -1, "NOT_FOUND"), miss(2, 3)], "nothing took it away"),
    "gone, and removed only later": ([put(1, 0, 1), miss(2, 3), remove(4, 5)], "nothing took it away"),
}


def split(entries):
    return ([e for e in entries if isinstance(e, Call)], [e for e in entries if isinstance(e, Happening)])


@pytest.mark.parametrize("name", GOOD)
def test_good(name):
    assert check(*split(GOOD[name])) == []


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    entries, why = BAD[name]
    found = check(*split(entries))
    assert len(found) == 1 and why in found[0], found


def test_keys_do_not_mix():
    other = Call("put", "other", 0, 1, "OK", 1)
    assert len(check([other, get(1, 2, 3)], [])) == 1


def test_the_file_of_a_client_that_was_killed(tmp_path):
    lines = [{"id": 1, "what": "put", "key": "k", "version": 4, "at": 1.0}, {"id": 1, "at": 2.0, "code": "OK"},
             {"id": 2, "what": "get", "key": "k", "at": 3.0}, {"id": 2, "at": 4.0, "code": "OK", "found": 4},
             {"id": 3, "what": "put", "key": "k", "version": 5, "at": 5.0}]
    path = tmp_path / "client"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"id": 3, "a', encoding="utf-8")
    calls = read([path])
    seen = [(call.what, call.version, call.end) for call in calls]
    assert seen == [("put", 4, 2.0), ("get", 4, 4.0), ("put", 5, None)]
    assert check(calls, []) == []
