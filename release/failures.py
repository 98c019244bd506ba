"""The exception for what keeps a command from being carried out."""


class ReleaseError(Exception):
    """A command can't be carried out until its user changes something; the message says what."""
