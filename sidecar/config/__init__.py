"""Settings: environment over file over defaults, validated once at start-up, handed on as one ``ipc.plan.Plan``.

Only start-up imports this package: pydantic and the YAML parser do not stay in the long-lived processes.
One direction::

    environment --------------------------+
    file -> document (YAML to plain data) +-> layers (who overrides whom) -> resolve (this node's interfaces) -> Plan

``settings`` alone reads the environment and files; everything else is pure.
"""
