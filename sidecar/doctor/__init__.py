"""``carp-sidecar doctor``: whether this node can do what the settings ask of it, before and after it is installed.

``facts`` says what is looked at, ``checks`` judges it and is pure: no I/O, no clock. ``host``, ``wire`` and ``rights``
are thin readers of the kernel, the LAN and the API server. Nothing is changed but for a loopback address that lasts a
second.
"""
