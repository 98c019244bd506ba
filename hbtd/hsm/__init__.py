"""The Hardware State Manager (HSM): a REST client, and the notifier that sends it updates."""
