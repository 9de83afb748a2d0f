"""What may be wrong with data, looked for before anything is trained on them.

`finding` names all that may be found; `classes`, `copies` and `labels` look for it; what only a kind of data can tell
(what is odd about one picture, which two texts are alike) the task says: `inspect`, `classify_error`, `near_duplicates`, `vectors`.
"""
