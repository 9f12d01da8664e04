"""How answers are scored. Pure."""
