"""The settings of one health probe: an entry of ``health:``. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from sidecar.config import values
from sidecar.config.fields import Keys, Lower, Remedy, WholeNumber
from sidecar.ipc.plan import ProbeKind
from sidecar.protocol.demotion import HARD, MOST_ON_WIRE

PROBES_AT_MOST = 16
"""In one group."""

_Seconds = Annotated[float, BeforeValidator(values.duration), Field(ge=0.1, le=3600)]
_Count = Annotated[WholeNumber, Field(ge=1, le=1000)]


class ProbeKeys(Keys):
    """One probe."""

    name: Annotated[
        Annotated[str, AfterValidator(values.dns_label)] | None,
        Remedy("give each probe of a group a name of its own, such as app"),
    ] = None
    """The probe's name in `status`, logs and metrics (as `health:<name>`). Required."""

    http: Annotated[
        Annotated[str, AfterValidator(values.http_url)] | None,
        Remedy("use http:// or https://, an address, and a port and a path, such as http://127.0.0.1:8080/healthz"),
    ] = None
    """URL that has to be answered with a status from 200 to 399. No name but localhost: a probe must not depend on DNS.
    Certificates are not verified, redirects not followed."""

    tcp: Annotated[
        Annotated[str, AfterValidator(values.address_and_port)] | None,
        Remedy("use address:port, such as 127.0.0.1:5432 or [::1]:5432"),
    ] = None
    """`address:port` that has to accept a connection."""

    exec: Annotated[
        Annotated[tuple[str, ...], BeforeValidator(values.arguments)],
        Remedy("use the absolute path of an executable file and its arguments, as a list or as one text"),
    ] = ()
    """Command that has to end with exit code 0. There is no shell; it has no rights and no settings in its
    environment."""

    file: Annotated[
        Annotated[str, AfterValidator(values.absolute_path)] | None, Remedy("use the absolute path of a file")
    ] = None
    """File that has to be there."""

    container: Annotated[
        Annotated[str, AfterValidator(values.dns_label)] | None,
        Remedy("use the name of another container of this pod"),
    ] = None
    """Another container of this pod that has to be ready, as Kubernetes says."""

    node_condition: Annotated[
        Annotated[str, AfterValidator(values.node_condition)] | None,
        Remedy("use a condition of the Node, such as Ready, or with its status, such as DiskPressure=False"),
    ] = None
    """Condition of this Node that has to be True, or what is told after `=`. Needs the right to read the Node."""

    gateway: Annotated[bool, Lower, Remedy("use true, or leave it out")] = False
    """`true`: the default gateway of the group's interface has to answer ARP (IPv4)."""

    interval: Annotated[_Seconds, Remedy("use a time from 100ms to 1h, such as 2s")] = 2.0
    """Time from the start of one probe to that of the next one; a probe never overlaps with itself."""

    timeout: Annotated[_Seconds, Remedy("use a time from 100ms to 1h, such as 1s")] = 1.0
    """Time after which a probe without an answer has failed."""

    rise: Annotated[_Count, Remedy("use a whole number of probes from 1 to 1000")] = 2
    """Successes in a row that end a failure."""

    fall: Annotated[_Count, Remedy("use a whole number of probes from 1 to 1000")] = 3
    """Failures in a row until the node is demoted."""

    weight: Annotated[
        Annotated[WholeNumber, Field(ge=1, le=MOST_ON_WIRE)],
        Remedy("use a whole number from 1 to 255, the same on every node; 240 lets anybody else be master"),
    ] = HARD
    """What a failure adds to the demotion, 1 to 255; several probes add up. 240 lets anybody else be master."""

    max_age: Annotated[_Seconds | None, Remedy("use a time from 100ms to 1h, such as 30s, with file only")] = None
    """With `file`: the time within which it has to change, as the file of a heartbeat does."""

    def target(self, kind: ProbeKind) -> tuple[str, ...]:
        """Return what a probe of this kind asks; () where this one is of another, or asks about the interface."""
        given = getattr(self, kind.value)
        match given:
            case str():
                return (given,)
            case tuple():
                return given
            case _:
                return ()

    @property
    def kinds(self) -> tuple[ProbeKind, ...]:
        """The kinds that it was given, of which there should be one."""
        return tuple(kind for kind in ProbeKind if self.target(kind) or (kind is ProbeKind.GATEWAY and self.gateway))
