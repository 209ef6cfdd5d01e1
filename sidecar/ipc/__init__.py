"""What the processes say to one another: typed messages over ``SOCK_SEQPACKET`` socketpairs."""
