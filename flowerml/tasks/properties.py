"""Properties of inputs as the task measures them, for the slices of an evaluation and for the log."""

from collections.abc import Mapping
from typing import Any

from flowerml.core.errors import InputError
from flowerml.tasks.base import Inspector


def input_properties(task: Inspector[Any, Any], raw: Any) -> Mapping[str, float | str]:
    """Return the properties of a raw input; none where it cannot be read within the task's default limits.

    A classifier may have been trained with wider ones, and answers it all the same.
    """
    try:
        return task.properties(raw)
    except InputError:
        return {}
