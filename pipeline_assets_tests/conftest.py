"""Settings of all tests."""

from hypothesis import settings

# A property holds or it does not; how long one example takes says something of the machine only.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
