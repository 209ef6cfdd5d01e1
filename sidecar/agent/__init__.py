"""The process that faces Kubernetes: asyncio, no capabilities, the only reader of the service-account token.

It mirrors what the network decided and can decide nothing itself. No network interface is touched from here.
"""
