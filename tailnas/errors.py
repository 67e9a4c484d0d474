"""The one error that a user can cause."""


class UserError(Exception):
    """A mistake in parameters, data or files, told in one line.

    The message names the key or file, the value found there and what is allowed. Stages print it without a
    traceback and exit with status 1.
    """
