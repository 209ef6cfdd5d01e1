"""What tcpdump recorded: files to frames (``files``), frames to the CARP packets in them (``frames``).

Pure but for the stream that ``files`` reads. No process that runs for long imports more of this than ``vrrp``.
"""
