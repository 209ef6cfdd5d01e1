from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_interface
from typing import Any

import pytest

from sidecar.config import values
from sidecar.config.values import FaultError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("256", "256"),
        ("-1", "-1"),
        ("x", "'x'"),
        ("a\nb", "'a' ..."),
        ("1 password", "1 ..."),
        ("", "''"),
        ("\x1b[31m", "'\\x1b[31m'"),
        ("\udc80", "'\\udc80'"),
        ("z" * 300, f"{'z' * 255!r} ..."),
    ],
)
def test_show_is_one_line_and_stops_at_white_space(value: str, shown: str) -> None:
    assert values.show(value) == shown


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("-3", -3), ("+4", 4)])
def test_whole_numbers(text: str, number: int) -> None:
    assert values.whole_number(text) == number


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("10.0.0.200", "10.0.0.200/32"),
        ("10.0.0.200/24", "10.0.0.200/24"),
        ("10.0.0.200/255.255.255.0", "10.0.0.200/24"),
        ("FD00::00c8", "fd00::c8/128"),
        ("fe80::5/64", "fe80::5/64"),
        ("10.0.0.0/31", "10.0.0.0/31"),
        ("10.0.0.255/32", "10.0.0.255/32"),
        ("fd00::ff/64", "fd00::ff/64"),
    ],
)
def test_vips_keep_their_host_bits_and_get_a_host_prefix(text: str, normal: str) -> None:
    assert str(values.vip(text)) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("127.0.0.1:9112", "127.0.0.1:9112"),
        ("0.0.0.0:080", "0.0.0.0:80"),
        ("[::]:9112", "[::]:9112"),
        ("[0::1]:65535", "[::1]:65535"),
        ("off", "off"),
        ("OFF", "off"),
    ],
)
def test_where_to_listen(text: str, normal: str) -> None:
    assert values.http_listen(text) == normal


@pytest.mark.parametrize(
    ("read", "text", "fault"),
    [
        (values.http_listen, "9112", "'9112' is not address:port".replace("'", "")),
        (values.http_listen, ":9112", "'' is not an IPv4 address"),
        (values.http_listen, "localhost:9112", "'localhost' is not an IPv4 address"),
        (values.http_listen, "::1:9112", "'::1:9112' is not address:port"),
        (values.http_listen, "[fe80::1%eth0]:9112", "'fe80::1%eth0' has a zone"),
        (values.http_listen, "[10.0.0.1]:9112", "'10.0.0.1' is not an IPv6 address"),
        (values.http_listen, "127.0.0.1:0", "port 0 is out of range"),
        (values.http_listen, "127.0.0.1:65536", "port 65536 is out of range"),
        (values.http_listen, "127.0.0.1:http", "'127.0.0.1:http' is not address:port"),
        (values.whole_number, "1_0", "'1_0' is not a whole number"),
        (values.whole_number, "12.0", "'12.0' is not a whole number"),
        (values.whole_number, "٣", "'٣' is not a whole number"),
        (values.whole_number, "9" * 256, "9" * 255 + " ... is out of range"),
        (values.vip, "nonsense", "'nonsense' is not an address"),
        (values.vip, "10.0.0.1/33", "'10.0.0.1/33' is not an address"),
        (values.vip, "10.0.0.01", "'10.0.0.01' is not an address"),
        (values.vip, "224.0.0.18", "'224.0.0.18' cannot be held by a node"),
        (values.vip, "ff02::12", "'ff02::12' cannot be held by a node"),
        (values.vip, "0.0.0.0", "'0.0.0.0' cannot be held by a node"),
        (values.vip, "::", "'::' cannot be held by a node"),
        (values.vip, "127.0.0.1", "'127.0.0.1' cannot be held by a node"),
        (values.vip, "::1", "'::1' cannot be held by a node"),
        (values.vip, "255.255.255.255", "'255.255.255.255' cannot be held by a node"),
        (values.vip, "fe80::1%eth0", "'fe80::1%eth0' has a zone"),
        (values.vip, "::ffff:10.0.0.1", "'::ffff:10.0.0.1' is an IPv4 address in IPv6 notation"),
        (values.vip, "10.0.0.0/24", "'10.0.0.0/24' is the network 10.0.0.0/24 itself"),
        (values.vip, "10.0.0.255/24", "'10.0.0.255/24' is the broadcast address of 10.0.0.0/24"),
        (values.vip, "10.0.0.1/0", "'10.0.0.1/0' is the whole Internet"),
        (values.source_address, "fd00::1", "'fd00::1' is not an IPv4 address"),
        (values.source_address, "224.0.0.1", "'224.0.0.1' cannot be a packet's source"),
        (values.source_address, "0.0.0.0", "'0.0.0.0' cannot be a packet's source"),
        (values.source_address, "255.255.255.255", "'255.255.255.255' cannot be a packet's source"),
        (values.multicast_group, "ff02::12", "'ff02::12' is not an IPv4 address"),
        (values.source_address6, "10.0.0.1", "'10.0.0.1' is not an IPv6 address"),
        (values.source_address6, "fe80::1%eth0", "'fe80::1%eth0' has a zone"),
        (values.source_address6, "ff02::12", "'ff02::12' cannot be a packet's source"),
        (values.source_address6, "::", "'::' cannot be a packet's source"),
        (values.multicast_group6, "224.0.0.18", "'224.0.0.18' is not an IPv6 address"),
        (values.multicast_group6, "fe80::12", "'fe80::12' is not a multicast address"),
        (values.peer, "::1", "'::1' is not the address of a host"),
        (values.peer, "fe80::1%eth0", "'fe80::1%eth0' has a zone"),
        (values.multicast_group, "10.0.0.1", "'10.0.0.1' is not a multicast address"),
        (values.role_label, "", "'' is not a Kubernetes label key"),
        (values.role_label, "-x", "'-x' is not a Kubernetes label key"),
        (values.role_label, "/x", "'/x' is not a Kubernetes label key"),
        (values.role_label, "a/b/c", "'a/b/c' is not a Kubernetes label key"),
        (values.role_label, "Upper.example/x", "'Upper.example/x' is not a Kubernetes label key"),
        (values.role_label, "x" * 64, f"{'x' * 64!r} is not a Kubernetes label key"),
        (values.label_selector, "", "'' is not a Kubernetes label selector"),
        (values.label_selector, "a=b,", "'a=b,' is not a Kubernetes label selector"),
        (values.label_selector, "a in ()b", "'a' ... is not a Kubernetes label selector"),
        (values.label_selector, "a>1", "'a>1' is not a Kubernetes label selector"),
        (values.load_balancer_class, "a b", "'a' ... is not a loadBalancerClass"),
        (values.dns_label, "Web", "'Web' is not a DNS label"),
        (values.dns_label, "web-", "'web-' is not a DNS label"),
        (values.dns_subdomain, "a..b", "'a..b' is not a Kubernetes name"),
        (
            values.dns_subdomain,
            ("a" * 63 + ".") * 4,
            f"{('a' * 63 + '.') * 4!r}"[:256] + "' ... is not a Kubernetes name",
        ),
        (values.one_word, "eth0 eth1", "'eth0' ... has white space or control characters in it"),
        (values.one_word, "eth\x7f", "'eth\\x7f' has white space or control characters in it"),
        (values.one_line, "/a\0b", "'/a\\x00b' has control characters in it"),
        (values.one_line, "/a\nb", "'/a' ... has control characters in it"),
        (values.command, "ip-up.sh", "'ip-up.sh' does not begin with an absolute path"),
        (values.command, "''", "\"''\" does not begin with an absolute path"),
        (values.command, "/up 'a", "'/up' ... has a quotation or an escape that does not end"),
        (values.command, "/up\nx", "'/up' ... has control characters in it"),
        (values.socket_directory, "run", "'run' is not an absolute path"),
        (values.socket_directory, "/" + "r" * 90, f"{'/' + 'r' * 90!r} is too long for a Unix socket's directory"),
        (values.password, b"", "is empty"),
        (values.password, b"x" * 21, "has 21 bytes where a password takes at most 20"),
        (values.password, "äöüäöüäöüäö".encode(), "has 22 bytes where a password takes at most 20"),
        (values.password, b"a\0b", "has a NUL byte in it, which CARP's zero padding would hide"),
        (values.password, b"\xff", "is not UTF-8 text"),
    ],
)
def test_faults(read: Callable[[Any], object], text: str | bytes, fault: str) -> None:
    with pytest.raises(FaultError) as raised:
        read(text)
    assert raised.value.fault == fault


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (values.role_label, "carp-role"),
        (values.role_label, "example.com/Role_of.this-pod"),
        (values.role_label, "x" * 63),
        (values.label_selector, "app=web"),
        (values.label_selector, "example.com/app==web, tier!=x,a,!b, c in (x, y),d notin (z)"),
        (values.load_balancer_class, "carp-sidecar/vip"),
        (values.dns_label, "a" * 63),
        (values.dns_subdomain, "carp-sidecar-x7k2p"),
        (values.dns_subdomain, ".".join(["a" * 63] * 3)),
        (values.one_word, "enp3s0f1np1@x"),
        (values.one_line, "/a b"),
        (values.socket_directory, "/" + "r" * 89),
        (values.password, b"x" * 20),
        (values.password, "ä".encode()),
    ],
)
def test_right_values_pass_unchanged(read: Callable[[Any], object], value: str | bytes) -> None:
    assert read(value) == value


@pytest.mark.parametrize(
    ("address", "subnet", "edge"),
    [
        ("10.0.0.0/32", "10.0.0.11/24", "the network 10.0.0.0/24 itself"),
        ("10.0.0.255/32", "10.0.0.11/24", "the broadcast address of 10.0.0.0/24"),
        ("10.0.0.1/32", "10.0.0.11/24", None),
        ("10.0.0.10/32", "10.0.0.11/31", None),
        ("fd00::/128", "fd00::1/64", "the network fd00::/64 itself"),
        ("fd00::ffff:ffff:ffff:ffff/128", "fd00::1/64", None),
        ("fd00::1/128", "10.0.0.11/24", None),
    ],
)
def test_edges_of_a_subnet(address: str, subnet: str, edge: str | None) -> None:
    assert values.edge_of_subnet(ip_interface(address), ip_interface(subnet)) == edge


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("30", 30.0), ("30s", 30.0), ("1.5 s", 1.5), ("250ms", 0.25), ("5m", 300.0), ("1h", 3600.0)],
)
def test_a_time_has_a_unit_or_is_seconds(text: str, seconds: float) -> None:
    assert values.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1d", "1e9", "\u0663s", None, "s"])
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(values.FaultError):
        values.duration(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/etc/vip-up.sh", ("/etc/vip-up.sh",)),
        ("  /up  -v 'two words' ", ("/up", "-v", "two words")),
        ("/up $HOME `id` *", ("/up", "$HOME", "`id`", "*")),
        ('"/with space/up"', ("/with space/up",)),
    ],
)
def test_commands_are_split_as_a_shell_would_and_nothing_is_expanded(text: str, words: tuple[str, ...]) -> None:
    assert values.command(text) == words
