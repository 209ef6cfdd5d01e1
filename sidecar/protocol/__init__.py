"""CARP version 2 as pure functions and one state machine: no I/O, no clock, no randomness, no logging.

Nothing that reads a socket, a file, the environment or the time may be imported here; ``now`` is an argument.
"""
