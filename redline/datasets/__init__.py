"""Requests to send: from a scenario to materialised token ids and due times. Pure."""
