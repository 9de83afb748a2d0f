"""Writing a new project: whole or not at all, and over nothing that is there."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from flowerml.core import files
from flowerml.core.display import display_path, one_line, preview_list
from flowerml.core.errors import FlowermlError

LAST = "dvc.yaml"
MESSAGE = "A new project, written by flowerml init"
# Set for a hook, they would lead to the hook's repository; names of authors are kept.
OF_HOOKS = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"}


def create(folder: Path, texts: Mapping[str, str]) -> bool:
    """Write the files of a project to a folder, and make it a git repository unless it lies in one.

    Return whether they are committed: so the first results name a commit, and `dvc exp run` works at once. Nothing is
    committed to a repository that was there, nor where git does not know who commits.

    A new folder appears with all of its files. In one that exists each file is written whole, dvc.yaml last; a killed
    command is resumed by the same one. Raises FlowermlError where a file with other contents is in the way.
    """
    if shutil.which("git") is None:
        raise FlowermlError("git is needed for a project, as DVC and the lineage of models use it; install it")
    if os.path.lexists(folder) and not folder.is_dir():
        kind = "a link that leads nowhere" if folder.is_symlink() else "a file"
        raise FlowermlError(f"{display_path(folder)}: expected a new or empty folder, found {kind}")
    try:
        with _alone_in(_existing(folder)):
            own_repository = not _in_repository(folder)
            if folder.exists():
                refuse_conflicts(folder, texts)
                return _fill(folder, texts, own_repository=own_repository)
            with files.replacing(folder) as temporary:
                temporary.mkdir()
                return _fill(temporary, texts, own_repository=own_repository)
    except OSError as error:
        raise FlowermlError(
            f"{display_path(folder)}: cannot be written to ({error.strerror or error}); choose another folder"
        ) from None


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, so that of two commands that write the same project the second one finds the first's.

    The folder itself is locked: a lock file would stay behind in a folder that is not ours.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _existing(folder: Path) -> Path:
    """Return the closest folder above one that exists."""
    return next(parent for parent in folder.absolute().parents if parent.is_dir())


def refuse_conflicts(folder: Path, texts: Mapping[str, str]) -> None:
    """Raise FlowermlError where a folder has files that a project would overwrite."""
    taken = [name for name, text in texts.items() if not _is_free(folder / name, text)]
    if taken:
        raise FlowermlError(
            f"{display_path(folder)}: expected a new or empty folder, found {preview_list(taken)}, which would be "
            "overwritten; choose another folder, or move these away"
        )


def _is_free(path: Path, text: str) -> bool:
    """Return whether a file may be written: there is none, or it has these contents."""
    try:
        return path.read_bytes() == text.encode()
    except FileNotFoundError:
        return not os.path.lexists(path)
    except (IsADirectoryError, NotADirectoryError):
        return False


def _fill(folder: Path, texts: Mapping[str, str], *, own_repository: bool) -> bool:
    """Write the files, the last one last; return whether they are committed."""
    for name in sorted(texts, key=lambda name: name == LAST):
        if name == LAST and own_repository:
            _git(["init", "--quiet"], folder)
        with files.replacing(folder / name) as temporary:
            temporary.write_bytes(texts[name].encode())
    return own_repository and _commit(folder, texts)


def _commit(folder: Path, names: Iterable[str]) -> bool:
    """Commit files of a new repository; return whether git could, which it cannot without a name for the author."""
    _git(["add", "--", *names], folder)
    # A signature would ask for a passphrase.
    commit = ["-c", "commit.gpgSign=false", "commit", "--quiet", "--no-verify", "--message", MESSAGE, "--", *names]
    return not _run(commit, folder).returncode


def _in_repository(folder: Path) -> bool:
    """Return whether a folder is in the work tree of a git repository that does not ignore it."""
    existing = folder if folder.is_dir() else _existing(folder)
    inside = _run(["rev-parse", "--is-inside-work-tree"], existing)
    if inside.returncode or inside.stdout.strip() != "true":
        return False
    return bool(_run(["check-ignore", "--quiet", "--", str(folder.absolute())], existing).returncode)


def _git(arguments: list[str], folder: Path) -> None:
    done = _run(arguments, folder)
    if done.returncode:
        raise FlowermlError(f"git {arguments[0]} failed in {display_path(folder)}: {one_line(done.stderr, 300)}")


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in OF_HOOKS}
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, errors="replace"
    )
