"""The composition root, and the process around it."""
