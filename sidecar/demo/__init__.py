"""The demo and what it stands on: a LAN of namespaces and a control plane. Nothing of it runs in the product."""
