"""How the stand-ins are made: tiny models, one per architecture of MLPerf, that know a small test set by heart."""
