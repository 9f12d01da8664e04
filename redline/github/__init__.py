"""GitHub: what its runner tells a job, and its API. Nothing here decides anything or renders anything."""
