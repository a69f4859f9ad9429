"""The one exception for what a user can put right: its message says what was given and what to do."""


class UserError(ValueError):
    """A problem with the input, not with the program.

    Scripts print it as one line, `error: <message>`, and exit with code 2.
    """
