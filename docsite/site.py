"""The site: build/docs as pages that need no other host, in site/.

Zensical builds it, and not Material for MkDocs, whose life ends in May 2027: it is that theme's successor, reads the
same mkdocs.yml, and needs 5 packages where Material needs 20. Both ask unpkg.com for one script, see `SHIM`.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from docsite import notebooks, staging
from docsite.markdown import REPOSITORY

CONFIGURATION = "mkdocs.yml"
# What a page of another host loads for the search to work from file://: iframe-worker 1.0.4 (MIT), 1.4 kB.
SHIM = "https://unpkg.com/iframe-worker/shim"
SHIPPED_SHIM = Path(__file__).with_name("iframe-worker.js")
LOADED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href|srcset)=["']?(https?:)?//[^"'> ]+""")
NO_REQUEST = re.compile(r'rel=["\']?(canonical|alternate|prev|next)\b')


def build(root: Path = REPOSITORY) -> Path:
    """Build the site in `root` and return its first page, site/index.html.

    Raises SystemExit where a link is dead or a page asks another host.
    """
    if root != REPOSITORY:
        shutil.copy(REPOSITORY / CONFIGURATION, root)
    folder, site = root / "build" / "docs", root / "site"
    staging.stage(folder)
    notebooks.write(folder)
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    built = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if built.returncode:
        sys.exit(f"{built.stdout}{built.stderr}\nerror: the site was not built; see above")
    _ship_shim(site)
    if asked := outside(site):
        sys.exit("error: pages load from other hosts:\n" + "\n".join(asked))
    return site / "index.html"


def _ship_shim(site: Path) -> None:
    """Put the script of another host into the site."""
    shutil.copy(SHIPPED_SHIM, site / "assets" / SHIPPED_SHIM.name)
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8").replace(SHIM, f"{up}assets/{SHIPPED_SHIM.name}")
        page.write_text(text, encoding="utf-8")


def outside(site: Path) -> list[str]:
    """Return what pages would load from other hosts: scripts, styles, fonts and pictures."""
    asked = []
    for page in sorted(site.rglob("*.html")):
        for match in LOADED.finditer(page.read_text(encoding="utf-8")):
            if not NO_REQUEST.search(match[0]):
                asked.append(f"{page.relative_to(site)}: {match[0]}")
    for style in sorted(site.rglob("*.css")):
        asked += [f"{style.relative_to(site)}: {url}" for url in _imported(style.read_text(encoding="utf-8"))]
    return asked


def _imported(style: str) -> list[str]:
    return re.findall(r"""(?:url\(|@import )["']?((?:https?:)?//[^"')]+)""", style)
