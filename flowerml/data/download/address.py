"""URLs: which ones are supported, and where their files are kept."""

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flowerml.data.download.remote import PermanentError

EXAMPLES = "https://host/data.tgz, s3://bucket/data.zip or gs://bucket/data.zip"
# At least two letters, as C:// is a drive.
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
LOCAL = ("file", "local")
MAX_NAME_BYTES = 120  # file systems allow 143 or 255, and .part.json is appended
UNSAFE = '<>:"/\\|?*'


def is_url(source: str) -> bool:
    """Return whether `source` is a URL; file:// and local:// are not, as a plain path does the same.

    >>> is_url("https://host/data.zip"), is_url("data/data.zip")
    (True, False)
    """
    match = SCHEME.match(source)
    return match is not None and match[1].lower() not in LOCAL


def local_path(url: str) -> Path:
    """Return the relative path HOST/PATH under which the file of `url` is kept.

    >>> local_path("https://host/a/b.tgz").as_posix()
    'host/a/b.tgz'

    The path is valid on any file system. Where that changes more than the URL encoding (a query, "..", characters that
    names cannot have, a name over 120 bytes), a short hash before the suffixes keeps it unique: data.csv?x=1 becomes
    data-1a2b3c4d.csv. Only http(s) paths are decoded: fsspec takes the keys of buckets literally.
    """
    host, path, query = _split(url)
    segments = path.split("/")
    segments[-1] = segments[-1] or "index"
    cleaned = [_clean(segment) for segment in segments]
    exact = not query and all(cleaned) and cleaned == segments
    *parents, name = [part for part in (_clean(host), *cleaned[:-1], cleaned[-1] or "index") if part]
    if not exact:
        name = _with_hash(name, _hash(f"{path}?{query}"))
    return Path(*map(_limit, parents), _limit(name))


def check_url(url: str) -> None:
    """Raise PermanentError for an invalid URL, a local file, and a password in the URL."""
    if not is_url(url):
        raise PermanentError(f"expected a URL such as {EXAMPLES}; give a local file as a plain path")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise PermanentError("not a valid URL") from None
    # abfs://container@account and sftp://user@host are addresses, not secrets.
    if parts.password is not None or (parts.username is not None and _is_web(url)):
        raise PermanentError(
            "a user or a password in a URL would be recorded with the parameters; put them into ~/.netrc, or for a "
            "bucket into the configuration of its own tools"
        )


def _split(url: str) -> tuple[str, str, str]:
    if _is_web(url):
        parts = urlsplit(url)
        path = "/".join(unquote(segment).replace("/", "\\") for segment in parts.path.split("/"))
        return parts.netloc.rpartition("@")[2].lower().replace(":", "_"), path.removeprefix("/"), parts.query
    rest, _, query = url.partition("://")[2].partition("?")
    host, _, path = rest.partition("/")
    user, at, address = host.rpartition("@")
    return f"{user.partition(':')[0]}{at}{address}".replace(":", "_"), path, query


def _is_web(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _clean(name: str) -> str:
    """Return a file name valid on every system; empty for ".." (dropped from the path)."""
    safe = "".join("_" if letter in UNSAFE or not letter.isprintable() else letter for letter in name)
    return safe.strip(" ").rstrip(" .")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _with_hash(name: str, digest: str) -> str:
    stem, suffix = _split_suffix(name)
    room = MAX_NAME_BYTES - len(f"-{digest}{suffix}".encode())
    return f"{stem.encode()[:room].decode(errors='ignore')}-{digest}{suffix}"


def _limit(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return _with_hash(name, _hash(name))


def _split_suffix(name: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.+?)((?:\.tar)?\.[A-Za-z0-9]{1,10})", name)
    return (match[1], match[2]) if match else (name, "")
