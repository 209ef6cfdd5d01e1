"""Every message between the processes, and its bytes: one version byte, then a tagged JSON object.

A message that is too long, of another version, of an unknown kind or of the wrong shape raises MessageError and
nothing else.
"""

from __future__ import annotations

import msgspec

from sidecar.ipc.plan import GroupPlan, KubernetesPlan, MirrorPlan, ProbePlan

VERSION = 1
MAXIMUM = 1024 * 1024
"""Bytes in one message: the roles of 1020 groups, or a page of their status, with room to spare."""


class MessageError(Exception):
    """Bytes that are no message of this version."""


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """The base of all messages; the class name is the tag."""


# Parent to engine ------------------------------------------------------------------------------------------------


class OpenInterface(Message, frozen=True, tag=True):
    """The engine may use this interface: its sockets come with the message. ``mac`` is 6 bytes.

    First a packet socket for each of the IP versions ``wires``, then a raw IP socket for each of ``raws``, for unicast,
    then a packet socket for each of ``answers`` that hears who has which VIP. ``gateways`` are this node's there,
    ``own_macs`` those of all its interfaces but for virtual ones, which are a group's.
    They replace those that came before.
    """

    interface: str
    index: int
    mac: bytes
    up: bool
    wires: tuple[int, ...] = (4,)
    raws: tuple[int, ...] = ()
    answers: tuple[int, ...] = ()
    gateways: tuple[str, ...] = ()
    own_macs: tuple[bytes, ...] = ()


CHANGES_REMEMBERED = 20
"""Of each group: by the engine, and by the parent for the next engine."""


class TransitionStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change of a group's role. ``at`` is Unix seconds, ``detail`` a sentence for people."""

    at: float
    before: str
    after: str
    reason: str
    detail: str


class StartGroup(Message, frozen=True, tag=True):
    """Run this group. ``resume``: its lease is still alive from an engine that died, so start as master.

    ``lease`` is how many seconds the kernel keeps the VIPs after a renewal; None: as the timing has it. ``history`` are
    the changes of role under earlier engines, the oldest first, ``seal_offset`` is the last one's (see Bind).
    """

    group: GroupPlan
    resume: bool
    lease: float | None = None
    history: tuple[TransitionStatus, ...] = ()
    seal_offset: float | None = None


class ChangeGroup(Message, frozen=True, tag=True):
    """Go on with other settings of a group that runs: its interface, vhid, VIPs and own addresses are the same.

    GroupChanged follows.
    """

    group: GroupPlan
    lease: float | None = None


class StopGroup(Message, frozen=True, tag=True):
    """Have this group hand over and end; GroupStopped follows, and then nothing of it any more."""

    group: str


class CloseInterface(Message, frozen=True, tag=True):
    """No group uses this interface any more."""

    interface: str


class LinkChanged(Message, frozen=True, tag=True):
    """The interface lost or regained its carrier, or changed its MAC (6 bytes)."""

    interface: str
    up: bool
    mac: bytes


class Bound(Message, frozen=True, tag=True):
    """The answer to Bind and Renew: the lease stands, or ``error`` says why it does not."""

    group: str
    error: str | None


class Released(Message, frozen=True, tag=True):
    """The answer to Release: this node no longer answers for the group's VIPs."""

    group: str


class Disturbed(Message, frozen=True, tag=True):
    """Somebody else on this node deleted or changed a VIP that is leased to it: have it put back. ``detail`` tells."""

    group: str
    detail: str


class StatusRequest(Message, frozen=True, tag=True):
    """Tell how the groups stand, from number ``first`` on.

    ``carp-sidecar status`` sends it to the control socket, the agent to the parent.
    """

    token: int
    first: int = 0


class Demote(Message, frozen=True, tag=True):
    """Demote all groups by ``weight`` (1..255) under this name until Promote gives it back; ``detail`` is for people.

    A name that is there already is replaced. Groups that start later are demoted as well.
    """

    name: str
    weight: int
    detail: str


class Promote(Message, frozen=True, tag=True):
    """Give back what Demote of this name took, if it took anything."""

    name: str


class HealthDemotion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a probe that fails weighs (1..255) in these groups; () is all. ``as_backup``: in no role but that."""

    name: str
    weight: int
    detail: str
    groups: tuple[str, ...] = ()
    as_backup: bool = False


class Health(Message, frozen=True, tag=True):
    """All that the health probes demote now. What an earlier one named and this one does not is given back."""

    demotions: tuple[HealthDemotion, ...] = ()


class HandOver(Message, frozen=True, tag=True):
    """Offer the mastership of all groups to whoever stands up; nobody there: go on as before."""


class Stop(Message, frozen=True, tag=True):
    """Hand over and end; also parent to agent."""


# Engine to parent ------------------------------------------------------------------------------------------------


class Ready(Message, frozen=True, tag=True):
    """The engine has started and reads: introduce its groups now, and resume what can be resumed now."""


class Bind(Message, frozen=True, tag=True):
    """Lease the group's VIPs to this node until that moment (seconds on CLOCK_BOOTTIME) and no longer.

    It counts from the advert that went out with it, so that whoever carries it out late does not lease for longer.
    ``seal_offset`` tells how far that advert's seal was ahead of CLOCK_BOOTTIME, in seconds, so that the next engine
    can go on from there; None where nothing is sealed.
    """

    group: str
    until: float
    seal_offset: float | None = None


class Renew(Message, frozen=True, tag=True):
    """Extend the lease to that moment; sent with each advert."""

    group: str
    until: float
    seal_offset: float | None = None


class Release(Message, frozen=True, tag=True):
    """Stop answering for the group's VIPs now."""

    group: str


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sender of adverts for a group. ``password`` says which of the group's it uses, from 1; 0: none of them.

    ``heard_at`` (Unix seconds) and the advert's numbers are None where it never sent a valid one.
    """

    address: str
    password: int
    adverts: int
    heard_at: float | None
    advbase: int | None
    advskew: int | None
    demotion: int | None
    drops: dict[str, int]


class DemotionStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One source of a group's demotion, and what it weighs."""

    name: str
    weight: int
    detail: str
    seconds: float | None = None
    """Until it ends by itself."""


class LeaseStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the kernel holds a group's VIPs, which the parent knows and not the engine.

    ``kind`` is nftables, address or off; ``why`` says where that is not what the settings ask for. ``remaining_ms`` is
    what is left of the lease, None where this node has none.
    """

    kind: str
    why: str
    remaining_ms: int | None


class GroupStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One group as it stands, its demotion 0..255. ``since`` is Unix seconds.

    ``master`` is the source address of whoever is master, or None.
    """

    name: str
    interface: str
    vhid: int
    vips: tuple[str, ...]
    role: str
    since: float
    reason: str
    detail: str
    master: str | None
    source: str
    second_source: str | None = None
    transitions: int
    transitions_by_reason: dict[str, int] = {}
    history: tuple[TransitionStatus, ...] = ()
    """The last of them, the oldest first."""
    advbase: int
    advskew: int
    demotion: int = 0
    demotions: tuple[DemotionStatus, ...] = ()
    adverts_sent: int
    adverts_received: int
    send_errors: int
    announcements: int = 0
    """Times that the LAN was told where the VIPs are."""
    drops: dict[str, int]
    peers: tuple[PeerStatus, ...] = ()
    rivals: tuple[str, ...] = ()
    """Other masters that go on."""
    lease: LeaseStatus | None = None
    held_back: str | None = None
    """Why a node that has not held the VIPs yet does not take over: somebody answers for one of them."""
    proof: str | None = None
    """What became of the last announcement: confirmed, contested or unknown; None where nobody was asked."""
    contestants: tuple[str, ...] = ()
    """Who else answers for a VIP, as ``10.0.0.200 at 02:00:00:00:00:09``."""
    disturbances: int = 0
    """How often somebody else on this node deleted or changed a VIP while it was leased."""
    disturbance: str | None = None
    """The last of these."""


class InterfaceStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One interface: its link, and the packets dropped before any group could be told, also by who sent them."""

    name: str
    up: bool
    drops: dict[str, int]
    peers: tuple[PeerStatus, ...] = ()


class LagStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How late the engine's loop served its deadlines, in seconds, as a Prometheus histogram.

    ``buckets`` are (upper bound, wake-ups that were no later), cumulative; what is later than the last bound is only in
    ``count``.
    """

    buckets: tuple[tuple[float, int], ...] = ()
    count: int = 0
    sum: float = 0.0
    maximum: float = 0.0


class SettingsStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which settings are in force: the ``generation``-th since the start, from ``applied_at`` on (Unix seconds).

    ``refused_since`` and ``errors`` tell of newer ones that can't be used; None and empty where there are none.
    ``refused_until`` is when the last ones that could not be used had been put right.
    """

    generation: int
    applied_at: float
    refused_since: float | None = None
    refused_until: float | None = None
    errors: tuple[str, ...] = ()


class StatusReply(Message, frozen=True, tag=True):
    """How everything stands, to the one who asked with ``token``: a page of the groups.

    The next page begins with group number ``more``; None: there is none.
    """

    token: int
    node: str
    groups: tuple[GroupStatus, ...]
    interfaces: tuple[InterfaceStatus, ...]
    lag: LagStatus = LagStatus()
    more: int | None = None
    settings: SettingsStatus | None = None
    """Added by the parent."""


class Unavailable(Message, frozen=True, tag=True):
    """The parent's answer to what can't be told or done now."""

    why: str


class Maintain(Message, frozen=True, tag=True):
    """What ``carp-sidecar demote`` and ``promote`` send: begin maintenance for ``reason`` (may be ""), None ends it."""

    reason: str | None


class Done(Message, frozen=True, tag=True):
    """The parent's answer to Maintain; ``text`` is a sentence for people."""

    text: str


class Drain(Message, frozen=True, tag=True):
    """What ``carp-sidecar drain`` sends: hand every group over, label first; Drained follows once that is decided."""


class Drained(Message, frozen=True, tag=True):
    """The parent's answer to Drain: who is master of the groups that were ``taken`` over, and which are ``left``."""

    taken: dict[str, str] = {}
    left: tuple[str, ...] = ()


class GroupRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group's role as the mirror needs it. ``since`` is Unix seconds, ``detail`` a sentence for people."""

    name: str
    role: str
    since: float
    reason: str
    transitions: int
    detail: str = ""


class Snapshot(Message, frozen=True, tag=True):
    """The roles of all groups, newest wins; the parent passes it on to the agent."""

    groups: tuple[GroupRole, ...]


class GroupChanged(Message, frozen=True, tag=True):
    """The answer to ChangeGroup: what comes from now on is of the new settings."""

    group: str


class GroupStopped(Message, frozen=True, tag=True):
    """The answer to StopGroup: this group has handed over and is gone."""

    group: str


class Stopped(Message, frozen=True, tag=True):
    """All groups have handed over; the engine ends now."""


# Parent to agent -------------------------------------------------------------------------------------------------


class MirroredGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the agent may know of a group: no key."""

    name: str
    interface: str
    vhid: int
    vips: tuple[str, ...]
    mirror: MirrorPlan = MirrorPlan()


class FormerGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a group was shown before the settings changed; Kubernetes may still say so.

    ``several`` tells whether there were other groups, ``lease`` whether there was a Lease as witness.
    """

    group: MirroredGroup
    role_label: str
    several: bool
    lease: bool


class StartAgent(Message, frozen=True, tag=True):
    """Mirror these groups into this pod (None: into none), and tell of them at ``http_listen`` ("": nowhere).

    ``pod`` is whose listener that is: ``namespace/name``, or "" where that is not known. What ``former`` ones
    left behind is taken away; without ``groups`` that is all there is to do.
    """

    node: str
    kubernetes: KubernetesPlan | None
    groups: tuple[MirroredGroup, ...]
    former: tuple[FormerGroup, ...] = ()
    http_listen: str = ""
    pod: str = ""
    health: tuple[ProbePlan, ...] = ()
    failing: dict[int, str] | None = None
    """What an earlier agent said of the probes (see Probed); None: nothing yet."""


class YieldLabels(Message, frozen=True, tag=True):
    """Have the pods not say master of these groups, whatever the roles are; Labelled follows. (): say what is."""

    groups: tuple[str, ...]


class Settings(Message, frozen=True, tag=True):
    """Which settings are in force, and whether newer ones are refused; sent when that changes."""

    status: SettingsStatus


# Agent to parent -------------------------------------------------------------------------------------------------


class Probed(Message, frozen=True, tag=True):
    """Which health probes fail now, and why: all of them, by number in StartAgent. The parent knows their weights."""

    failing: dict[int, str]


class Labelled(Message, frozen=True, tag=True):
    """The answer to YieldLabels: the pods say so."""


class StandAside(Message, frozen=True, tag=True):
    """A rollout asks to let others go first in those of these groups of which this node is backup; () for none.

    ``word`` is what it wrote, "" while nothing is written: the same may be said again, which is no news.
    """

    groups: tuple[str, ...]
    word: str


class NodeSays(Message, frozen=True, tag=True):
    """What people say of this node by its Node object, all that the settings ask for (``KubernetesPlan``).

    ``maintenance`` and ``advskew`` are annotations, None: not there. ``refused`` says why the latter can't be used, and
    the one before stays.
    """

    maintenance: str | None = None
    advskew: int | None = None
    refused: str | None = None
    cordoned: bool = False


AnyMessage = (
    OpenInterface
    | StartGroup
    | ChangeGroup
    | StopGroup
    | CloseInterface
    | LinkChanged
    | Bound
    | Released
    | Disturbed
    | StatusRequest
    | Demote
    | Promote
    | Health
    | HandOver
    | Stop
    | Ready
    | Bind
    | Renew
    | Release
    | StatusReply
    | Unavailable
    | Maintain
    | Done
    | Drain
    | Drained
    | Snapshot
    | GroupChanged
    | GroupStopped
    | Stopped
    | StartAgent
    | Settings
    | Probed
    | YieldLabels
    | Labelled
    | StandAside
    | NodeSays
)

_decoder: msgspec.json.Decoder[AnyMessage] = msgspec.json.Decoder(AnyMessage)
_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """Return the bytes of one message. Raises MessageError if it is longer than MAXIMUM."""
    data = bytes((VERSION,)) + _encoder.encode(message)
    if len(data) > MAXIMUM:
        raise MessageError(f"{type(message).__name__} takes {len(data)} bytes, at most {MAXIMUM} are sent")
    return data


def decode(data: bytes) -> AnyMessage:
    """Read one message. Raises MessageError for anything else than what ``encode`` makes."""
    if not data or len(data) > MAXIMUM:
        raise MessageError(f"a message of {len(data)} bytes")
    if data[0] != VERSION:
        raise MessageError(f"message version {data[0]}, this side speaks {VERSION}")
    try:
        return _decoder.decode(data[1:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"no message: {error}") from error
