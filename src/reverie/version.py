"""Of this library, as runs and data sets note it."""

__version__ = "0.2.0"
