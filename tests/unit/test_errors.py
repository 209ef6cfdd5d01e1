"""What an answer of the API server means, in one line."""

from __future__ import annotations

import json

import pytest

from sidecar.agent.errors import ApiError, Asked, refusal

ASKED = Asked(right="patch endpointslices", what="EndpointSlice edge/web", namespace="edge")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "the API server answers 502"),
        (b'{"message":1}', "the API server answers 502"),
        (b"\xff\xfe", "the API server answers 502"),
        (json.dumps({"message": "x" * 1000}).encode(), "the API server answers 502: " + "x" * 200),
    ],
    ids=["html", "type", "not-utf-8", "long"],
)
def test_whatever_a_proxy_says_is_one_short_line(body: bytes, words: str) -> None:
    assert str(refusal(502, body, ASKED)) == words


def test_the_right_is_the_one_that_the_server_misses() -> None:
    said = 'endpointslices.discovery.k8s.io "web" is forbidden: User "x" cannot create resource "endpointslices" in API'
    error = refusal(403, json.dumps({"message": said}).encode(), ASKED)
    assert error.right == "create endpointslices"
    assert str(error).startswith("the right to create endpointslices in namespace edge is missing (403); ")
    assert refusal(403, b"", ASKED).right == "patch endpointslices"


def test_for_what_belongs_to_no_namespace_the_remedy_is_a_cluster_role() -> None:
    asked = Asked(right="watch nodes", what="nodes", namespace="")
    assert str(refusal(403, b"", asked)) == (
        "the right to watch nodes is missing (403); bind the ClusterRole with it that the chart ships "
        "(docs/maintenance.md) to this pod's service account"
    )


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("", 0.0), ("-1", 0.0), ("Wed, 21 Oct", 0.0), ("²", 0.0)])
def test_how_long_to_stay_away(header: str, seconds: float) -> None:
    assert refusal(429, b"{}", ASKED, retry_after=header).retry_after == seconds


@pytest.mark.parametrize(
    ("status", "passes"),
    [(None, True), (409, True), (429, True), (500, True), (504, True), (400, False), (403, False), (422, False)],
)
def test_some_faults_are_over_without_anybodys_doing(status: int | None, passes: bool) -> None:
    assert ApiError("x", status).passes is passes
