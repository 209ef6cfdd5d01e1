"""An engine whose turns and whose clock are the test's, which is its parent and holds the other end of its wire."""

from __future__ import annotations

import select
import socket
from types import TracebackType
from typing import Self, TypeVar

from sidecar.control import every_page
from sidecar.engine.loop import Engine
from sidecar.ipc.channel import Channel, ChannelClosedError, pair
from sidecar.ipc.messages import (
    AnyMessage,
    GroupStatus,
    InterfaceStatus,
    Message,
    OpenInterface,
    StartGroup,
    StatusReply,
    StatusRequest,
)
from sidecar.ipc.plan import GroupPlan

M = TypeVar("M", bound=Message)

MAC = bytes.fromhex("020000000011")


class DrivenEngine(Engine):
    """Use as a context manager. ``now`` is what its clock shows."""

    def __init__(self) -> None:
        self.now = 0.0
        self.parent, theirs = pair()
        self._ours = Channel(theirs)
        super().__init__(self._ours, node="node-1", clock=lambda: self.now)
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._poll.close()
        for port in self._ports.values():
            for sock in (*port.wires.values(), *port.raws.values(), *port.ears):
                sock.close()
        self._ours.close()
        self.parent.close()

    def run(self) -> int:
        """Serve to the end, as in its own process."""
        if self._begun:
            self._poll.unregister(self._ours.fileno())  # ``run`` begins with it
        return super().run()

    def tell(self, *messages: Message) -> None:
        """Say something as the parent, and let the engine hear it."""
        for message in messages:
            self.parent.send(message)
        self.serve()

    def serve(self) -> None:
        """Let the loop turn until it would sleep."""
        if not self._begun:
            self._begun = True
            self._watch(self._ours.fileno(), self._from_parent)  # what ``run`` does first
        while select.select([self._poll], [], [], 0)[0] or self._timeout() == 0.0:
            self.turn()

    def pass_time(self, seconds: float) -> None:
        """Let the loop sleep for so long, and serve what is due then."""
        self.now += seconds
        self.serve()

    def open(self, sock: socket.socket, *, interface: str = "eth0", index: int = 2, up: bool = True) -> None:
        """Hand a packet socket over."""
        self.parent.send(OpenInterface(interface=interface, index=index, mac=MAC, up=up), [sock.fileno()])
        self.serve()

    def start(self, plan: GroupPlan, *, resume: bool = False) -> None:
        self.tell(StartGroup(group=plan, resume=resume))

    def said(self) -> list[AnyMessage]:
        """Return what the engine has told its parent since the last call."""
        messages = []
        try:
            while (received := self.parent.receive()) is not None:
                messages.append(received[0])
        except ChannelClosedError:
            pass
        return messages

    def status(self) -> StatusReply:
        """Ask as the control socket does; what else was said is lost."""

        def page(first: int) -> StatusReply:
            self.tell(StatusRequest(token=1, first=first))
            return next(message for message in self.said() if isinstance(message, StatusReply))

        return every_page(page)

    def group(self, name: str = "web") -> GroupStatus:
        return next(group for group in self.status().groups if group.name == name)

    def interface(self, name: str = "eth0") -> InterfaceStatus:
        return next(interface for interface in self.status().interfaces if interface.name == name)
