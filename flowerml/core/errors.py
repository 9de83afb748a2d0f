"""The errors that are meant for a person: shown as one line, without a stack trace."""


class FlowermlError(ValueError):
    """Something the user can mend; the message says what was expected, what was found and what to do."""


class ParamsError(FlowermlError):
    """params.yaml (or a file it names) holds something that cannot be used."""


class DataError(FlowermlError):
    """The data cannot be used as it is."""


class DownloadError(DataError):
    """A file could not be fetched."""


class ModelError(FlowermlError):
    """A saved classifier or a backbone cannot be used."""


class InputError(FlowermlError):
    """One input to a classifier cannot be read. `code` is a stable word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def without_traceback(self) -> "InputError":
        """The same without its stack, to be kept: a stack keeps all that was read, until Python looks for cycles."""
        return InputError(self.code, self.message)


class DivergedError(FlowermlError):
    """A training ran away: its loss is no longer a number."""


def root_cause(error: BaseException) -> BaseException:
    """Return the first error of a chain: what the libraries have wrapped."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def cause_message(error: BaseException) -> str:
    """Return what the root cause says, in the words of the system, in at most 200 characters."""
    cause = root_cause(error)
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)[:200]
