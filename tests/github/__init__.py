"""Tests of redline.github, against a local server that speaks the parts of the API used."""
