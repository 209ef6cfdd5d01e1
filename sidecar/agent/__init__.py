"""The process that faces the outside: asyncio, no capabilities, the only reader of the service-account token.

It mirrors into Kubernetes what the network decided, tells of it over HTTP, and can decide nothing itself. No network
interface is touched from here. Where the mirror is off, the Kubernetes client is not loaded, and without the listener
aiohttp's server is not.
"""
