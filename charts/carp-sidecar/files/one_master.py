"""What `helm test` runs: wait until each of the role labels is `master` on exactly one pod of the release.

Arguments: namespace, label selector, role labels. Only the standard library; the rights are the sidecar's own.
"""

import json
import os
import ssl
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"))
SECONDS = float(os.environ.get("WAIT_SECONDS", "60"))


def masters(namespace: str, selector: str) -> list[str]:
    """Return the names of the pods that ``selector`` matches."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    query = urllib.parse.urlencode({"labelSelector": selector})
    url = f"https://{host}:{port}/api/v1/namespaces/{namespace}/pods?{query}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"})
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=context, timeout=10) as answer:
        return [pod["metadata"]["name"] for pod in json.load(answer)["items"]]


def main(namespace: str, selector: str, *labels: str) -> int:
    """Return the exit code: 0 where each group has one master."""
    deadline = time.monotonic() + SECONDS
    while True:
        found = {label: masters(namespace, f"{selector},{label}=master") for label in labels}
        right = all(len(pods) == 1 for pods in found.values())
        if right or time.monotonic() > deadline:
            break
        time.sleep(1)
    for label, pods in found.items():
        print(f"{label}: {'master is ' + pods[0] if len(pods) == 1 else f'{len(pods)} masters {pods}, not one'}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
