"""What everything else runs on: the reactor, periodic tasks, logs and watched files."""
