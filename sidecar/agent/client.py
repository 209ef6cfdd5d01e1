"""The part of the official Kubernetes client that the agent uses: its configuration and its HTTP.

``import kubernetes.aio`` loads the synchronous half as well, with an HTTP client of its own, OAuth and WebSockets, and
pydantic for models that nobody here makes: 17 MB, of which these parts are less than one. What reads a kubeconfig takes
8 (``agent.kubeconfig``).
"""

from __future__ import annotations

from sidecar.parts import parts_of

PACKAGES = ("kubernetes", "kubernetes.aio", "kubernetes.aio.config", "kubernetes.aio.utils")
"""Those whose ``__init__`` imports what is not needed."""

with parts_of(*PACKAGES):
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.client.rest import RESTClientObject
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.incluster_config import load_incluster_config

__all__ = ["PACKAGES", "ConfigException", "Configuration", "RESTClientObject", "connect", "in_cluster"]


def in_cluster() -> RESTClientObject:
    """Return a client with the pod's own service account. Raises ConfigException, OSError, ValueError."""
    configuration = Configuration()
    load_incluster_config(client_configuration=configuration)
    return connect(configuration)


def connect(configuration: Configuration) -> RESTClientObject:
    """Return a client; nothing is sent yet. Raises OSError or ValueError for certificates that are none."""
    configuration.retries = None  # the mirror tries again, with the newest snapshot
    return RESTClientObject(configuration)
