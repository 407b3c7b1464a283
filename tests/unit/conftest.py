"""What holds for every unit test."""

from hypothesis import settings

# A busy machine takes longer than the 200 ms per example that hypothesis allows.
settings.register_profile("clusterd", deadline=None)
settings.load_profile("clusterd")
