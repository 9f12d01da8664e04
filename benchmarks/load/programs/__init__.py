"""What runs in the clients' own processes."""
