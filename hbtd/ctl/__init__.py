"""hbtctl: the command with which operators query and control hbtd from a shell.

It uses only the REST API, as any other client does. Nothing here imports Twisted: the command has
to start quickly.
"""
