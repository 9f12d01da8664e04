"""Which vLLM build is measured: a spec becomes a `BuildPin`, a `BuildPin` becomes an installed build."""
