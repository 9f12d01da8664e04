"""What was measured, kept: one immutable directory per trial, and a DuckDB file made from them."""
