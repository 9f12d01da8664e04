"""The load engine: when (arrivals), how (client), arithmetic (timing), in a process of its own (worker)."""
