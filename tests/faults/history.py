"""A history of calls on keys, and the check that it can be explained.

Values are immutable and name their writer, so each key is checked by itself, and a get tells which put it has seen.
An operation took effect at one moment between its `begin` and its `end`; one whose answer was lost (`end` None, or a
status that leaves it open) may have taken effect at any time since its begin, or never.

What may be observed of version v of a key:
 - a put of v had begun before the observation ended;
 - v was not followed for good: no remove that succeeded, and no commit of another version, lies wholly between the
   moment by which v was committed and the observation. Commits and removals are durable in the pools that are looked
   at; evictions are not: a meta service that dies may forget that v was evicted before the other version came and went,
   so a commit of another version that is followed by such a death proves nothing.
What may explain a miss:
 - no put was known to be committed before the miss began, or
 - a remove, or an eviction (the pool's counter moved), or the loss of a node, between the last proof that the version
   was there and the end of the miss.
"""
import bisect
import json
from collections import defaultdict
from dataclasses import dataclass

FOREVER = float("inf")
# A put that ends so was not stored.
NOT_STORED = {"NO_SPACE", "NO_NODE", "BEING_WRITTEN", "INVALID_ARGUMENT", "TOO_LARGE", "UNAVAILABLE"}
DONE, MISS = "OK", "NOT_FOUND"


@dataclass
class Call:
    what: str            # "put", "get", "remove"
    key: str
    begin: float
    end: float | None    # None: no answer
    code: str | None     # None: no answer
    version: object = None  # of a put, or found by a get; a text when a get found what nobody wrote

    def __str__(self):
        end = "no answer" if self.end is None else f"{self.end:.4f} {self.code}"
        return f"{self.what} {self.key} version {self.version} [{self.begin:.4f}, {end}]"


@dataclass
class Happening:
    """Something that is not a call: "meta killed", "node lost" at a time, "evicted" between two looks at the
    counter."""
    what: str
    begin: float
    end: float


def check(calls, happenings):
    """What cannot be explained, one text each."""
    by_key = defaultdict(list)
    for call in calls:
        by_key[call.key].append(call)
    wrong = []
    for key, of_key in sorted(by_key.items()):
        wrong.extend(KeyHistory(of_key, happenings).check())
    return wrong


class Latest:
    """Of entries (position, value, what): the one with the largest value among those at positions before a limit."""

    def __init__(self, entries):
        self.positions, self.best = [], []
        for position, value, what in sorted(entries, key=lambda entry: entry[:2]):
            self.positions.append(position)
            better = not self.best or value > self.best[-1][0]
            self.best.append((value, what) if better else self.best[-1])

    def before(self, limit, including=False):
        """(value, what), None when there is no entry before the limit."""
        find = bisect.bisect_right if including else bisect.bisect_left
        at = find(self.positions, limit)
        return self.best[at - 1] if at else None


class KeyHistory:
    def __init__(self, calls, happenings):
        self.calls = sorted(calls, key=lambda call: call.begin)
        self.deaths = sorted(h.begin for h in happenings if h.what == "meta killed")
        self.puts = {call.version: call for call in calls if call.what == "put" and call.code not in NOT_STORED}
        self.refused = {call.version for call in calls if call.what == "put" and call.code in NOT_STORED}
        removes = [call for call in calls if call.what == "remove" and call.code not in (MISS, *NOT_STORED)]
        seen = [call for call in calls if call.what == "get" and call.code == DONE and call.version in self.puts]
        stored = [call for call in self.puts.values() if call.code == DONE]

        # By when each put had taken effect: its answer, or the first end of a get that saw it.
        self.committed = {}
        for call in [*seen, *stored]:
            self.committed[call.version] = min(call.end, self.committed.get(call.version, FOREVER))
        # What came after: position is when it was over, value when it began.
        self.removed = Latest((call.end, call.begin, call) for call in removes if call.code == DONE)
        self.followed = Latest((since, self.puts[version].begin, self.puts[version])
                               for version, since in self.committed.items())
        # The last moment at which something was surely there: a get saw it at its begin or later.
        self.proved = Latest((call.end, call.begin, call) for call in [*seen, *stored])
        # What takes a value away: position is when it began, value when it was over.
        takes = [*removes, *(h for h in happenings if h.what in ("evicted", "node lost"))]
        self.taken = Latest((take.begin, FOREVER if take.end is None else take.end, take) for take in takes)

    def check(self):
        for call in self.calls:
            if call.what != "get" or call.end is None:
                continue
            why = self._found(call) if call.code == DONE else self._missed(call) if call.code == MISS else None
            if why:
                yield f"{call}: {why}"

    def _found(self, get):
        put = self.puts.get(get.version)
        if put is None:
            return "this put was refused" if get.version in self.refused else "nobody put this"
        if put.begin >= get.end:
            return f"seen before it was put: {put}"
        there = self.committed[get.version]
        remove = self.removed.before(get.begin)
        if remove is not None and there < remove[0]:
            return f"it had been removed: {remove[1]}"
        other = self.followed.before(get.begin)
        if other is not None and there < other[0] and not self._died(there, get.end):
            return f"it had made way: {other[1]}"
        return None

    def _died(self, begin, end):
        """Whether a meta service died between the two, and may have forgotten what no catalog had."""
        at = bisect.bisect_left(self.deaths, begin)
        return at < len(self.deaths) and self.deaths[at] <= end

    def _missed(self, miss):
        proof = self.proved.before(miss.begin)
        if proof is None:
            return None
        take = self.taken.before(miss.end, including=True)
        if take is not None and take[0] >= proof[0]:
            return None
        return f"it was there, and nothing took it away: {proof[1]}"


def read(paths):
    """The calls in the files that clients have written: a line when a call begins, one when it ends. The last line of a
    client that was killed may be cut off."""
    calls = []
    for path in paths:
        begun = {}
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            entry = json.loads(line)
            if "what" in entry:
                begun[entry["id"]] = Call(entry["what"], entry["key"], entry["at"], None, None, entry.get("version"))
            else:
                call = begun.pop(entry["id"])
                call.end, call.code = entry["at"], entry["code"]
                if call.what == "get":
                    call.version = entry.get("found")
                calls.append(call)
        calls.extend(begun.values())
    return calls
