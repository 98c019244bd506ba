"""Answers to queries about components, about their past, and about hbtd itself.

The modules read the tracker, the notifier and the log of transitions, and change none of them. Work
that may take more than a few milliseconds is done in portions, between which other work can run.
"""
