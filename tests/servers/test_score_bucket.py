"""`flowerml score` from and to a bucket (moto), on local workers."""

import importlib.util
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.pipeline.score import buckets
from tests.support.project import REPOSITORY
from tests.support.team_server import forget_buckets

missing = [name for name in ("moto", "boto3", "s3fs") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(missing), reason=f"S3 is played by moto; missing: {', '.join(missing)}"),
]
MODEL = REPOSITORY / "tests/classifier/saved_by_0_1_0"
OPTIONS = ("--model", MODEL, "--column", "review")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """Return a client of a bucket with 600 texts as tables and as objects, and the folder with the tables."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    values = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    folder = tmp_path_factory.mktemp("local")
    table = pa.table({"review": [f"good film number {number}" if number % 7 else "" for number in range(600)]})
    pq.write_table(table, folder / "a.parquet", row_group_size=200)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="shop")
        client.upload_file(str(folder / "a.parquet"), "shop", "in/a.parquet")
        client.put_object(Bucket="shop", Key="csv/a.csv", Body=b"review\n" + b"good film\n\n" * 3)
        for number in range(40):
            client.put_object(Bucket="shop", Key=f"texts/{number:02d}.txt", Body=f"good film {number}".encode())
        client.put_object(Bucket="shop", Key="texts/notes.pdf", Body=b"no text")
        buckets._file_system.cache_clear()
        forget_buckets()
        yield client, folder
    server.stop()


def score(*arguments):
    result = CliRunner().invoke(app, ["score", *map(str, arguments)])
    return result.exit_code, result.output


def body(client, key):
    return client.get_object(Bucket="shop", Key=key)["Body"].read()


def keys(client, prefix):
    return [found["Key"] for found in client.list_objects_v2(Bucket="shop", Prefix=prefix).get("Contents", [])]


def test_a_table_in_a_bucket_is_answered_as_a_local_one(bucket):
    client, folder = bucket
    score(folder / "a.parquet", "--out", folder / "a.csv", *OPTIONS)
    code, output = score("s3://shop/in/a.parquet", "--out", "s3://shop/out/a.csv", *OPTIONS, "--workers", 2)
    assert (code, "600 rows, of which 86 could not be read" in output) == (1, True)
    assert body(client, "out/a.csv") == (folder / "a.csv").read_bytes()
    assert keys(client, "out/") == ["out/a.csv"]  # no parts are left


def test_shards_write_one_folder_of_a_bucket(bucket):
    client, folder = bucket
    score(folder / "a.parquet", "--out", folder / "a.parquet.csv", *OPTIONS)
    for number in (2, 1, 3):
        score("s3://shop/in/a.parquet", "--out", "s3://shop/parts/", *OPTIONS, "--shard", f"{number}/3")
    code, output = score("s3://shop/parts/", "--join", "--out", "s3://shop/out/joined.csv")
    assert (code, output) == (0, "s3://shop/out/joined.csv: 600 rows\n")
    assert body(client, "out/joined.csv") == (folder / "a.parquet.csv").read_bytes()
    assert keys(client, "parts/") == ["parts/_score.json", *(f"parts/part-0000{number}.parquet" for number in range(3))]


def test_objects_below_a_prefix_are_inputs(bucket):
    _, folder = bucket
    code, output = score("s3://shop/texts", "--out", folder / "texts.parquet", "--model", MODEL)
    assert code == 0 and "left out 1 file: 1 .pdf" in output
    rows = pq.read_table(folder / "texts.parquet").to_pylist()
    assert [row["input"] for row in rows] == [f"s3://shop/texts/{number:02d}.txt" for number in range(40)]
    assert all(row["error"] is None for row in rows)


def test_other_tables_are_fetched_first(bucket):
    _, folder = bucket
    code, output = score("s3://shop/csv/a.csv", "--out", folder / "csv.csv", *OPTIONS)
    assert code == 0 and "3 rows" in output


def test_a_folder_of_parts_is_resumed_and_reused(bucket):
    client, _ = bucket
    score("s3://shop/in/a.parquet", "--out", "s3://shop/again/", *OPTIONS)
    before = {key: body(client, key) for key in keys(client, "again/")}
    client.delete_object(Bucket="shop", Key="again/part-00001.parquet")
    _, output = score("s3://shop/in/a.parquet", "--out", "s3://shop/again/", *OPTIONS)
    assert "resumed after 344 rows" in output
    assert {key: body(client, key) for key in keys(client, "again/")} == before


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("s3://shop/none/", "x.csv", "s3://shop/none/: no such object"),
        ("s3://nobucket/a.parquet", "x.csv", "s3://nobucket/a.parquet: no such"),
        ("s3://shop/in/a.parquet", "s3://nobucket/x/", "s3://nobucket/x/"),
    ],
)
def test_what_is_missing_is_one_line(bucket, source, out, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output = score(source, "--out", out, *OPTIONS)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert code == 1 and message in line
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in line
