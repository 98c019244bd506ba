"""The base of the other packages: the reactor, periodic tasks, logs, and watched files."""
