"""A kubeconfig, as the official client reads it: all its ways to log in, and with them 8 MB. Not loaded in a pod."""

from __future__ import annotations

import yaml

from sidecar.agent.client import PACKAGES, Configuration, RESTClientObject, connect
from sidecar.parts import parts_of

with parts_of(*PACKAGES):
    from kubernetes.aio.config import kube_config


async def client_of(path: str) -> RESTClientObject:
    """Return a client with what the file says. Raises ConfigException, OSError, ValueError, TypeError and the like."""
    configuration = Configuration()
    try:
        await kube_config.load_kube_config(config_file=path, client_configuration=configuration)
        return connect(configuration)
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {error}") from error
    finally:
        # The loader writes inline certificates to files for OpenSSL, and removes them only at a regular exit.
        kube_config._cleanup_temp_files()
