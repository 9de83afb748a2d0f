"""Register a saved classifier from any folder: evaluated again where its examples are here."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.examples import read_examples
from flowerml.classifier.repeats import beside
from flowerml.core import files
from flowerml.pipeline import adhoc, evaluate
from flowerml.pipeline.register import Evaluated, Subject, submit
from flowerml.registry.register import Registration

if TYPE_CHECKING:
    from flowerml.config.params import Export


def run(classifier: Classifier, section: "Export", *, work: Path) -> Registration:
    """Register a saved classifier; it is evaluated again if its examples are here, in the project or in `work`.

    The reports that lie about may be those of another training of the same name, and evaluating takes seconds.
    """
    with _evaluated(classifier, work) as evaluated:
        travelling = tuple(example.raw for example in read_examples(classifier))
        return submit(Subject(classifier, section, "register", evaluated, travelling))


@contextmanager
def _evaluated(classifier: Classifier, work: Path) -> Iterator[Evaluated | None]:
    pipeline = adhoc.pipeline_of(classifier.description, roots=(Path(), work))
    if pipeline is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
        evaluate.run(pipeline, classifier=classifier, repeats=beside(classifier.folder), folder=Path(scratch))
        _keep_search(pipeline.paths.reports / "search.json", classifier, Path(scratch))
        yield Evaluated(pipeline, Path(scratch), repeatable=False)


def _keep_search(path: Path, classifier: Classifier, folder: Path) -> None:
    """Copy the scores of the search that has led to a classifier, if they are still there."""
    if not path.is_file():
        return
    scores, trained = files.read_json(path), classifier.description["trained"]
    if all(trained.get(name) == value for name, value in scores.items() if name in trained):
        files.write_json(folder / path.name, scores)
