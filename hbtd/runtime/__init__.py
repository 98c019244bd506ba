"""What all other packages run on: the reactor, periodic tasks, logs, and watched files."""
