"""URLs without their secrets, to be shown and recorded."""

import re

PASSWORD = re.compile("//[^/@]*@")
QUERY = re.compile(r"^([a-z][a-z0-9+.-]*://[^?#]*)\?.*", re.DOTALL)


def without_password(address: str) -> str:
    """Return an address without its user and password.

    >>> without_password("https://me:secret@host/path")
    'https://host/path'
    """
    return PASSWORD.sub("//", address)


def without_secrets(address: str) -> str:
    """Return an address as it may be recorded: without its query too, which may hold a token or a signature.

    >>> without_secrets("https://me:secret@host/data.zip?X-Amz-Signature=secret")
    'https://host/data.zip?…'
    """
    return QUERY.sub(r"\1?…", without_password(address))
