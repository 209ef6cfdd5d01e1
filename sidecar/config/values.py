"""The values that settings take, as pure functions from text: each returns the value or raises FaultError.

A fault never quotes a password, and quotes anything else only as ``show`` has it.
"""

from __future__ import annotations

import re
import shlex
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from typing import TypeVar

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface

PASSWORD_BYTES = 20
PASSWORDS_AT_MOST = 8
PASSWORD_BYTES_ELSEWHERE = 19
VIPS_AT_MOST = 255

_SHOWN_CHARACTERS = 255
_DIGITS_AT_MOST = 255
_BROADCAST = IPv4Address("255.255.255.255")
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_DNS_LABEL.pattern}(\.{_DNS_LABEL.pattern})*")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LAST_PORT = 65535
_PORT = re.compile(r":([0-9]{1,5})\Z")
_URL = re.compile(r"(?i:(https?))://([^/?#\s]*)(/[!-\"$-~]*)?")  # printable, and no fragment
_NODE_CONDITION = re.compile(r"((?:[a-zA-Z0-9.-]+/)?[A-Za-z0-9][A-Za-z0-9._-]{0,62})(?:=(True|False))?")
HTTP_OFF = "off"
_LABEL_KEY = rf"({_DNS_LABEL.pattern}(\.{_DNS_LABEL.pattern})*/)?{_LABEL_NAME.pattern}"
_LABEL_VALUE = rf"({_LABEL_NAME.pattern})?"
_REQUIREMENT = re.compile(
    rf"{_LABEL_KEY}\s*(=|==|!=)\s*{_LABEL_VALUE}|!?\s*{_LABEL_KEY}"
    rf"|{_LABEL_KEY}\s+(in|notin)\s*\(\s*{_LABEL_VALUE}(\s*,\s*{_LABEL_VALUE})*\s*\)"
)
"""One requirement of a label selector, as ``kubectl -l`` takes it."""
_COMMA = re.compile(r",(?![^(]*\))")  # not one inside parentheses
_SOCKET_DIRECTORY_BYTES = 90  # sun_path holds 107, and the socket's own name comes after it


A = TypeVar("A", IPv4Address, IPv6Address)


class FaultError(ValueError):
    """What is wrong with a value, and the remedy where the setting's usual one would not help."""

    def __init__(self, fault: str, remedy: str | None = None) -> None:
        super().__init__(fault)
        self.fault = fault
        self.remedy = remedy


def show(value: object) -> str:
    """Return ``value`` on one line, fit for a message: numbers as they are, other text quoted.

    It ends at the first white space: one wrong indent in a YAML file glues the next line, with a password, to a value.
    """
    text = str(value)
    words = text.split(maxsplit=1)
    head = words[0][:_SHOWN_CHARACTERS] if words else text[:_SHOWN_CHARACTERS]
    shown = head if _WHOLE_NUMBER.fullmatch(head) else repr(head)
    return shown if head == text.strip() or not words else f"{shown} ..."


def whole_number(text: str) -> int:
    """Read ASCII digits with an optional sign; no 1_000, no 12.0."""
    if not _WHOLE_NUMBER.fullmatch(text):
        raise FaultError(f"{show(text)} is not a whole number")
    if len(text) > _DIGITS_AT_MOST:  # int() itself refuses thousands
        raise FaultError(f"{show(text)} is out of range")
    return int(text)


def vip(text: str) -> IPInterface:
    """Read ``address[/prefix]``; the default prefix is that of one host, and host bits are kept."""
    if "%" in text:
        raise FaultError(
            f"{show(text)} has a zone", "leave the zone (%...) out; the group's interface says where it is"
        )
    try:
        interface = ip_interface(text)
    except ValueError:
        raise FaultError(f"{show(text)} is not an address") from None
    address = interface.ip
    if address.is_multicast or address.is_unspecified or address.is_loopback or address == _BROADCAST:
        raise FaultError(f"{show(text)} cannot be held by a node", "use a unicast address of the LAN")
    if isinstance(interface, IPv6Interface) and interface.ip.ipv4_mapped is not None:
        raise FaultError(f"{show(text)} is an IPv4 address in IPv6 notation", f"write {interface.ip.ipv4_mapped}")
    fault = edge_of_subnet(interface, interface)
    if fault is not None or interface.network.prefixlen == 0:
        raise FaultError(
            f"{show(text)} is {fault or 'the whole Internet'}",
            "use one host's address, with the prefix length of its subnet or without any",
        )
    return interface


def edge_of_subnet(address: IPInterface, subnet: IPInterface) -> str | None:
    """Say whether ``address`` is the network or broadcast address of ``subnet``; None if it is neither."""
    network = subnet.network
    if network.prefixlen >= network.max_prefixlen - 1:
        return None
    if address.ip == network.network_address:
        return f"the network {network} itself"
    if network.version == 4 and address.ip == network.broadcast_address:
        return f"the broadcast address of {network}"
    return None


def source_address(text: str) -> IPv4Address:
    """Read the IPv4 unicast address that adverts come from."""
    return _source(_ipv4(text), text)


def source_address6(text: str) -> IPv6Address:
    """Read the IPv6 unicast address that adverts come from."""
    return _source(_ipv6(text), text)


def _source(address: A, text: str) -> A:
    if address.is_multicast or address.is_unspecified or address == _BROADCAST:
        raise FaultError(f"{show(text)} cannot be a packet's source")
    return address


def _ipv4(text: object) -> IPv4Address:
    try:
        return IPv4Address(text if isinstance(text, str) else "")
    except ValueError:
        raise FaultError(f"{show(text)} is not an IPv4 address") from None


def _ipv6(text: object) -> IPv6Address:
    if isinstance(text, str) and "%" in text:
        raise FaultError(
            f"{show(text)} has a zone", "leave the zone (%...) out; the group's interface says where it is"
        )
    try:
        return IPv6Address(text if isinstance(text, str) else "")
    except ValueError:
        raise FaultError(f"{show(text)} is not an IPv6 address") from None


def duration(text: object) -> float:
    """Read a time: a number with ms, s, m or h after it; without a unit it is seconds."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h)?", text.strip()) if isinstance(text, str) else None
    if found is None:
        raise FaultError(f"{show(text)} is not a time")
    return float(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[found[2] or "s"]


def peer(text: object) -> IPAddress:
    """Read the address of another node, of either family."""
    address = _ipv6(text) if isinstance(text, str) and ":" in text else _ipv4(text)
    if address.is_multicast or address.is_unspecified or address.is_loopback or address == _BROADCAST:
        raise FaultError(f"{show(text)} is not the address of a host")
    return address


def multicast_group(text: str) -> IPv4Address:
    """Read an IPv4 multicast address."""
    return _multicast(_ipv4(text), text)


def multicast_group6(text: str) -> IPv6Address:
    """Read an IPv6 multicast address."""
    return _multicast(_ipv6(text), text)


def _multicast(address: A, text: str) -> A:
    if not address.is_multicast:
        raise FaultError(f"{show(text)} is not a multicast address")
    return address


def role_label(text: str) -> str:
    """Read a Kubernetes label key: ``[dns.subdomain/]name``."""
    if not _is_qualified(text):
        raise FaultError(f"{show(text)} is not a Kubernetes label key")
    return text


def _is_qualified(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    return bool(_LABEL_NAME.fullmatch(name)) and (not slash or bool(_DNS_SUBDOMAIN.fullmatch(prefix)))


def label_selector(text: str) -> str:
    """Read a Kubernetes label selector that asks for something: requirements with commas between them."""
    if not all(_REQUIREMENT.fullmatch(term.strip()) for term in _COMMA.split(text)):
        raise FaultError(f"{show(text)} is not a Kubernetes label selector")
    return text


def load_balancer_class(text: str) -> str:
    """Read a Service's loadBalancerClass, which has the form of a label key."""
    if not _is_qualified(text):
        raise FaultError(f"{show(text)} is not a loadBalancerClass")
    return text


def dns_label(text: str) -> str:
    """Read a DNS label (RFC 1123): group names, namespaces."""
    if not _DNS_LABEL.fullmatch(text):
        raise FaultError(
            f"{show(text)} is not a DNS label", "use at most 63 of a-z, 0-9 and -, with no - at either end"
        )
    return text


def dns_subdomain(text: str) -> str:
    """Read DNS labels joined by dots: pod names."""
    if not _DNS_SUBDOMAIN.fullmatch(text):
        raise FaultError(f"{show(text)} is not a Kubernetes name")
    return text


def one_word(text: str) -> str:
    """Read text without white space or control characters: interface and node names."""
    if not text.isprintable() or " " in text:
        raise FaultError(f"{show(text)} has white space or control characters in it")
    return text


def one_line(text: str) -> str:
    """Read text that fits on one line of a message: paths, an argument for commands."""
    if not text.isprintable():
        raise FaultError(f"{show(text)} has control characters in it")
    return text


def socket_directory(text: str) -> str:
    """Read an absolute path that leaves room for a Unix socket's name."""
    if not one_line(text).startswith("/"):
        raise FaultError(f"{show(text)} is not an absolute path")
    if len(text.encode()) > _SOCKET_DIRECTORY_BYTES:
        raise FaultError(f"{show(text)} is too long for a Unix socket's directory")
    return text


def http_listen(text: str) -> str:
    """Read ``address:port``, an IPv6 address in brackets, or ``off``."""
    if text.lower() == HTTP_OFF:
        return HTTP_OFF
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:]*)):([0-9]{1,5})", text)
    if found is None:
        raise FaultError(f"{show(text)} is not address:port")
    address = f"[{_ipv6(found[1])}]" if found[1] else str(_ipv4(found[2]))
    port = int(found[3])
    if not 1 <= port <= _LAST_PORT:
        raise FaultError(f"port {port} is out of range")
    return f"{address}:{port}"


def command(text: object) -> tuple[str, ...]:
    """Read a command line as a shell would split it; nothing is expanded. The program comes by its absolute path."""
    line = one_line(text if isinstance(text, str) else "")
    try:
        words = tuple(shlex.split(line))
    except ValueError:
        raise FaultError(f"{show(text)} has a quotation or an escape that does not end") from None
    if not words or not words[0].startswith("/"):
        raise FaultError(f"{show(text)} does not begin with an absolute path")
    return words


def arguments(value: object) -> tuple[str, ...]:
    """Read a command: a line as ``command`` does, or a list of its words, which are taken as they are."""
    if not isinstance(value, list):
        return command(value)
    words = tuple(one_line(word) if isinstance(word, str) else "" for word in value)
    if not words or not words[0].startswith("/"):
        raise FaultError("does not begin with an absolute path")
    if not all(isinstance(word, str) for word in value):
        raise FaultError("has something else than text among its words")
    return words


def absolute_path(text: str) -> str:
    """Read an absolute path."""
    if not one_line(text).startswith("/"):
        raise FaultError(f"{show(text)} is not an absolute path")
    return text


def http_url(text: str) -> str:
    """Read the URL of a probe: its host is an address, or localhost, which becomes 127.0.0.1."""
    found = _URL.fullmatch(text)
    if found is None:
        raise FaultError(f"{show(text)} is not a URL that begins with http:// or https://")
    scheme, authority, path = found.groups()
    if "@" in authority:  # not quoted: it may be a password
        raise FaultError("has a user or a password in it", "leave it out, and let the application answer without")
    port = _PORT.search(authority)
    host = _host(authority[: port.start()] if port else authority, text)
    return f"{scheme.lower()}://{host}{f':{_port(port[1])}' if port else ''}{path or '/'}"


def address_and_port(text: str) -> str:
    """Read ``address:port``; the address may be localhost, which becomes 127.0.0.1."""
    found = _PORT.search(text)
    if found is None:
        raise FaultError(f"{show(text)} is not address:port")
    return f"{_host(text[: found.start()], text)}:{_port(found[1])}"


def _host(host: str, text: str) -> str:
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        return f"[{IPv6Address(host[1:-1])}]" if host.startswith("[") and host.endswith("]") else str(IPv4Address(host))
    except ValueError:
        raise FaultError(f"{show(text)} does not name its host by an address") from None


def _port(digits: str) -> int:
    port = int(digits)
    if not 1 <= port <= _LAST_PORT:
        raise FaultError(f"port {port} is out of range")
    return port


def node_condition(text: str) -> str:
    """Read ``Type`` or ``Type=Status``; without a status it is True."""
    found = _NODE_CONDITION.fullmatch(text)
    if found is None:
        raise FaultError(f"{show(text)} is not a condition")
    return f"{found[1]}={found[2] or 'True'}"


def how_many_passwords(count: int) -> None:
    """Check the number of a group's passwords: each costs every packet of a stranger one more HMAC."""
    if count > PASSWORDS_AT_MOST:
        raise FaultError(f"holds {count} passwords where a group takes at most {PASSWORDS_AT_MOST}")


def password(secret: bytes, *, where: str = "") -> bytes:
    """Check a password's bytes. The fault begins with ``where`` and tells its length, never the password."""
    if not secret:
        raise FaultError(f"{where}is empty")
    if len(secret) > PASSWORD_BYTES:
        raise FaultError(f"{where}has {len(secret)} bytes where a password takes at most {PASSWORD_BYTES}")
    if b"\0" in secret:
        raise FaultError(f"{where}has a NUL byte in it, which CARP's zero padding would hide")
    try:
        secret.decode()
    except UnicodeDecodeError:
        raise FaultError(f"{where}is not UTF-8 text") from None
    return secret
