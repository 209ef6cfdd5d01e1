"""The kernel: packet sockets, neighbour announcements, addresses, leases, links. pyroute2 lives only here.

The engine uses ``sockets`` and ``neighbor``, which therefore must not import pyroute2.
"""
