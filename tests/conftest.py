"""Settings that all tests share."""

from hypothesis import settings

# A busy machine is slow, not wrong: no verdict hangs on wall time.
settings.register_profile("default-without-deadline", deadline=None)
settings.load_profile("default-without-deadline")
