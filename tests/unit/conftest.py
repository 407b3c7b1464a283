"""What holds for every unit test."""

from hypothesis import HealthCheck, settings

# A busy machine takes longer than what hypothesis allows for an example and for making them.
settings.register_profile("clusterd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("clusterd")
