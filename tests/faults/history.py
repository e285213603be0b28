"""A history of calls on keys, and the check that it can be explained.

Values are immutable and name their writer, so each key is checked by itself, and a get tells which put it has seen.
An operation took effect at one moment between its `begin` and its `end`; one whose answer was lost (`end` None, or a
status that leaves it open) may have taken effect at any time since its begin, or never.

What may be observed of version v of a key:
 - a put of v had begun before the observation ended;
 - v was not followed for good: no remove that succeeded, and no commit of another version, lies wholly between the
   moment by which v was committed and the observation. A meta service that dies may forget a removal of which no
   catalog had heard yet, so a remove that is followed by such a death before the observation proves nothing.
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


class KeyHistory:
    def __init__(self, calls, happenings):
        self.calls = sorted(calls, key=lambda call: call.begin)
        self.deaths = sorted(h.begin for h in happenings if h.what == "meta killed")
        self.losses = [h for h in happenings if h.what in ("evicted", "node lost")]
        self.puts = {call.version: call for call in calls if call.what == "put" and call.code not in NOT_STORED}
        self.refused = {call.version for call in calls if call.what == "put" and call.code in NOT_STORED}
        self.removes = [call for call in calls if call.what == "remove" and call.code == DONE]
        self.maybe_removes = [call for call in calls
                              if call.what == "remove" and call.code not in (DONE, MISS, *NOT_STORED)]
        self.seen = defaultdict(list)  # version -> observations of it
        for call in calls:
            if call.what == "get" and call.code == DONE:
                self.seen[call.version].append(call)

    def check(self):
        for call in self.calls:
            if call.what != "get" or call.end is None:
                continue
            why = self._found(call) if call.code == DONE else self._missed(call) if call.code == MISS else None
            if why:
                yield f"{call}: {why}"

    # ---- a value was found

    def _found(self, get):
        put = self.puts.get(get.version)
        if put is None:
            return "this put was refused" if get.version in self.refused else "nobody put this"
        if put.begin >= get.end:
            return f"seen before it was put: {put}"
        # When it was surely in place for the last time, before this get: from then on it can only be lost.
        there = self._committed_by(put)
        if there is None:
            return None  # it may have come at any time
        for remove in self.removes:
            if there < remove.begin and remove.end < get.begin and not self._died(remove.begin, get.end):
                return f"it had been removed: {remove}"
        for version, other in self.puts.items():
            if version == get.version:
                continue
            since = self._committed_by(other)
            if since is not None and there < other.begin and since < get.begin and not self._died(there, get.end):
                return f"it had made way: {other}"
        return None

    def _committed_by(self, put):
        """By when this put had taken effect; None when its answer left that open and nobody saw it."""
        ends = [seen.end for seen in self.seen[put.version] if seen.end is not None]
        if put.code == DONE:
            ends.append(put.end)
        return min(ends, default=None)

    def _died(self, begin, end):
        """Whether a meta service died between the two, and may have forgotten what no catalog had."""
        at = bisect.bisect_left(self.deaths, begin)
        return at < len(self.deaths) and self.deaths[at] <= end

    # ---- nothing was found

    def _missed(self, miss):
        for version, put in self.puts.items():
            proof = self._last_proof(put, miss.begin)
            if proof is not None and not self._explained(proof, miss):
                return f"version {version} was there at {proof:.4f}, and nothing took it away: {put}"
        return None

    def _last_proof(self, put, before):
        """The last moment before `before` at which the version was surely there."""
        # A get proves that the value was there at some moment of it: at its begin or later.
        proofs = [seen.begin for seen in self.seen[put.version] if seen.end is not None and seen.end < before]
        if put.code == DONE and put.end < before:
            proofs.append(put.begin)
        return max(proofs, default=None)

    def _explained(self, since, miss):
        takes = [*self.removes, *self.maybe_removes, *self.losses]
        return any(take.begin <= miss.end and (FOREVER if take.end is None else take.end) >= since for take in takes)


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
