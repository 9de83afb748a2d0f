"""Create or repair the database at MLFLOW_TRACKING_URI, before a program that is not ours uses it: `make ui`."""

import sys

from flowerml.core.errors import FlowermlError
from flowerml.tracking import connection

try:
    connection.configure()
    connection.prepare()
except FlowermlError as error:
    sys.exit(f"error: {error}")
