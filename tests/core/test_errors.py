"""Errors for a person, and what they come down to."""

from flowerml.core.errors import cause_message, root_cause


def test_cause_message():
    try:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as error:
            raise RuntimeError("three retries") from error
    except RuntimeError as error:
        assert cause_message(error) == "Connection refused"


def test_root_cause():
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    assert root_cause(error) is error.__cause__
    assert cause_message(TimeoutError()) == "TimeoutError"
