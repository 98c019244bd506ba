"""hbtctl: the command with which people query and operate hbtd from a shell.

It uses the API alone, as any other client does. Nothing here imports Twisted: the command has to
start quickly.
"""
