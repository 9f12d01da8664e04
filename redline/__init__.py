"""Redline: the instrument. It pins, deploys, loads, stores; `checks` decides and `reports` writes."""

__version__ = "0.1.0"
