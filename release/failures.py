"""What can't be done, in one line."""


class ReleaseError(Exception):
    """Something that whoever runs the command can mend; its text says what."""
