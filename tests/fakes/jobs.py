"""A Job's controller and kubelet for a bare API server: what its pod would run is run here, as its account."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sidecar.demo.admin import Admin, ApiError

_EVERY = 0.1


class Jobs:
    """Use as a context manager: runs each Job of the namespace once, and says of it that it is complete."""

    def __init__(self, admin: Admin, namespace: str, directory: Path) -> None:
        self._admin = admin
        self._path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self._directory = directory
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def __enter__(self) -> Self:
        self._directory.mkdir()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(_EVERY):
            for job in self._admin.request("GET", self._path)["items"]:
                if not job.get("status", {}).get("conditions"):
                    self._run(job)

    def _run(self, job: dict[str, Any]) -> None:
        spec = job["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        began = datetime.now(UTC)
        command = [sys.executable, *container["command"][1:], *container["args"]]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=self._environment(spec["serviceAccountName"])
        )
        if done.returncode != 0:
            raise AssertionError(f"{job['metadata']['name']}: {done.stdout}\n{done.stderr}")
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": _stamp(datetime.now(UTC))}
            for kind in ("SuccessCriteriaMet", "Complete")
        ]
        status = {
            "startTime": _stamp(began),
            "completionTime": _stamp(datetime.now(UTC)),
            "succeeded": 1,
            "conditions": conditions,
        }
        try:
            self._admin.request("PATCH", f"{self._path}/{job['metadata']['name']}/status", {"status": status})
        except ApiError as error:
            if error.status != 404:  # it was replaced meanwhile
                raise

    def _environment(self, account: str) -> dict[str, str]:
        answer = self._admin.request("POST", f"{self._accounts}/{account}/token", {"spec": {}})
        (self._directory / "token").write_text(answer["status"]["token"])
        (self._directory / "ca.crt").write_text(self._admin.access.ca)
        host, port = self._admin.access.server.removeprefix("https://").rsplit(":", 1)
        return {
            **os.environ,
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "SERVICE_ACCOUNT_DIR": str(self._directory),
            "POLL_SECONDS": "0.1",
        }


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
