"""The load engine against its peers: one stand-in server that knows the truth, one client at a time, as ratios."""
