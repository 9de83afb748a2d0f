"""The notebooks as pages of the site, with their outputs."""

from pathlib import Path

from docsite.markdown import REPOSITORY

NOTEBOOKS = REPOSITORY / "notebooks"


def write(folder: Path) -> None:
    """Write each notebook into `folder`/notebooks as a page of Markdown with its pictures beside it."""
    from nbconvert import MarkdownExporter

    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        name = path.stem
        resources = {"unique_key": name, "output_files_dir": f"{name}_files"}
        text, made = MarkdownExporter().from_filename(str(path), resources=resources)
        page = folder / "notebooks" / f"{name}.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding="utf-8")
        for file, content in made["outputs"].items():
            (page.parent / file).parent.mkdir(exist_ok=True)
            (page.parent / file).write_bytes(content)
