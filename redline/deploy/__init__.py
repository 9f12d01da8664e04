"""Deployers: a build and a recipe become an endpoint that answered a real completion, and nothing stays behind.

`process` starts a server on this machine, `endpoint` attaches to one that already runs, `supervisor` is the
guard under which every long-lived child process of Redline lives.
"""
