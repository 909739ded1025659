"""What can go wrong on a person's machine, each said in one sentence with what to do."""


class LocalError(Exception):
    """The stack cannot start or go on; the message is one sentence that says what to do."""
