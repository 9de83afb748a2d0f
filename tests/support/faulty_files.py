"""Injects a fault at every file operation of each stage, re-runs the stage and compares the outputs: `make faults`.

A fault is a crash (the process ends at once, as after `kill -9`), a full disk (ENOSPC, which lasts until the process
ends) or an input/output error (EIO, once). It strikes the n-th time that the stage opens a file to write, writes,
flushes, renames, swaps, removes, links or makes a folder below the project, for every n (of equal operations in a row,
the first and the last). Each case is a fork of this process with the functions of the operating system wrapped, in a
copy of the project. What libraries write from C++ or Rust is not seen; the flush and the rename that follow are.

After a crash there are no half-written files under final names, and the re-run gives the outputs of an undisturbed run.
The same holds after an error, which in addition is one line. Prints a table; exits with 1 where anything differs.
"""

import argparse
import builtins
import errno
import io
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import pandas as pd
from tqdm import tqdm

from flowerml.core import exchange
from tests.support.killing import digests, is_finished, temporary_files
from tests.support.project import Project

CRASH, ERRORS = "crash", {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
FAULTS = (CRASH, *ERRORS)
CRASHED, ENDED = 66, 70  # exit codes: the fault was a crash; a stack trace, which no user should see
STAGES = ("download", "extract", "encode", "train", "evaluate", "export")
OUTPUTS = {
    "download": ["data/{0}/archive", "data/{0}/category_names.json", "data/{0}/split_table.csv"],
    "extract": ["data/{0}/examples.parquet", "data/{0}/checks.json"],
    "encode": ["data/{0}/encoded.arrow", "data/{0}/encoder", "data/{0}/encoded_checks.json", "reports/{0}/data.html"],
    "train": ["models/{0}/classifier", "reports/{0}/curves.csv", "reports/{0}/search.json"],
    "evaluate": ["reports/{0}"],
    # Of an export only the classifier: its model has a number and a time of its own.
    "export": ["models/{0}/mlflow/artifacts"],
}
TINY: dict[str, Any] = {
    "flowers.data.sample_per_class": 7,
    "flowers.train.epochs": 2,
    "flowers.train.search.trials": 2,
    "flowers.evaluate.resamples": 20,
    "reviews.data.sample_per_class": 30,
    "reviews.train.epochs": 1,
    "reviews.train.hidden_dim": 8,
    "reviews.train.search.trials": 2,
    "reviews.evaluate.resamples": 20,
}
# Of the second round, in which every stage replaces its former outputs.
CHANGED: dict[str, Any] = {
    "flowers.data.seed": 1,
    "flowers.encode.seed": 1,
    "flowers.train.seed": 1,
    "reviews.data.seed": 1,
    "reviews.encode.vocab_size": 500,
    "reviews.train.seed": 1,
}
# Folders that are replaced as a whole.
WHOLE = ("models/{0}/classifier", "data/{0}/encoder", "models/{0}/mlflow/artifacts")
# The parent must not start threads, which do not survive a fork; importing is what takes long.
IMPORTED = (
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "onnxruntime",
    "pyarrow.parquet",
    "sklearn.linear_model",
    "timm",
    "torch.onnx",
    "torchvision.models",
    "flowerml.cli.stage",
    "flowerml.pipeline.run",
    "flowerml.pipeline.download",
    "flowerml.pipeline.export",
)
# Written by MLflow and SQLite, not by us.
FOREIGN = ("mlruns", "mlflow.db")


@dataclass
class Fault:
    """Counts the file operations below `folder`; at number `at` the fault `kind` strikes."""

    folder: Path
    kind: str
    at: int
    operations: list[str] = field(default_factory=list)

    def __call__(self, operation: str, path: Any, *, frees: bool = False) -> None:
        """Count an operation on a path or a descriptor; a full disk lets those pass that free space."""
        if not self._is_ours(path):
            return
        number = len(self.operations)
        self.operations.append(operation)
        lasts = self.kind == "ENOSPC" and number >= self.at and not frees
        if number == self.at and self.kind == CRASH:
            os._exit(CRASHED)
        if (number == self.at and self.kind in ERRORS and not frees) or lasts:
            raise OSError(ERRORS[self.kind], os.strerror(ERRORS[self.kind]), None if isinstance(path, int) else path)

    def _is_ours(self, path: Any) -> bool:
        try:
            name = Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else os.fsdecode(path)
        except (OSError, TypeError):
            return False
        absolute = Path.cwd() / name
        below = absolute.relative_to(self.folder).parts if absolute.is_relative_to(self.folder) else ()
        return below != () and below[0] not in FOREIGN


class _FaultyFile(io.FileIO):
    """A file that reports each write to the fault."""

    fault: Fault

    def write(self, content: Any) -> int:
        """Report, then write."""
        self.fault("write", self.name)
        return cast(int, super().write(content))


@contextmanager
def injected(fault: Fault) -> Iterator[None]:
    """Wrap the functions of the operating system with a fault."""
    real: list[tuple[Any, str, Any]] = []

    def replace(module: Any, name: str, wrapped: Any) -> None:
        real.append((module, name, getattr(module, name)))
        setattr(module, name, wrapped)

    def wrap(name: str, *, frees: bool = False) -> None:
        function = getattr(os, name)

        def wrapped(path: Any, *arguments: Any, **options: Any) -> Any:
            relative = options.get("dir_fd")
            place = path if relative is None else f"{Path(f'/proc/self/fd/{relative}').readlink()}/{os.fsdecode(path)}"
            fault(name, place, frees=frees)
            return function(path, *arguments, **options)

        replace(os, name, wrapped)

    for name in ("mkdir", "symlink", "link", "chmod", "fsync", "write", "rename", "replace"):
        if name == "symlink":
            _wrap_symlink(fault, replace)
        else:
            wrap(name)
    for name in ("unlink", "remove", "rmdir"):
        wrap(name, frees=True)
    _wrap_open(fault, replace)
    _wrap_exchange(fault, replace)
    try:
        yield
    finally:
        for module, name, function in reversed(real):
            setattr(module, name, function)


def _wrap_symlink(fault: Fault, replace: Callable[[Any, str, Any], None]) -> None:
    function = os.symlink

    def wrapped(target: Any, path: Any, *arguments: Any, **options: Any) -> None:
        fault("symlink", path)
        function(target, path, *arguments, **options)

    replace(os, "symlink", wrapped)


def _wrap_open(fault: Fault, replace: Callable[[Any, str, Any], None]) -> None:
    function = builtins.open

    def wrapped(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        if (mode.startswith("r") and "+" not in mode) or not isinstance(file, str | bytes | os.PathLike):
            return function(file, mode, buffering, *arguments, **options)
        fault("open", file)
        raw = _FaultyFile(file, mode.replace("b", "").replace("t", ""))
        raw.fault = fault
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *arguments, **options)

    replace(builtins, "open", wrapped)
    replace(io, "open", wrapped)


def _wrap_exchange(fault: Fault, replace: Callable[[Any, str, Any], None]) -> None:
    function = exchange._renameat2()
    assert function is not None

    def wrapped(first_folder: int, first: bytes, second_folder: int, second: bytes, flags: int) -> int:
        try:
            fault("exchange", second)
        except OSError as error:
            exchange.ctypes.set_errno(error.errno or 0)
            return -1
        return function(first_folder, first, second_folder, second, flags)

    replace(exchange, "_renameat2", lambda: wrapped)


def run_stage(folder: Path, stage: str, pipeline: str, fault: Fault) -> tuple[int, list[str], str]:
    """Run a stage in a fork with a fault; return its exit code, its operations and what it wrote to stderr."""
    outputs = folder.with_name(f"{folder.name}-operations"), folder.with_name(f"{folder.name}-stderr")
    for path in outputs:
        path.unlink(missing_ok=True)
    process = os.fork()
    if process == 0:
        code = ENDED
        try:
            code = _stage_in_child(folder, stage, pipeline, fault, outputs[1])
            outputs[0].write_text("\n".join(fault.operations))
        except BaseException:
            outputs[1].write_text(traceback.format_exc())
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    operations, stderr = (path.read_text() if path.exists() else "" for path in outputs)
    return code, operations.splitlines(), stderr


def _stage_in_child(folder: Path, stage: str, pipeline: str, fault: Fault, stderr: Path) -> int:
    from flowerml.cli import stage as command

    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    sys.argv = [stage, pipeline]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    module = import_module(f"flowerml.pipeline.{stage}")
    with stderr.open("w") as file, redirect_stderr(file):
        try:
            with injected(fault):
                command.run(module.run)
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


@dataclass
class Outcome:
    """The results of injecting one kind of fault at every operation of a stage."""

    stage: str
    fault: str
    operations: int
    cases: int = 0
    tolerated: int = 0
    """The stage succeeded nevertheless, as without its checkpoint or its lock's removal."""
    equal: int = 0
    one_line: int = 0
    half_written: int = 0
    running: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Return whether nothing was wrong in any case."""
        return not self.problems


def try_faults(project: Project, pipeline: str, stage: str, *, kinds: tuple[str, ...], every: int) -> list[Outcome]:
    """Inject each kind of fault at every `every`-th operation of a stage; afterwards the project is past the stage."""
    if not kinds:
        _run_undisturbed(project.folder, stage, pipeline)
        return []
    scratch = project.folder.with_name("case")
    names = [name.format(pipeline) for name in OUTPUTS[stage]]
    before = digests(project.folder, *names)
    undisturbed = _copy(project.folder, scratch)
    operations = _run_undisturbed(undisturbed, stage, pipeline)
    expected = digests(undisturbed, *names)
    outcomes = []
    for kind in kinds:
        outcome, reported = Outcome(f"{stage}@{pipeline}", kind, len(operations)), 0
        for at in tqdm(_places(operations)[::every], desc=f"{outcome.stage} {kind}", unit="fault", leave=False):
            folder = _copy(project.folder, scratch)
            _try_fault(folder, stage, pipeline, Fault(folder, kind, at), (before, expected), names, outcome)
            for problem in outcome.problems[reported:]:
                print(problem, flush=True)
            reported = len(outcome.problems)
        outcomes.append(outcome)
    _run_undisturbed(project.folder, stage, pipeline)
    return outcomes


def _run_undisturbed(folder: Path, stage: str, pipeline: str) -> list[str]:
    """Run a stage without a fault and return its operations."""
    code, operations, stderr = run_stage(folder, stage, pipeline, Fault(folder, "none", -1))
    assert code == 0, f"{stage} fails without a fault:\n{stderr}"
    return operations


def _places(operations: list[str]) -> list[int]:
    """Return the numbers of the operations to try: of equal ones in a row, such as flushes, the first and the last."""
    around = zip([None, *operations], operations, [*operations[1:], None], strict=False)
    return [number for number, (before, this, after) in enumerate(around) if not before == this == after]


def _try_fault(
    folder: Path,
    stage: str,
    pipeline: str,
    fault: Fault,
    versions: tuple[dict[str, str], dict[str, str]],
    names: list[str],
    outcome: Outcome,
) -> None:
    """Run a stage with a fault, then without, and add to the outcome."""
    before, expected = versions
    whole = tuple(f"{name.format(pipeline)}/" for name in WHOLE)
    case = f"{outcome.stage} {fault.kind} at {fault.at}"
    code, operations, stderr = run_stage(folder, stage, pipeline, fault)
    outcome.cases += 1
    trace = "Traceback" in stderr or code == ENDED
    outcome.tolerated += code == 0
    outcome.one_line += code == 1 and not trace
    temporary = set(temporary_files(folder))  # under their own names, which is where an unfinished file belongs
    between = {name: digest for name, digest in digests(folder, *names).items() if name not in temporary}
    if code not in ((CRASHED,) if fault.kind == CRASH else (0, 1)) or trace:
        outcome.problems.append(f"{case} ({operations[fault.at : fault.at + 1]}): exit code {code}: {stderr[-2000:]}")
    mixed = any(_is_mixed(folder, between, before, expected) for folder in whole)
    if mixed or any(digest not in (before.get(name), expected.get(name)) for name, digest in between.items()):
        outcome.half_written += 1
        outcome.problems.append(f"{case}: a half-written output: {_differences(between, expected)}")
    code, _, stderr = run_stage(folder, stage, pipeline, Fault(folder, "none", -1))
    after = digests(folder, *names)
    outcome.equal += code == 0 and after == expected
    if code != 0 or after != expected:
        outcome.problems.append(f"{case}: the next run: {code}: {stderr[-2000:]} {_differences(after, expected)}")
    unfinished = [path for path in folder.glob("data/*/checkpoint") if not is_finished(path)]
    left = [*temporary_files(folder), *map(str, unfinished)]
    outcome.half_written += bool(left)
    if left:
        outcome.problems.append(f"{case}: left behind by the next run: {left}")
    if stage in ("train", "export") and any(run["status"] == "RUNNING" for run in recorded_runs_apart(folder)):
        outcome.running += 1
        outcome.problems.append(f"{case}: a run is left RUNNING")


def recorded_runs_apart(folder: Path) -> list[dict[str, object]]:
    """Return the runs without MLflow's threads in this process, which is forked."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return [
            {"name": name, "status": status} for name, status in connection.execute("SELECT name, status FROM runs")
        ]


def _is_mixed(folder: str, between: dict[str, str], *versions: dict[str, str]) -> bool:
    """Return whether a folder is there, and of none of these versions as a whole."""
    content = _below(between, folder)
    return content != {} and content not in [_below(version, folder) for version in versions]


def _below(versions: dict[str, str], folder: str) -> dict[str, str]:
    return {name: digest for name, digest in versions.items() if name.startswith(folder)}


def _differences(versions: dict[str, str], expected: dict[str, str]) -> list[str]:
    names = sorted(versions.keys() | expected.keys())
    return [name for name in names if versions.get(name) != expected.get(name)]


def _copy(folder: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    unused = shutil.ignore_patterns(".dvc", "__pycache__")
    return Path(shutil.copytree(folder, target, symlinks=True, ignore=unused))


def main() -> None:
    """Inject, re-run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipelines", nargs="*", default=["flowers", "reviews"])
    parser.add_argument("--stages", nargs="*", default=STAGES, help="earlier ones run without faults")
    parser.add_argument("--faults", nargs="*", default=FAULTS)
    parser.add_argument("--every", type=int, default=1, help="operation; 5 tries a fifth of them")
    parser.add_argument("--rounds", type=int, default=2, help="1: without former outputs; 2: also with them")
    arguments = parser.parse_args()
    last = max(STAGES.index(stage) for stage in arguments.stages)
    for name in IMPORTED:
        import_module(name)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        folder = Path(scratch, "project")
        folder.mkdir()
        project = Project(folder)
        for changes in (TINY, CHANGED)[: arguments.rounds]:
            project.set(changes)
            for pipeline in arguments.pipelines:
                for stage in STAGES[: last + 1]:
                    began = time.monotonic()
                    kinds = tuple(arguments.faults) if stage in arguments.stages else ()
                    outcomes += try_faults(project, pipeline, stage, kinds=kinds, every=arguments.every)
                    print(f"{stage}@{pipeline}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    rows = [{**vars(outcome), "problems": len(outcome.problems)} for outcome in outcomes]
    print(pd.DataFrame(rows).to_string(index=False))
    sys.exit(not all(outcome.passed for outcome in outcomes))


if __name__ == "__main__":
    main()
