"""Parameters that the user of `flowerml init` sets, in the params.yaml that it writes."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowerml.config.defaults import shipped
from flowerml.config.dotted import set_by_dotted_name
from flowerml.config.inherit import inherit
from flowerml.tasks.pipelines import checked_pipeline


def check(values: Mapping[str, Any], *, name: str, kind: str, path: Path) -> None:
    """Raise ParamsError, which names `path`, for unknown parameters and invalid values."""
    sections = inherit({}, shipped(kind), name=name)
    set_by_dotted_name(sections, values)
    checked_pipeline(name, kind, sections, path=path)


def apply(text: str, values: Mapping[str, Any], *, name: str) -> str:
    """Return params.yaml with values of the pipeline `name` changed or added; comments and order stay."""
    if not values:
        return text
    from ruamel.yaml import YAML  # comes with DVC; PyYAML would drop the comments

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10**6  # lines are not broken
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    content = yaml.load(text)
    for dotted, value in values.items():
        *parents, last = dotted.split(".")
        section = content[name]
        for part in parents:
            section = section.setdefault(part, {})
        section[last] = value
    changed = io.StringIO()
    yaml.dump(content, changed)
    return changed.getvalue()
