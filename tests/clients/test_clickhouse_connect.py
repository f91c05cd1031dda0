"""The store's HTTP face, as clickhouse-connect sees it.

Needs RENTROLL_STORE_URL, RENTROLL_STORE_USER and RENTROLL_STORE_PASSWORD.
"""

import os
from datetime import datetime, timezone
from decimal import Decimal
from urllib.parse import urlparse

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError, StreamFailureError

LATE = "SELECT number, throwIf(number = 3000000) FROM numbers(10000000)"


def connect(**options):
    url = urlparse(os.environ["RENTROLL_STORE_URL"])
    settings = {
        "host": url.hostname,
        "port": url.port,
        "username": os.environ["RENTROLL_STORE_USER"],
        "password": os.environ["RENTROLL_STORE_PASSWORD"],
    }
    return clickhouse_connect.get_client(**{**settings, **options})


@pytest.fixture(scope="module")
def client():
    client = connect()
    client.command("DROP DATABASE IF EXISTS client_python")
    client.command("CREATE DATABASE client_python ENGINE = Atomic")
    yield client
    client.command("DROP DATABASE client_python")


def test_the_credential_is_checked():
    with pytest.raises(ClickHouseError, match="516"):
        connect(password="wrong")


@pytest.mark.parametrize("text", ["plain", "it's", "a\\b", "tab\tline\nend", "\N{GRINNING FACE}", ""])
def test_parameters(client, text):
    assert client.query("SELECT {x:String}", parameters={"x": text}).result_rows == [(text,)]


@pytest.mark.parametrize("compress", [False, "lz4", "gzip"])
def test_what_is_inserted_comes_back(client, compress):
    client = connect(compress=compress)
    client.command("DROP TABLE IF EXISTS client_python.t")
    client.command(
        """CREATE TABLE client_python.t
        (n UInt64, s String, d Decimal(38, 9), t DateTime('UTC'), l LowCardinality(String),
         o Nullable(Int32), a Array(String), m Map(String, Decimal(38, 9)))
        ENGINE = MergeTree ORDER BY n"""
    )
    names = ["n", "s", "d", "t", "l", "o", "a", "m"]
    when = datetime(2026, 1, 2, 3, 4, 5)
    rows = [
        # Blank lines in the rows: an inline insert would end there.
        (n, f"row\n\n{n}", Decimal("0.000000001") * n, when, f"k{n % 7}", None if n % 3 else n, ["a"] * (n % 4), {"x": Decimal(n)})
        for n in range(100_000)
    ]
    summary = client.insert("client_python.t", rows, column_names=names)
    assert summary.written_rows == len(rows)
    found = client.query("SELECT * FROM client_python.t ORDER BY n")
    assert found.row_count == len(rows)
    for index in (0, 1, 65_535, 65_536, 99_999):
        row = list(found.result_rows[index])
        row[3] = row[3].replace(tzinfo=None)
        assert tuple(row) == rows[index]


def test_errors_have_clickhouse_words(client):
    with pytest.raises(ClickHouseError, match="UNKNOWN_TABLE"):
        client.query("SELECT * FROM nosuch")
    with pytest.raises(ClickHouseError, match="UNKNOWN_SETTING|unknown|readonly"):
        client.query("SELECT 1", settings={"nosuch": "1"})


@pytest.mark.parametrize("settings", [{}, {"wait_end_of_query": 1}, {"wait_end_of_query": 0}])
def test_a_late_error_is_seen(client, settings):
    with pytest.raises(ClickHouseError, match="395"):
        # The rows are read when they are asked for.
        assert client.query(LATE, settings=settings).result_rows


def test_a_late_error_is_seen_in_a_stream(client):
    rows = 0
    with pytest.raises((ClickHouseError, StreamFailureError), match="395"):
        with client.query_row_block_stream(LATE, settings={"wait_end_of_query": 0}) as blocks:
            for block in blocks:
                rows += len(block)
    assert rows < 3_000_000


def test_a_long_stream_is_whole(client):
    with client.query_row_block_stream("SELECT number FROM numbers(3000000)") as blocks:
        assert sum(sum(row[0] for row in block) for block in blocks) == 3_000_000 * 2_999_999 // 2


def test_formats_are_one_document(client):
    text = client.raw_query("SELECT number AS n FROM numbers(150000)", fmt="CSVWithNames").decode()
    assert text.count('"n"') == 1
    assert text.count("\n") == 150_001


def test_times_are_utc(client):
    found = client.query("SELECT toDateTime('2026-01-02 03:04:05')").result_rows[0][0]
    assert found.replace(tzinfo=timezone.utc).timestamp() == 1767323045
