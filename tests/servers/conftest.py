"""The servers of a team, started once for all tests here."""

from collections.abc import Iterator

import mlflow
import pytest

from tests.support.team_server import Team, forget_buckets, team


@pytest.fixture(scope="session")
def servers(tmp_path_factory) -> Iterator[Team]:
    """Yield a PostgreSQL, a bucket and an MLflow server on both."""
    with team(tmp_path_factory.mktemp("servers")) as started:
        yield started


@pytest.fixture
def member(servers, tmp_path, monkeypatch) -> Team:
    """Return the servers; the test works in a new folder with the variables that a member of the team has set."""
    monkeypatch.chdir(tmp_path)
    for name, value in servers.variables.items():
        monkeypatch.setenv(name, value)
    # Earlier tests of this process have set MLflow's address, and may have opened other buckets of the same names.
    mlflow.set_tracking_uri(servers.server.uri)
    forget_buckets()
    return servers
