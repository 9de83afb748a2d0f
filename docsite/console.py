"""Fences of a terminal: commands after `$`, and what they print below."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from docsite.markdown import Fence

ANY = "…"
PROMPT = "$ "
EXIT = re.compile(r"\s+# exit (\d+)$")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
OVERWRITE = "\r"
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Step:
    """A command, its exit code, and the lines that it prints; none where the page leaves them out."""

    command: str
    exit_code: int
    printed: tuple[str, ...]
    any_number: bool = False

    def matches(self, output: str) -> bool:
        """Return whether an output is what the page shows. `…` stands for any text, alone in a line for any lines.

        >>> Step("date", 0, ("Mon …", "…", "done")).matches("Mon 3\\na\\nb\\ndone\\n")
        True
        """
        return not self.printed or self._pattern().fullmatch(plain(output)) is not None

    def begins(self, output: str) -> bool:
        """Return whether an output begins as the page shows."""
        return self._pattern().match(plain(output)) is not None

    def _pattern(self) -> re.Pattern[str]:
        return re.compile("".join(map(self._line, self.printed)))

    def _line(self, line: str) -> str:
        if line.strip() == ANY:
            return r"(?:.*\n)*?"
        escaped = re.escape(line.rstrip()).replace(ANY, ".*")
        if self.any_number:
            escaped = NUMBER.sub(lambda _: NUMBER.pattern, escaped)
        return escaped + r"\n"


def steps(fence: Fence) -> Iterator[Step]:
    """Yield the commands of a fence. Raises ValueError where it does not begin with one."""
    if not fence.text.startswith(PROMPT):
        raise ValueError("expected `$ ` and a command in the first line of a console")
    for part in re.split(r"^\$ ", fence.text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        command = lines.pop(0)
        while command.endswith("\\"):
            command = f"{command}\n{lines.pop(0)}"
        code = EXIT.search(command)
        exit_code = int(code[1]) if code else 0
        while lines and not lines[-1].strip():
            lines.pop()
        yield Step(EXIT.sub("", command), exit_code, tuple(lines), "numbers=any" in fence.flags)


def plain(output: str) -> str:
    """Return an output as it stands on a screen: without colors, overwritten lines and spaces at the ends of lines."""
    lines = ESCAPES.sub("", output).replace("\r\n", "\n").removesuffix("\n").split("\n")
    return "".join(f"{line.rpartition(OVERWRITE)[2].rstrip()}\n" for line in lines)
