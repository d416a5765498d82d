"""What the tools of the pytools collection share."""

__version__ = "0.1.0"
