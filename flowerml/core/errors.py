"""Errors for a person, shown as one line without a stack trace, and what an error comes down to."""

from flowerml.core.urls import scrub


class FlowermlError(ValueError):
    """An error that the user can fix. The message says what was expected, what was found and what to do.

    Libraries quote addresses as they were given, so the text is shown without passwords and signatures.
    """

    def __str__(self) -> str:
        return scrub(super().__str__())


class ParamsError(FlowermlError):
    """Invalid params.yaml, or an invalid file that it names."""


class DataError(FlowermlError):
    """Data that cannot be used as it is."""


class DownloadError(DataError):
    """A file that cannot be downloaded."""


class ModelError(FlowermlError):
    """A saved classifier, backbone or model server that cannot be used."""


class InputError(FlowermlError):
    """An input that a classifier cannot read. `code` is a stable identifier for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def without_traceback(self) -> "InputError":
        """Return a copy without a traceback: its frames would keep the whole input in memory."""
        return InputError(self.code, self.message)


class DivergedError(FlowermlError):
    """A training whose loss is no longer finite."""


def root_cause(error: BaseException) -> BaseException:
    """Return the first error of a chain: what the libraries have wrapped."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def cause_message(error: BaseException) -> str:
    """Return what the root cause says, in the words of the system, in at most 200 characters."""
    cause = root_cause(error)
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)[:200]
