"""The one kind of error that a user can mend."""


class UserError(Exception):
    """Something in the user's input or machine is wrong.

    The message names the file or value at fault, what was expected, and what to do. The `s2ca`
    command prints it without a traceback and exits with code 1.
    """
