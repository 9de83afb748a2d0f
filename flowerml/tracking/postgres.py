"""MLflow's PostgreSQL database, used without a server between: its driver, and its tables when several people begin."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from flowerml.core.errors import FlowermlError
from flowerml.core.urls import scrub
from flowerml.tracking import database

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMES = ("postgres://", "postgresql://")
DRIVERS = {"psycopg": "postgresql+psycopg://", "psycopg2": "postgresql+psycopg2://"}
CONNECT_TIMEOUT = 10  # seconds
LOCK = 0x666C6F776572  # of the database, held while the tables are made; any number that nobody else uses


def with_driver(uri: str) -> str:
    """Return a plain PostgreSQL URI with the driver that is installed; any other URI as it is.

    Raises FlowermlError where no driver is installed.
    """
    scheme = next((scheme for scheme in SCHEMES if uri.startswith(scheme)), None)
    if scheme is None:
        return uri
    for package, prefix in DRIVERS.items():
        if find_spec(package):
            return prefix + uri.removeprefix(scheme)
    raise FlowermlError(
        "MLFLOW_TRACKING_URI is a PostgreSQL database, and no driver for it is installed; run "
        "`pip install 'flowerml[postgres]'`, or give the address of an MLflow server"
    )


def prepare(uri: str) -> None:
    """Have MLflow make or upgrade its tables, one process at a time.

    MLflow itself takes no lock: of four processes that begin with an empty database three fail. And it tries for 100 s
    to reach a server that is down. Raises FlowermlError where the database cannot be used.
    """
    import sqlalchemy
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        engine = sqlalchemy.create_engine(
            uri, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT}
        )
        with engine.connect() as connection:
            if _has_tables(connection):
                return
            # Released when the connection ends, also that of a killed process.
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({LOCK})"))
            if not _has_tables(connection):
                SqlAlchemyStore(uri, "./mlruns").engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, MlflowException, ImportError) as error:
        cause = getattr(error, "orig", None) or error
        reason = scrub(str(cause)).strip().partition("\n")[0][:300]
        raise FlowermlError(
            f"runs cannot be recorded in MLflow at {without_login(uri)}: {reason}; start the database, or set "
            "MLFLOW_TRACKING_URI"
        ) from None


def without_login(uri: str) -> str:
    """Return a database's URI without driver, user, password and options.

    >>> without_login("postgresql+psycopg://me:secret@host/mlflow?sslmode=require")
    'postgresql://host/mlflow'
    """
    from sqlalchemy import make_url

    url = make_url(uri)
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


def _has_tables(connection: "Connection") -> bool:
    """Return whether all tables are there, and the first experiment, which MLflow makes last."""
    from sqlalchemy import inspect, text

    if not database.expected_tables() <= set(inspect(connection).get_table_names()):
        return False
    return bool(connection.execute(text("SELECT count(*) FROM experiments")).scalar())
