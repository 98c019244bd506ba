"""Answers to people's queries about components, their past, and hbtd itself.

The modules read the tracker, the notifier and the log of transitions, and change nothing. Work that
may take more than a few milliseconds is done in portions, between which other work has its turns.
"""
