"""The service on GitHub: what an event asks for, what a job hands on, and how an answer reaches people."""
