"""Values to Markdown, plain lines and JSON. Pure: no clock, no environment, no network, nothing is written."""
