"""The long run: random stories on the simulated LAN for as long as one likes (``make soak``)."""
