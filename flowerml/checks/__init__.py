"""Looking for problems in data before anything is trained on them.

`flowerml.data.findings` names all that may be found. `classes`, `copies` and `labels` look for what every task has in
common; what only one kind of data has (an odd picture, two similar texts) is found by the task: see
`Inspector` in tasks/base.py.
"""
