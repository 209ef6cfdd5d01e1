"""The HTTP listener: aiohttp's server with bounds on what a stranger may cost, and nothing to write to.

On loopback a page of anywhere, open in a browser of this machine, could reach it under a name of its own that it has
resolve to 127.0.0.1 (DNS rebinding): there only loopback's own names are answered.

A port is the node's, and another sidecar may have it: a probe that says whose pod it means is not answered for another.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from ipaddress import ip_address

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from sidecar.agent.site import TEXT, Answer, Site

log = logging.getLogger(__name__)

CONNECTIONS_AT_MOST = 32
"""Open at once; one more, and the oldest goes, so that a probe gets in past those who only sit there."""
CONNECTION_LASTS = 10.0
"""Seconds from connect to close, whatever is under way."""
LINE_AT_MOST = 2048
HEADERS_AT_MOST = 64
TRY_AGAIN_AFTER = 10.0
"""Seconds until a port that was taken is tried again."""
_READ_AT_MOST = 16384
"""Bytes that are read ahead of a handler, who wants none."""

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "carp-sidecar",
    "X-Content-Type-Options": "nosniff",
}


class Listener:
    """Serves ``site`` at ``where`` (``address:port``) for ``pod`` (``namespace/name``, "" where that is not known).

    ``run`` goes on until it is cancelled.
    """

    def __init__(self, where: str, site: Site, *, pod: str = "") -> None:
        host, _, port = where.rpartition(":")
        self._where = where
        self._address = ip_address(host.strip("[]"))
        self._port = int(port)
        self._site = site
        self._pod = pod

    async def run(self) -> None:
        """Listen, as soon as the port is free."""
        loop = asyncio.get_running_loop()
        server = web.Server(self._handle)
        complained = False
        while True:
            try:
                listening = await loop.create_server(
                    lambda: _Connection(server), str(self._address), self._port, backlog=CONNECTIONS_AT_MOST
                )
                break
            except OSError as error:
                if not complained:
                    log.warning(
                        "cannot listen at %s: %s; probes, metrics and status page wait for it, the VIP does not: set "
                        "CARP_HTTP_LISTEN to another port, or to off",
                        self._where,
                        error.strerror or error,
                    )
                complained = True
                await asyncio.sleep(TRY_AGAIN_AFTER)
        if self._address.is_loopback:
            log.info("the HTTP listener is at http://%s", self._where)
        else:
            log.warning("the HTTP listener is at http://%s: whoever reaches it may read the status", self._where)
        try:
            await listening.serve_forever()
        finally:
            await server.shutdown(0.1)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = self._refuse(request) or await self._site.get(request.path)
        response = web.Response(status=answer.status, body=answer.body, headers={**HEADERS, **answer.headers})
        response.headers["Content-Type"] = answer.kind
        response.force_close()
        return response

    def _refuse(self, request: web.BaseRequest) -> Answer | None:
        if request.method not in ("GET", "HEAD"):
            return Answer(405, TEXT, b"this listener only tells: GET and HEAD\n", {"Allow": "GET, HEAD"})
        host = request.headers.get("Host", "")
        if self._address.is_loopback and not names_loopback(host):
            return Answer(421, TEXT, b"ask for localhost or a loopback address: this listener is for this node\n", {})
        daemonset = request.query.get("daemonset")
        if daemonset is not None and not is_of(self._pod, daemonset):
            who = self._pod or "a sidecar of no pod"
            text = f"{who} answers at this port: give each sidecar on this node its own, by CARP_HTTP_LISTEN\n"
            return Answer(503, TEXT, text.encode(), {})
        return None


def is_of(pod: str, daemonset: str) -> bool:
    """Tell whether ``pod`` is one of ``daemonset``: both are ``namespace/name``, and a pod's name has one part more."""
    return "-" in pod and pod.rpartition("-")[0] == daemonset


def names_loopback(host: str) -> bool:
    """Tell whether a Host header, with or without a port, can only mean loopback."""
    if host.startswith("["):
        name, _, _ = host[1:].partition("]")
    else:
        name, _, _ = host.partition(":")
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class _Connection(RequestHandler):
    """One client's connection."""

    def __init__(self, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # as web.run_app takes it
            max_line_size=LINE_AT_MOST,
            max_headers=HEADERS_AT_MOST,
            max_field_size=LINE_AT_MOST,
            lingering_time=0.0,
            read_bufsize=_READ_AT_MOST,
            auto_decompress=False,
        )
        self._server = server
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close the oldest connection for this one if there are too many, and this one when its time is over."""
        super().connection_made(transport)
        others = self._server.connections
        if len(others) > CONNECTIONS_AT_MOST:
            others[0].force_close()
        self._end = self._loop.call_later(CONNECTION_LASTS, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget its end."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP without a word in the log: a stranger must not be able to fill it."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=status, text=f"{HTTPStatus(status).phrase}\n", headers=HEADERS)
        response.force_close()
        return response
