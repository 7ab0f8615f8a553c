"""Settings of all tests."""

import signal

from hypothesis import settings

# A property holds or it does not; how long one example takes says something of the machine only.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# What a script starts with `&` ignores Ctrl-C, and so would all that the tests start and interrupt. Dagster puts the
# disposition of SIGINT on SIGTERM, too; then the processes that copy a step's output do not end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
