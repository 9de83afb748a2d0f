"""URLs: which can be used, and where a copy of each is kept."""

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flowerml.data.download.remote import Refusal

EXAMPLES = "https://host/data.tgz, s3://bucket/data.zip or gs://bucket/data.zip"
# Two letters at least: C:// is a drive.
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
LOCAL = ("file", "local")
LONGEST_NAME = 120  # bytes; file systems take 143 or 255, and .part.json must fit behind
UNSAFE = '<>:"/\\|?*'


def is_url(source: str) -> bool:
    """Whether `source` is scheme://…, and not file:// or local://, which a plain path says better."""
    match = SCHEME.match(source)
    return match is not None and match[1].lower() not in LOCAL


def local_path(url: str) -> Path:
    """The relative path HOST/PATH where a copy of `url` is kept: https://host/a/b.tgz -> host/a/b.tgz.

    Safe on any file system. Where that takes more than decoding (a query, "..", characters that names cannot have, a
    name over 120 bytes), a short hash before the suffixes tells the URL apart: data.csv?x=1 -> data-1a2b3c4d.csv.
    Only an http(s) path is URL-decoded; the keys of buckets are taken literally, as fsspec takes them.
    """
    host, path, query = _split(url)
    segments = path.split("/")
    segments[-1] = segments[-1] or "index"
    cleaned = [_clean(segment) for segment in segments]
    exact = not query and all(cleaned) and cleaned == segments
    *parents, name = [part for part in (_clean(host), *cleaned[:-1], cleaned[-1] or "index") if part]
    if not exact:
        name = _marked(name, _hash(f"{path}?{query}"))
    return Path(*map(_shortened, parents), _shortened(name))


def refuse_unusable(url: str) -> None:
    """Raises Refusal for what is no URL, for files of this machine, and for a password in the URL."""
    if not is_url(url):
        raise Refusal(f"expected a URL such as {EXAMPLES}; give a file of this machine as a plain path")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise Refusal("not a valid URL") from None
    # abfs://container@account and sftp://user@host are addresses, not secrets.
    if parts.password is not None or (parts.username is not None and _is_web(url)):
        raise Refusal(
            "a user or a password in a URL would be recorded with the parameters; put them into ~/.netrc, or for a "
            "bucket where its own tools look for them"
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
    """A file name that every system takes; empty for "..", which then counts for nothing."""
    safe = "".join("_" if letter in UNSAFE or not letter.isprintable() else letter for letter in name)
    return safe.strip(" ").rstrip(" .")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _marked(name: str, mark: str) -> str:
    stem, suffix = _suffix(name)
    room = LONGEST_NAME - len(f"-{mark}{suffix}".encode())
    return f"{stem.encode()[:room].decode(errors='ignore')}-{mark}{suffix}"


def _shortened(name: str) -> str:
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return _marked(name, _hash(name))


def _suffix(name: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.+?)((?:\.tar)?\.[A-Za-z0-9]{1,10})", name)
    return (match[1], match[2]) if match else (name, "")
