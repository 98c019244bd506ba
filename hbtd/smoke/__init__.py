"""hbtd-smoke: checks a live hbtd from the outside, as its nodes and operators reach it.

It is a client of the API, like hbtctl, and shares hbtctl's client and options.
"""
