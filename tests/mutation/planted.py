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
        '[self._goodbye(), *self._leave(Reason.STOP, "asked to stop")]',
    ),
    Bug(
        "goodbye after the first of two releases",
        "machine.py",
        "        if self._letting_go.pending:\n            return ()\n        return (self._goodbye()",
        "        return (self._goodbye()",
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
        "due = now + self.demotions.advskew(self.config.advskew) * STAGGER",
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
        "if mastership is None or self._letting_go.pending:",
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
        "the successor of a living master binds before that one has let go",
        "machine.py",
        "*([] if mastership.waits else [effects.Bind()])]",
        "effects.Bind()]",
    ),
    Bug(
        "any advert counts as the word that the master has let go",
        "machine.py",
        "        listener = advert.source if advert.sealed else None",
        "        if mastership.waits:\n            return self._bind(mastership, now)\n"
        "        listener = advert.source if advert.sealed else None",
    ),
    Bug(
        "the heir of one that hands over binds at once",
        "machine.py",
        "Reason.DEMOTED_MASTER, Reason.HANDED_OVER})",
        "Reason.DEMOTED_MASTER})",
    ),
    Bug(
        "an heir takes anybody's word",
        "machine.py",
        "return self._bind(mastership, now) if rival in self._replaced else []",
        "return self._bind(mastership, now)",
    ),
    Bug(
        "an heir waits for the word of one who is gone",
        "machine.py",
        "if in_turn and advert.bow_out and advert.source in self._replaced:",
        "if False:",
    ),
    Bug(
        "nobody tells the winner that waits",
        "letting_go.py",
        "        return tuple(self._tell_from)",
        "        return ()",
    ),
    Bug(
        "a node that is held back by a stranger takes over all the same",
        "machine.py",
        "if self.unproven and now < self._occupied_until:",
        "if False:",
    ),
    Bug(
        "a node that is held back asks never again",
        "machine.py",
        "self._ears.postpone(due=now, until=self._occupied_until)",
        "self._ears.postpone(due=now, until=math.inf)",
    ),
    Bug(
        "other settings forget the demotion",
        "machine.py",
        "        self.config = config\n        if self._mastership",
        "        self.config = config\n        self.demotions = Demotions()\n        if self._mastership",
    ),
    Bug(
        "other settings of a master forget its lease",
        "machine.py",
        "            return self._begin_mastership(now, wait=self._mastership.waits_for(now))",
        "            self._mastership = None\n            return self._become_backup(Reason.START, '', now)",
    ),
    Bug(
        "what is kept is not renewed",
        "machine.py",
        "return [self._advert_of_ours(), effects.Renew(), effects.Finished()]",
        "return [self._advert_of_ours(), effects.Finished()]",
    ),
    Bug(
        "what is kept outlasts its advert",
        "machine.py",
        "return [self._advert_of_ours(), effects.Renew(), effects.Finished()]",
        "return [effects.Renew(), effects.Finished()]",
    ),
    Bug(
        "what is kept is resumed as if it were not",
        "machine.py",
        "        if resume:\n",
        "        if False:\n",
    ),
    Bug(
        "a disturbed lease is not begun anew",
        "machine.py",
        "on its way to be right\n        return self._bind(mastership, now)",
        "on its way to be right\n        return []",
    ),
    Bug(
        "a takeover is not announced",
        "machine.py",
        "        return [*renewed, effects.Announce()]",
        "        return renewed",
    ),
    Bug(
        "an announcement is not repeated",
        "machine.py",
        "            mastership.announce(now)\n            done.append(effects.Announce())",
        "            mastership.announce(now)",
    ),
    Bug(
        "announcements end after the first few",
        "mastership.py",
        "if self._announcements_left > 0 else ANNOUNCE_REFRESH)",
        "if self._announcements_left > 0 else math.inf)",
    ),
    Bug(
        "a link that is back, or has another MAC, is not announced",
        "machine.py",
        "        self._mastership.announce_out_of_turn(now)\n        return [effects.Announce()]",
        "        return []",
    ),
    Bug(
        "a rival that is heard is answered without an announcement",
        "machine.py",
        "            mastership.announce_out_of_turn(now)\n            done.append(effects.Announce())",
        "            pass",
    ),
    Bug(
        "a rival that was never heard has let go, and nothing is announced",
        "machine.py",
        "        mastership.announce_out_of_turn(now)\n        return [effects.Announce()]\n\n    def _outranked_by",
        "        return []\n\n    def _outranked_by",
    ),
    Bug(
        "an announcement because of a rival is not repeated",
        "mastership.py",
        "        self._announce_at = now + ANNOUNCE_SPACING\n",
        "",
    ),
    Bug(
        "a winner that knows no word of ours is not told that there was a rival",
        "machine.py",
        "[self._advert_of_ours()] if mastership.leased and not (yields or advert.sealed) else []",
        "[]",
    ),
    Bug(
        "a restart forgets its ticks",
        "seal.py",
        "self._base = max(self._last + 1, int(wall * TICKS_PER_SECOND))",
        "self._base = self._last + 1",
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
