import threading
from typing import Any

import pytest

from sidecar.demo.patches import JSON_PATCH, MERGE
from sidecar.demo.selectors import selector
from sidecar.demo.store import PodStore, StatusError, Target

A = Target("n", "a")
EVERY = selector("", "")
MASTERS = selector("carp-role=master", "")


@pytest.fixture
def store() -> PodStore:
    store = PodStore()
    store.create("n", {"metadata": {"name": "a", "labels": {"app": "x"}}, "spec": {"nodeName": "node-1"}})
    return store


def role(value: str | None, **metadata: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"carp-role": value}, **metadata}}


def labelled(store: PodStore, value: str | None, **metadata: str) -> dict[str, Any]:
    return store.patch(A, kind=MERGE, patch=role(value, **metadata))


def test_a_new_pod_has_what_the_server_adds(store: PodStore) -> None:
    pod = store.get(A)
    assert (pod["kind"], pod["apiVersion"], pod["status"]) == ("Pod", "v1", {"phase": "Pending"})
    assert pod["metadata"]["namespace"] == "n"
    assert pod["metadata"]["resourceVersion"] == "2"
    assert pod["metadata"]["uid"]
    assert pod["metadata"]["creationTimestamp"].endswith("Z")


def test_a_pod_cannot_be_born_running() -> None:
    assert PodStore().create("n", {"metadata": {"name": "a"}, "status": {"phase": "Running"}})["status"] == {
        "phase": "Pending"
    }


@pytest.mark.parametrize(
    ("pod", "code", "reason"),
    [
        ({"metadata": {"name": "a"}}, 409, "AlreadyExists"),
        ({"metadata": {"name": "Not_A_Name"}}, 422, "Invalid"),
        ({}, 422, "Invalid"),
        ({"metadata": {"name": "b", "labels": {"x": 1}}}, 400, "BadRequest"),
        ({"metadata": {"name": "b", "annotations": ["x"]}}, 400, "BadRequest"),
        ({"metadata": {"name": "b", "labels": {"x": "a b"}}}, 422, "Invalid"),
        ({"metadata": {"name": "b", "labels": {"x": "a" * 64}}}, 422, "Invalid"),
    ],
)
def test_pods_that_are_refused(store: PodStore, pod: dict[str, Any], code: int, reason: str) -> None:
    with pytest.raises(StatusError) as caught:
        store.create("n", pod)
    assert (caught.value.code, caught.value.reason) == (code, reason)


def test_a_label_value_of_63_characters_is_taken(store: PodStore) -> None:
    assert labelled(store, "a" * 63)["metadata"]["labels"]["carp-role"] == "a" * 63


def test_an_error_is_a_status_object(store: PodStore) -> None:
    with pytest.raises(StatusError) as caught:
        store.get(Target("n", "none"))
    assert caught.value.document() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'pods "none" not found',
        "reason": "NotFound",
        "details": {"name": "none", "kind": "pods"},
        "code": 404,
    }


def test_a_change_raises_the_version_and_no_change_does_not(store: PodStore) -> None:
    assert labelled(store, "master")["metadata"]["resourceVersion"] == "3"
    assert labelled(store, "master")["metadata"]["resourceVersion"] == "3"
    assert store.list("n", EVERY)[1] == 3


def test_a_patch_of_an_old_version_is_a_conflict(store: PodStore) -> None:
    labelled(store, "backup", resourceVersion="2")
    with pytest.raises(StatusError, match="the object has been modified") as caught:
        labelled(store, "master", resourceVersion="2")
    assert (caught.value.code, caught.value.reason) == (409, "Conflict")
    assert store.get(A)["metadata"]["labels"]["carp-role"] == "backup"


def test_a_patch_for_another_pod_of_the_name_is_a_conflict(store: PodStore) -> None:
    with pytest.raises(StatusError) as caught:
        labelled(store, "master", uid="another")
    assert caught.value.code == 409


def test_a_failed_test_of_a_json_patch_is_invalid_and_changes_nothing(store: PodStore) -> None:
    patch = [
        {"op": "add", "path": "/metadata/labels/app", "value": "z"},
        {"op": "test", "path": "/metadata/labels/app", "value": "y"},
    ]
    with pytest.raises(StatusError) as caught:
        store.patch(A, kind=JSON_PATCH, patch=patch)
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    assert store.get(A)["metadata"]["labels"] == {"app": "x"}


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "replace", "path": "/metadata/name", "value": "b"}],
        [{"op": "remove", "path": "/metadata"}],
        [{"op": "replace", "path": "", "value": 1}],
        [{"op": "add", "path": "/metadata/labels/x", "value": 1}],
    ],
)
def test_patches_that_leave_no_pod_of_that_name_are_bad(store: PodStore, patch: list[Any]) -> None:
    with pytest.raises(StatusError) as caught:
        store.patch(A, kind=JSON_PATCH, patch=patch)
    assert caught.value.code == 400


def test_what_only_the_server_sets_stays(store: PodStore) -> None:
    before = store.get(A)["metadata"]
    patch = [{"op": "remove", "path": "/metadata/uid"}, {"op": "remove", "path": "/metadata/creationTimestamp"}]
    after = store.patch(A, kind=JSON_PATCH, patch=patch)["metadata"]
    assert after == before


def test_status_and_the_rest_are_patched_through_different_doors(store: PodStore) -> None:
    patch = {"metadata": {"labels": {"x": "y"}}, "spec": {"nodeName": "other"}, "status": {"phase": "Running"}}
    pod = store.patch(Target("n", "a", status=True), kind=MERGE, patch=patch)
    assert (pod["status"]["phase"], pod["spec"]["nodeName"]) == ("Running", "node-1")
    assert pod["metadata"]["labels"]["x"] == "y"  # as the real one does
    pod = store.patch(A, kind=MERGE, patch={**patch, "status": {"phase": "Failed"}})
    assert (pod["status"]["phase"], pod["spec"]["nodeName"]) == ("Running", "other")


def test_pods_are_listed_by_namespace_and_selector(store: PodStore) -> None:
    store.create("n", {"metadata": {"name": "b", "labels": {"carp-role": "master"}}})
    store.create("m", {"metadata": {"name": "c", "labels": {"carp-role": "master"}}})

    def names(namespace: str | None, wanted: Any) -> list[str]:
        return [pod["metadata"]["name"] for pod in store.list(namespace, wanted)[0]]

    assert names("n", EVERY) == ["a", "b"]
    assert names("n", MASTERS) == ["b"]
    assert names(None, MASTERS) == ["c", "b"]  # ordered by namespace, then name
    assert store.list("n", EVERY)[1] == 4


def events(store: PodStore, wanted: Any, *, after: int) -> list[tuple[str, str]]:
    changes = store.wait(after, timeout=0.0)
    seen = [event for change in changes if (event := change.event(wanted))]
    return [(event["type"], event["object"]["metadata"]["resourceVersion"]) for event in seen]


def test_a_watcher_sees_pods_enter_change_and_leave_what_it_selects(store: PodStore) -> None:
    labelled(store, "backup")
    labelled(store, "master")
    store.patch(A, kind=MERGE, patch={"metadata": {"annotations": {"x": "y"}}})
    labelled(store, "backup")
    labelled(store, "master")
    store.delete(A)
    assert events(store, MASTERS, after=2) == [
        ("ADDED", "4"),
        ("MODIFIED", "5"),
        ("DELETED", "6"),
        ("ADDED", "7"),
        ("DELETED", "8"),
    ]
    assert events(store, EVERY, after=7) == [("DELETED", "8")]
    assert events(store, EVERY, after=8) == []


def test_a_deleted_pod_is_gone(store: PodStore) -> None:
    assert store.delete(A)["metadata"]["name"] == "a"
    for action in (store.get, store.delete):
        with pytest.raises(StatusError) as caught:
            action(A)
        assert caught.value.code == 404


def test_a_version_that_the_log_has_forgotten_is_expired(store: PodStore) -> None:
    for number in range(1001):
        labelled(store, str(number))
    with pytest.raises(StatusError) as caught:
        store.wait(2, timeout=0.0)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    assert len(store.wait(3, timeout=0.0)) == 1000


def test_a_waiter_is_woken_by_a_change_and_by_the_end(store: PodStore) -> None:
    seen: list[int] = []
    waiter = threading.Thread(target=lambda: seen.append(len(store.wait(2, timeout=60.0))))
    waiter.start()
    labelled(store, "master")
    waiter.join()
    waiter = threading.Thread(target=lambda: seen.append(len(store.wait(3, timeout=60.0))))
    waiter.start()
    store.close()
    waiter.join()
    assert seen == [1, 0]
    assert store.closed
