"""clusterd: a prefork process supervisor and cluster runner for Python web applications."""

__version__ = "0.1.0"
