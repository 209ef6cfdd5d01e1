"""Failover side by side: this sidecar, ucarp and keepalived, with the same faults on the same LANs in the same run."""
