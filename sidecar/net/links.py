"""Link changes as the kernel tells them (rtnetlink(7), RTNLGRP_LINK): no polling."""

from __future__ import annotations

import errno
import socket

from sidecar.net import rtnetlink
from sidecar.net.addresses import Link, link_from_message

_RTMGRP_LINK = 1


class LinksLostError(Exception):
    """The kernel dropped notifications (ENOBUFS): read all links anew."""


class LinkMonitor:
    """A netlink socket that hears of every link change. ``fileno`` is for a selector."""

    __slots__ = ("_socket",)

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, _RTMGRP_LINK))

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def changes(self) -> list[Link]:
        """Return the links that changed since the last call; a deleted one is down. Raises LinksLostError."""
        changed: list[Link] = []
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise LinksLostError from error
                raise
            for message in rtnetlink.messages(data):
                link = link_from_message(message)
                if message["header"]["type"] == rtnetlink.DELLINK:
                    link = Link(index=link.index, name=link.name, mac=link.mac, up=False)
                changed.append(link)
