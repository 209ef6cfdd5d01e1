"""Requests to the Kubernetes API, by the lower half of the official client: no generated models, little memory.

Everything that can go wrong on the way raises ApiError and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from sidecar import __version__
from sidecar.agent.client import ConfigException, RESTClientObject, in_cluster
from sidecar.agent.errors import ApiError, Asked, refusal
from sidecar.agent.state import MirrorStatus
from sidecar.ipc.plan import KubernetesPlan
from sidecar.observe.moment import rfc3339

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
JSON = "application/json"
_USER_AGENT = f"carp-sidecar/{__version__}"

_CONNECT_WITHIN = 1.5
"""Seconds, kept short so that a server that is back is found at once; answering may take its time."""
_ANSWER_WITHIN = 10.0
_WRITTEN_WITHIN = 3.0
"""For what is written: small, and as well said twice. Something in between may acknowledge all and pass on nothing."""
_WRITES = frozenset({"create", "patch", "delete"})
_WATCH_SILENT_AT_MOST = 120.0
"""Seconds without a byte: the server sends a bookmark each minute."""
_ANSWER_BYTES_AT_MOST = 32 * 1024 * 1024
_LINE_BYTES = 1024 * 1024
"""A watch's event is one line; aiohttp takes lines of twice that."""
_UNACKNOWLEDGED = 2000
"""Milliseconds until the kernel gives up a connection whose peer acknowledges nothing: a slow server still does."""
_OUT_OF_TIME = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_METHODS = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}

_UNREADABLE = (ConfigException, OSError, TypeError, ValueError, KeyError, AttributeError)
"""What the client's loader raises at a kubeconfig or a certificate that is not one; an ssl.SSLError is an OSError."""
_UNREACHABLE = (aiohttp.ClientError, HttpProcessingError, ConfigException, OSError, ValueError)
"""An HttpProcessingError may be a line that does not end, a ValueError a token file that is no text."""


_DISTRUSTED = (aiohttp.ClientSSLError, ssl.SSLError)
"""A certificate that is not accepted: it may be of a new CA, which is read from its file then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. ``verb`` and ``resource`` are RBAC's words for it, ``what`` names the object for people."""

    verb: str
    resource: str
    path: str
    what: str
    query: tuple[tuple[str, str], ...] = ()
    body: dict[str, object] | None = None
    content_type: str = JSON
    accept: str = JSON


@dataclass(slots=True, eq=False)
class _Client:
    """A client with the token and the CA that it read, and how many calls are under way by it."""

    http: RESTClientObject
    calls: int = 0


class Transport:
    """Connections to the API server; opened when needed, and anew when one side does not accept what the other shows.

    Then token and CA are read again. A client that was refused is closed by the last call that is under way by it:
    watches go on meanwhile.
    """

    def __init__(self, plan: KubernetesPlan, status: MirrorStatus) -> None:
        self._plan = plan
        self._status = status
        self._client: _Client | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections."""
        current, self._client = self._client, None
        if current is not None:
            await current.http.close()

    async def request(self, call: Call) -> bytes:
        """Return the answer. Raises ApiError. A token that is refused is read again, once."""
        try:
            return await self._request(call)
        except ApiError as error:
            if error.status != 401:
                raise
        return await self._request(call)

    async def lines(self, call: Call) -> AsyncIterator[bytes]:
        """Yield the lines of an answer that goes on, a watch, until the server ends it. Raises ApiError.

        The first is empty: the server has agreed.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_WITHIN, sock_read=_WATCH_SILENT_AT_MOST)
        async with self._answer(call, timeout) as response:
            if response.status >= 400:
                raise self._refused(call, response, await _read(response))
            self._status.answered(call.verb, call.resource, response.status)
            yield b""
            while line := await response.content.readline():
                yield line

    async def _request(self, call: Call) -> bytes:
        within = _WRITTEN_WITHIN if call.verb in _WRITES else _ANSWER_WITHIN
        timeout = aiohttp.ClientTimeout(total=within, sock_connect=_CONNECT_WITHIN)
        async with self._answer(call, timeout) as response:
            answer = await _read(response)
            if response.status >= 300:
                raise self._refused(call, response, answer)
            self._status.answered(call.verb, call.resource, response.status)
            return answer

    @contextlib.asynccontextmanager
    async def _answer(self, call: Call, timeout: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send, and have the answer until it is read. Raises ApiError."""
        with _telling_faults(call, self._status):
            async with self._opening:
                current = self._client = self._client or _Client(await self._open())
            current.calls += 1
            try:
                response = await _send(current.http, call, timeout)
                try:
                    yield response
                finally:
                    _let_go(response)
            except (ApiError, *_DISTRUSTED) as error:
                renewed = not isinstance(error, ApiError) or error.status == 401
                if renewed and self._client is current:
                    self._client = None
                raise
            finally:
                current.calls -= 1
                if self._client is not current and not current.calls:
                    await current.http.close()

    async def _open(self) -> RESTClientObject:
        """Read the kubeconfig, or the pod's own service account. Raises ApiError; no request is made yet."""
        path = self._plan.kubeconfig
        try:
            client = await _from_kubeconfig(path) if path else in_cluster()
        except _UNREADABLE as error:
            where = f"KUBECONFIG {path}" if path else "the pod's service account"
            raise ApiError(f"cannot read {where}: {type(error).__name__} {error}") from error
        client.pool_manager = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=client.ssl_context, socket_factory=_socket),
            trust_env=True,
            read_bufsize=_LINE_BYTES,
        )
        return client

    def _refused(self, call: Call, response: aiohttp.ClientResponse, body: bytes) -> ApiError:
        self._status.answered(call.verb, call.resource, response.status)
        namespace = call.path.partition("/namespaces/")[2].partition("/")[0]
        return refusal(
            response.status,
            body,
            Asked(right=f"{call.verb} {call.resource}", what=call.what, namespace=namespace),
            retry_after=response.headers.get("Retry-After", ""),
        )


def _let_go(response: aiohttp.ClientResponse) -> None:
    """Leave the connection to others if the answer was read to its end, else cut it: TLS's farewell may take long."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


async def _send(client: RESTClientObject, call: Call, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
    # Two levels below the generated CoreV1Api, which takes no connect timeout and insists on whole models.
    configuration = client.configuration
    headers = {"Accept": call.accept, "Content-Type": call.content_type, "User-Agent": _USER_AGENT}
    for each in (await configuration.auth_settings()).values():  # a token that is a minute old is read again
        headers[each["key"]] = each["value"]
    query = f"?{urlencode(call.query, quote_via=quote)}" if call.query else ""
    answer = await client.request(
        _METHODS[call.verb],
        f"{configuration.host}{call.path}{query}",
        headers=headers,
        body=call.body,
        _request_timeout=timeout,
    )
    response: aiohttp.ClientResponse = answer.response
    return response


async def _from_kubeconfig(path: str) -> RESTClientObject:
    from sidecar.agent import kubeconfig  # noqa: PLC0415 - 8 MB that nobody needs in a pod

    return await kubeconfig.client_of(path)


@contextlib.contextmanager
def _telling_faults(call: Call, status: MirrorStatus) -> Iterator[None]:
    try:
        yield
    except ApiError:
        raise
    except TimeoutError as error:
        status.failed(call.verb, call.resource)
        raise ApiError("the API server does not answer in time") from error
    except _UNREACHABLE as error:
        status.failed(call.verb, call.resource)
        said = " ".join(str(error).split())
        raise ApiError(f"the API server cannot be reached: {said}{_suspicion(error)}") from error


def _suspicion(error: BaseException) -> str:
    """Name this node's clock where a certificate is not valid yet, or not any more."""
    if not isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ""
    fault = error.certificate_error
    if not isinstance(fault, ssl.SSLCertVerificationError) or fault.verify_code not in _OUT_OF_TIME:
        return ""
    return f"; is the clock of this node right? It says {rfc3339(time.time())}; if it is, renew the certificate"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the whole body. Raises what aiohttp raises, and ApiError where it does not end."""
    pieces: list[bytes] = []
    room = _ANSWER_BYTES_AT_MOST
    async for piece in response.content.iter_any():
        pieces.append(piece)
        room -= len(piece)
        if room < 0:
            raise ApiError(f"the API server's answer has more than {_ANSWER_BYTES_AT_MOST} bytes")
    return b"".join(pieces)


def _socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket whose connection the kernel gives up soon after its peer is cut off."""
    family, kind, protocol, _, _ = info
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED)
    return sock
