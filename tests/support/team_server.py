"""What a team shares: an MLflow server on PostgreSQL, with artifacts on S3 (moto)."""

import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

PROGRAMS = "/usr/lib/postgresql/*/bin"  # where Debian keeps those that are not on the PATH
PASSWORD = "pg-s3cret"
BUCKET = "team"
STARTING = 120.0  # seconds, on a busy machine
# What boto3, s3fs and DVC read; moto accepts any key.
S3_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


def forget_buckets() -> None:
    """Close the connections to buckets that s3fs keeps by the bucket's name, also where the server is another one."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


class Postgres:
    """A PostgreSQL server with a role `team` that logs in with a password; not run as root, which it refuses."""

    def __init__(self) -> None:
        programs = _postgres_programs()
        # Beside pytest's folders, which only their owner may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="flowerml-postgres-"))
        self.port = free_port()
        self._user = _other_user()
        self._programs = programs
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self._user:
            for path in (self.folder, secret):
                shutil.chown(path, self._user.pw_uid, self._user.pw_gid)
        self._run(
            "initdb",
            "-D",
            f"{self.folder}/data",
            "-U",
            "team",
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
            "-N",
            "-E",
            "UTF8",
        )
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-o", options, "-l", f"{self.folder}/log", "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: fast ends its connections, immediate is a crash."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", mode, "-w", "stop")

    def uri(self, database: str, *, driver: str = "+psycopg") -> str:
        """Return the URI of a database, with the password."""
        return f"postgresql{driver}://team:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement outside a transaction, and return its rows."""
        import psycopg

        with psycopg.connect(self.uri(database, driver=""), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, database: str) -> str:
        """Create an empty database, and return its URI."""
        self.execute(f'CREATE DATABASE "{database}"')
        return self.uri(database)

    def remove(self) -> None:
        """Stop the server and remove its files."""
        with suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        # The server inherits the output, so that a pipe would not end.
        with Path(tempfile.gettempdir(), f"{self.folder.name}.out").open("w+b") as output:
            Path(output.name).unlink()
            done = subprocess.run(
                [self._programs / program, *arguments],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                stdout=output,
                stderr=output,
                check=False,
                **user,
            )
            output.seek(0)
            if done.returncode:
                raise subprocess.CalledProcessError(done.returncode, program, output.read())


class Bucket:
    """moto's S3 in a thread of this process, with one bucket; `variables` are what its clients need."""

    def __init__(self) -> None:
        server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
        self._server = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.variables = dict(
            zip(S3_VARIABLES, (f"http://{host}:{port}", "team", "s3-s3cret", "us-east-1"), strict=True)
        )
        self.client.create_bucket(Bucket=BUCKET)

    @property
    def client(self):
        """Return a client of boto3."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.variables["AWS_ENDPOINT_URL"],
            aws_access_key_id="team",
            aws_secret_access_key="s3-s3cret",
            region_name="us-east-1",
        )

    def put(self, key: str, content: bytes) -> str:
        """Store an object, and return its address."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def stop(self) -> None:
        """End the thread."""
        self._server.stop()


class MlflowServer:
    """`mlflow server` on a database, always on the same port."""

    def __init__(self, folder: Path, database: str, *options: str, variables: dict[str, str] | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._command = ["mlflow", "server", "--backend-store-uri", database, "--workers", "1", *options]
        self._variables = variables or {}
        self.start()

    def start(self) -> None:
        """Start it, and wait until it responds."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "--host", "127.0.0.1", "--port", str(self.port)],
                cwd=self.folder,
                # Without its job runner, which starts eight more processes.
                env={
                    **os.environ,
                    "PATH": path,
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    **self._variables,
                },
                start_new_session=True,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + STARTING
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(requests.ConnectionError, requests.Timeout):
                if requests.get(f"{self.uri}/health", timeout=5).ok:
                    return
            time.sleep(0.1)
        self.kill()
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        """End it and its workers at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Team:
    """A PostgreSQL, a bucket, and an MLflow server on both whose clients send artifacts to S3 themselves."""

    def __init__(self, folder: Path, postgres: Postgres, bucket: Bucket) -> None:
        self.postgres, self.bucket = postgres, bucket
        self.server = MlflowServer(
            folder,
            postgres.create("mlflow"),
            "--no-serve-artifacts",
            "--default-artifact-root",
            f"s3://{BUCKET}/runs",
            variables=bucket.variables,
        )
        self.variables = {**bucket.variables, "MLFLOW_TRACKING_URI": self.server.uri}


@contextmanager
def team(folder: Path) -> Iterator[Team]:
    """Yield the servers of a team; skips where PostgreSQL or moto is missing."""
    bucket = Bucket()
    postgres = Postgres()
    server = None
    try:
        started = Team(folder, postgres, bucket)
        server = started.server
        yield started
    finally:
        if server:
            server.kill()
        postgres.remove()
        bucket.stop()


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _postgres_programs() -> Path:
    pytest.importorskip("psycopg", reason="flowerml[postgres] is not installed")
    if found := shutil.which("initdb"):
        return Path(found).parent
    folders = sorted(Path("/").glob(PROGRAMS.lstrip("/")))
    if not folders:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    return folders[-1]


def _other_user() -> pwd.struct_passwd | None:
    """Return whom PostgreSQL runs as where the tests run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.skip("the tests run as root, and there is no user `postgres` or `nobody` for PostgreSQL")
