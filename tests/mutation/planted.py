"""Bugs that somebody could really make in protocol/, and what the simulated LAN has to find without being told.

Each is a piece of a file and what stands there instead.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    name: str
    file: str
    old: str
    new: str


BUGS = (
    Bug(
        "both of two equal masters yield",
        "election.py",
        "return None if theirs == us.interval else theirs < us.interval",
        "return theirs <= us.interval",
    ),
    Bug(
        "the tie-break stays with the equal and the higher address on both sides",
        "election.py",
        "    return int(theirs) < int(ours)",
        "    return False",
    ),
    Bug(
        "the worse of two demoted masters stays",
        "election.py",
        "return advert.demotion < us.demotion\n    theirs",
        "return advert.demotion > us.demotion\n    theirs",
    ),
    Bug(
        "a renewal without an advert",
        "machine.py",
        "            mastership.announce(now)\n            done.append(effects.Announce())",
        "            mastership.announce(now)\n            done += [effects.Announce(), effects.Renew()]",
    ),
    Bug(
        "an advert without a renewal",
        "mastership.py",
        "        self._await_answer(now)\n        return True",
        "        self._await_answer(now)\n        return self._last_advert < self.since + 5",
    ),
    Bug(
        "goodbye before the release",
        "machine.py",
        'self._leave(Reason.STOP, "asked to stop")',
        '[self._bow_out(), *self._leave(Reason.STOP, "asked to stop")]',
    ),
    Bug(
        "goodbye after the first of two releases",
        "machine.py",
        "        if self._releases_pending:\n            return ()\n        return (self._bow_out()",
        "        return (self._bow_out()",
    ),
    Bug(
        "adverts forget the demotion's byte",
        "machine.py",
        "return effects.Advertise(advbase=self.config.advbase, advskew=advskew, demotion=self.demotion)",
        "return effects.Advertise(advbase=self.config.advbase, advskew=advskew, demotion=0)",
    ),
    Bug(
        "a demotion is not given back",
        "demotion.py",
        "        self._taken.pop(name, None)",
        "        self._taken.get(name)",
    ),
    Bug(
        "a source that takes again keeps its first weight",
        "demotion.py",
        "        self._taken[name] = Demotion(",
        "        self._taken[name] = self._taken.get(name) or Demotion(",
    ),
    Bug(
        "a master that slept believes it is master still",
        "mastership.py",
        "return silent if silent >= self._patience else None",
        "return None",
    ),
    Bug(
        "a backup that slept takes over without having listened",
        "machine.py",
        "if late > self.interval / 2 and not self._granted_extra:",
        "if late > math.inf and not self._granted_extra:",
    ),
    Bug(
        "all backups stand up together",
        "machine.py",
        "due = now + self.config.advskew * STAGGER",
        "due = now",
    ),
    Bug(
        "the start-up delay is forgotten",
        "machine.py",
        "self._ears.arm(max(at, self._leads_from))",
        "self._ears.arm(at)",
    ),
    Bug(
        "an answer to a lease that was given up counts for the next one",
        "machine.py",
        "if mastership is None or self._releases_pending:",
        "if mastership is None:",
    ),
    Bug(
        "a master of one family takes the other one's silence for a death again and again",
        "machine.py",
        "            self._ears.rest_but(ear)\n",
        "",
    ),
    Bug(
        "an unanswered lease is believed in for ever",
        "mastership.py",
        "        return now >= self._answer_by",
        "        return False",
    ),
    Bug(
        "an advert may be replayed until the next one",
        "seal.py",
        "if tick <= last:",
        "if tick < last:",
    ),
    Bug(
        "the seal leaves out the sender",
        "seal.py",
        "state.update(advert.source.packed + bytes(",
        "state.update(bytes(",
    ),
    Bug(
        "a tick may come twice",
        "seal.py",
        "self._last = max(self._last + 1, self._base",
        "self._last = max(self._last, self._base",
    ),
    Bug(
        "a new mastership sets the ticks back",
        "seal.py",
        "self._base = max(self._last + 1, int(wall * TICKS_PER_SECOND))",
        "self._base = self._last = int(wall * TICKS_PER_SECOND)",
    ),
    Bug(
        "only the wall clock counts",
        "seal.py",
        "expected.append(last + (now - heard_at) * TICKS_PER_SECOND)",
        "expected.append(wall * TICKS_PER_SECOND)",
    ),
)
