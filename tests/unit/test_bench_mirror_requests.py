"""What an API server counted is read by verb and resource, and what it does for itself is nobody's cost."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.mirror.requests import between, counted, watches, writes

METRICS = """\
# TYPE apiserver_longrunning_requests gauge
apiserver_longrunning_requests{component="apiserver",group="",resource="pods",scope="namespace",subresource="",verb="WATCH",version="v1"} 3
apiserver_longrunning_requests{component="apiserver",group="",resource="nodes",scope="cluster",subresource="",verb="WATCH",version="v1"} 0
apiserver_longrunning_requests{component="apiserver",group="",resource="pods",scope="resource",subresource="log",verb="CONNECT",version="v1"} 1
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="",dry_run="",group="",resource="",scope="",subresource="/readyz",verb="GET",version=""} 9
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="PATCH",version="v1"} 4
apiserver_request_total{code="409",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="PATCH",version="v1"} 1
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="status",verb="PATCH",version="v1"} 1.5e+01
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 7
apiserver_request_total{code="201",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="POST",version="v1"} 1
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1"} 2
apiserver_request_total_of_another_kind{resource="pods",subresource="",verb="LIST"} 2
"""  # noqa: E501 - as the server writes them


def test_answers_of_any_status_count_and_what_is_no_object_does_not() -> None:
    assert counted(METRICS) == {
        "PATCH pods": 5, "PATCH pods/status": 15, "PUT leases": 7, "POST leases": 1, "LIST pods": 2,
    }  # fmt: skip


def test_only_open_watches_are_told() -> None:
    assert watches(METRICS) == {"pods": 3}


def test_writes_are_what_is_not_read_and_not_the_servers_own() -> None:
    assert writes(counted(METRICS)) == {"PATCH pods": 5, "PATCH pods/status": 15, "POST leases": 1}


def test_what_was_added_in_between() -> None:
    before, after = Counter({"LIST pods": 2}), Counter({"LIST pods": 2, "PATCH pods": 3})
    assert between(before, after) == {"PATCH pods": 3}


@pytest.mark.parametrize("after", [{"LIST pods": 1}, {}], ids=["fewer", "none"])
def test_a_restart_in_between_is_no_figure(after: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="restarted"):
        between(Counter({"LIST pods": 2}), Counter(after))
