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

    def alone(self) -> "InputError":
        """The same without its stack, to be kept: a stack keeps all that was read, until Python looks for cycles."""
        return InputError(self.code, self.message)


class DivergedError(FlowermlError):
    """A training ran away: its loss is no longer a number."""
