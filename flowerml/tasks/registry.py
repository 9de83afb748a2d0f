"""The table of tasks. A new kind of classification is a module with the members of `Task`, and one line here."""

from typing import TYPE_CHECKING

from flowerml.tasks import image, text
from flowerml.tasks.base import Task

if TYPE_CHECKING:
    from flowerml.config.pipeline import Pipeline
    from flowerml.tasks.base import Codec, Inspector, Presenter, Reader, Trainable
    from flowerml.tasks.image.encoder import Picture
    from flowerml.tasks.image.networks import TrainingData
    from flowerml.tasks.image.sections import Checks as ImageChecks
    from flowerml.tasks.image.sections import Data as ImageData
    from flowerml.tasks.image.sections import Train as ImageTrain
    from flowerml.tasks.text.networks import Texts
    from flowerml.tasks.text.sections import Checks as TextChecks
    from flowerml.tasks.text.sections import Data as TextData
    from flowerml.tasks.text.sections import Train as TextTrain

    # Here mypy checks each module against the protocols, with the task's own types.
    _image: tuple[
        Reader[ImageData],
        Inspector[ImageData, ImageChecks],
        Codec[bytes],
        Presenter[Picture, image.Preprocessing],
        Trainable[ImageTrain, image.Encoder, image.Preprocessing, TrainingData],
    ] = (image, image, image, image, image)
    _text: tuple[
        Reader[TextData],
        Inspector[TextData, TextChecks],
        Codec[str],
        Presenter[str, text.Preprocessing],
        Trainable[TextTrain, text.Encoder, text.Preprocessing, Texts],
    ] = (text, text, text, text, text)

TASKS: dict[str, Task] = {"image": image, "text": text}


def task_of(pipeline: "Pipeline") -> Task:
    """Return the task of a pipeline's kind."""
    return TASKS[pipeline.kind]
