"""Queries: what hbtd answers to people who ask about components, their past, and hbtd itself.

The modules read what the tracker, the notifier and the log of transitions know, and change nothing.
Whatever may take more than a few milliseconds is done in portions, between which others have their
turns.
"""
