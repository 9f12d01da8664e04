"""A stand-in for a vLLM server: known timing, logged send times, failures on request. Never a measurement."""
