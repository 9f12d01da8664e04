"""How long a decision takes once everything is measured: the gate's, and a year of nights."""
