"""``carp-sidecar rollout``: replaces the pods of a DaemonSet one at a time, backups first, so that each VIP moves once.

``plan`` decides and is pure, ``cluster`` asks the API server, ``steps`` waits, ``command`` tells. It runs outside the
sidecar's three processes, in a Job or at a workstation, and reads who is master from the labels that the mirror wrote.
"""
