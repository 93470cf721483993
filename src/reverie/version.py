"""Of this library, as runs and data sets note it."""

__version__ = "0.1.0"
