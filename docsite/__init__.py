"""The documentation's tools: the generated reference, the site, and what tests ask of the pages. Not in the wheel."""
