"""Addresses of servers, and what went wrong with them, in a form that may be shown."""

import re

PASSWORD = re.compile("//[^/@]*@")
QUERY = re.compile(r"^([a-z][a-z0-9+.-]*://[^?#]*)\?.*", re.DOTALL)


def without_password(address: str) -> str:
    """The address without the user and password it may have.

    >>> without_password("https://me:secret@host/path")
    'https://host/path'
    """
    return PASSWORD.sub("//", address)


def without_secrets(address: str) -> str:
    """The address as it may be recorded: a query, too, may hold a token or a signature.

    >>> without_secrets("https://me:secret@host/data.zip?X-Amz-Signature=secret")
    'https://host/data.zip?…'
    """
    return QUERY.sub(r"\1?…", without_password(address))
