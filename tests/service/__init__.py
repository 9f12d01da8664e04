"""Tests of flows.service, from event payload to what GitHub is told."""
