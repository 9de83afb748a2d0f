"""Write what the documentation is made of: `reference`, `notebooks` (run anew) or `site` (with the reference)."""

import argparse

from docsite import notebooks, site
from docsite.markdown import DOCS
from docsite.reference import MADE


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m docsite", description=__doc__)
    parser.add_argument("what", choices=("reference", "notebooks", "site"))
    what = parser.parse_args().what
    if what == "notebooks":
        notebooks.rerun()
        return
    write_reference()
    if what == "site":
        print(f"open {site.build().as_uri()}")


def write_reference() -> None:
    """Write the pages of docs/reference that are made from the code."""
    for name, page in MADE.items():
        path, text = DOCS / "reference" / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/reference/{name}")


if __name__ == "__main__":
    main()
