"""The process that speaks CARP: one epoll loop, no capabilities, no token.

It parses packets from strangers, so it holds little worth stealing: neither pydantic, pyroute2, asyncio nor an HTTP
client may be imported here, and every address is put and taken by the parent.
"""
