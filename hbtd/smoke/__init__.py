"""hbtd-smoke: tries out a live hbtd from the outside, as its nodes and operators reach it.

It is a client of the API, like hbtctl, whose client and options it shares.
"""
