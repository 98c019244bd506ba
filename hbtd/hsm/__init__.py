"""The parts of hbtd that deal with the Hardware State Manager (HSM).

The client makes requests to HSM, the notifier sends judgements, and the reconciler compares HSM's
table of components with the tracker.
"""
