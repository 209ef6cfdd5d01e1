"""CARP for Kubernetes: the network elects, a kernel lease holds the VIP, the API server only mirrors.

Three processes, one direction::

    wire -> net.sockets -> protocol.packet -> protocol.auth -> protocol.machine -> effects
                                                                    engine.perform +- Advertise -> net.sockets
      ENGINE  one epoll loop, no capabilities, no token                            +- Announce  -> net.neighbor (ARP/NA)
                                                                                   +- Bind/Renew/Release -> parent
                                                                                   +- Snapshot -> parent -> agent
      PARENT  NET_ADMIN + NET_RAW; opens the sockets and passes them; VIP leases; supervises; sweeps up
      AGENT   asyncio; no capabilities; the only reader of the service-account token:
              Snapshot -> agent.desired (pure) -> agent.reconciler -> agent.api -> Pod

Importing any module here does no work. The rules on who may import whom are in pyproject.toml (import-linter).
"""

__version__ = "0.1.0"
