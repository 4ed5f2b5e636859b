"""The one way in which the model says no: a status and DSM's text for it.

DSM answers errors as plain text, and its clients compare some of these texts verbatim
(reference, section 5).
"""

NO_SUCH_KEY = "sobject does not exist"
NAME_TAKEN = "sobject already exists"
NEEDS_APPROVAL = "This operation requires approval"
NO_SUCH_SESSION = "Session does not exist"


class DsmError(Exception):
    """A request that DSM refuses, with the answer that the client sees."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


def bad_request(text: str) -> DsmError:
    """Return the refusal of a request that is malformed."""
    return DsmError(400, text)


def no_such_key() -> DsmError:
    """Return the refusal of a key that is not there, by kid or by name."""
    return DsmError(404, NO_SUCH_KEY)


def name_taken() -> DsmError:
    """Return the refusal of a second key of the same name."""
    return DsmError(409, NAME_TAKEN)
