"""What the Job of `updateStrategy.type: Ordered` runs: pods of an old revision are deleted one by one, masters last.

A VIP then moves once at most: when its master's turn has come, every other node is done. The next pod is deleted once
each node has one that is available (minReadySeconds is the DaemonSet's). Begun again, it goes on where it was.
Arguments: namespace, name of the DaemonSet, label selector of its pods, role labels. Only the standard library.
"""

import json
import os
import ssl
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"))
EVERY = float(os.environ.get("POLL_SECONDS", "2"))


def ask(path: str, *, method: str = "GET", **query: str) -> dict:
    """Return the API server's answer. Raises OSError: the kubelet runs the container again then."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    url = f"https://{host}:{port}{path}?{urllib.parse.urlencode(query)}"
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"}
    request = urllib.request.Request(url, headers=headers, method=method)
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=context, timeout=10) as answer:
        return json.load(answer)


def newest(revisions: Sequence[dict], uid: str) -> str:
    """Return the hash of the DaemonSet's newest revision, which its pods bear as a label."""
    own = [each for each in revisions if any(owner["uid"] == uid for owner in each["metadata"]["ownerReferences"])]
    return max(own, key=lambda each: each["revision"])["metadata"]["labels"]["controller-revision-hash"]


def lacking(daemonset: dict, pods: Sequence[dict], updated: int) -> str:
    """Return what the next pod's turn has to wait for, or nothing.

    The status may be older than the pods: it counts once it knows of as many ``updated`` ones.
    """
    status = daemonset.get("status", {})
    wanted = status.get("desiredNumberScheduled", 0)
    leaving = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]
    if status.get("observedGeneration", 0) < daemonset["metadata"]["generation"]:
        return "the controller to see the new template"
    if leaving:
        return f"the end of {', '.join(leaving)}"
    if len(pods) < wanted or not wanted or status.get("updatedNumberScheduled", 0) != updated:
        return "a pod on each node"
    if status.get("numberAvailable", 0) < wanted:
        return f"all pods to be available: {status.get('numberAvailable', 0)} of {wanted} are"
    return ""


def masterships(pod: dict, labels: Sequence[str]) -> int:
    """Return of how many groups a pod says that it is master."""
    return sum(pod["metadata"]["labels"].get(label) == "master" for label in labels)


def main(namespace: str, name: str, selector: str, *labels: str) -> int:
    """Return the exit code: 0 once all pods are of the newest revision."""
    apps, core, said = f"/apis/apps/v1/namespaces/{namespace}", f"/api/v1/namespaces/{namespace}", ""
    while True:
        daemonset = ask(f"{apps}/daemonsets/{name}")
        pods = ask(f"{core}/pods", labelSelector=selector)["items"]
        revisions = ask(f"{apps}/controllerrevisions", labelSelector=selector)["items"]
        revision = newest(revisions, daemonset["metadata"]["uid"]) if revisions else ""
        old = [pod for pod in pods if pod["metadata"]["labels"].get("controller-revision-hash") != revision]
        waits = lacking(daemonset, pods, len(pods) - len(old))
        if not waits and not old:
            print("all pods are of the newest revision", flush=True)
            return 0
        if not waits:
            pod = min(old, key=lambda each: masterships(each, labels))
            print(f"restarting {pod['metadata']['name']} on {pod['spec']['nodeName']}", flush=True)
            ask(f"{core}/pods/{pod['metadata']['name']}", method="DELETE")
        elif waits != said:
            print(f"waiting for {waits}", flush=True)
        said = waits
        time.sleep(EVERY)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
