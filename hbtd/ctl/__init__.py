"""hbtctl: the command with which people ask hbtd, and tell it, from a shell.

It uses the API alone, as any other client does. Nothing here imports Twisted: the command has to
start quickly.
"""
