"""The Hardware State Manager (HSM): its client, the notifier, and the comparison of its table."""
