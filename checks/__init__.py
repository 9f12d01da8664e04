"""Is it a regression? Pure: values in, values out; no files, clock, network or hidden random state.

What every number here means, where it comes from and how often it errs: docs/method.md.
"""
