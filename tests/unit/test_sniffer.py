import socket
import time
from pathlib import Path

import pytest

from sidecar.capture.files import frames
from sidecar.demo.sniffer import SO_TIMESTAMPNS, receive, record


def pair() -> tuple[socket.socket, socket.socket]:
    """A socket that receives, and one connected to it."""
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.bind(("127.0.0.1", 0))
    theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    theirs.connect(ours.getsockname())
    return ours, theirs


def test_a_packet_comes_with_the_time_at_which_the_kernel_got_it() -> None:
    ours, theirs = pair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        deadline = time.monotonic() + 10.0
        while True:  # the kernel begins to take the time a moment after it was told to
            before = time.time_ns()
            theirs.send(b"x")
            sent = time.time_ns()
            time.sleep(0.05)
            packet, stamp = receive(ours)
            assert (packet, stamp >= before) == (b"x", True)
            if stamp < sent + 40_000_000:  # and not the time of the call, which came 50 ms later
                return
            assert time.monotonic() < deadline, "each packet has the time of the call"


def test_a_socket_without_timestamps_gets_the_time_of_the_call() -> None:
    ours, theirs = pair()
    with ours, theirs:
        theirs.send(b"x")
        before = time.time_ns()
        assert before <= receive(ours)[1] <= time.time_ns()


def test_nothing_to_receive() -> None:
    ours, theirs = pair()
    with ours, theirs, pytest.raises(BlockingIOError):
        receive(ours)


def test_everything_from_the_binding_to_the_end_is_recorded(tmp_path: Path) -> None:
    ours, theirs = pair()
    path = tmp_path / "file.pcap"
    packets = [bytes((number,)) * (number + 1) for number in range(200)]
    with ours, theirs:
        theirs.send(b"before")
        with record(ours, path):
            for packet in packets:
                theirs.send(packet)
    with path.open("rb") as file:
        recorded = list(frames(file))
    assert [frame.data for frame in recorded] == [b"before", *packets]
    assert {frame.link_type for frame in recorded} == {1}
    assert all(abs(time.time_ns() - (frame.time or 0)) < 60 * 10**9 for frame in recorded)
