"""The kernel: packet sockets, neighbour announcements, addresses, leases, links. pyroute2 only in ``rtnetlink``.

The engine uses ``sockets`` and ``neighbor``, which therefore must not import pyroute2.
"""
