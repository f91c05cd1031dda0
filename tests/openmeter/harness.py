"""What the Python tests share: where the face is, names that no other run has, raw requests, and patience."""

import datetime as dt
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from decimal import Decimal

URL = os.environ["RENTROLL_OPENMETER_URL"].rstrip("/")
TOKEN = os.environ["RENTROLL_API_TOKEN"]
# The source of that token: events that it sends must have it.
SOURCE = os.environ["RENTROLL_API_SOURCE"]

# An event is durable when it is answered, and counted when the aggregator has taken it; a new meter's earlier events
# are counted by the repair.
PATIENCE_S = float(os.environ.get("RENTROLL_PATIENCE_S", "180"))
POLL_S = 0.25

# Every run has names of its own, so that it can be repeated against one server.
RUN = uuid.uuid4().hex[:8]

# Whole days, not so long ago that events would be refused, and so long that no span's end is now.
DAY1 = dt.datetime.now(dt.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=3)
DAY2 = DAY1 + dt.timedelta(days=1)
DAY3 = DAY1 + dt.timedelta(days=2)


def at(day, clock):
    """That time of that day."""
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return day + dt.timedelta(hours=hours, minutes=minutes, seconds=seconds)


def eventually(what, expected):
    """Asks until it is as expected, and says what it was last if it never is."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = what()
        if found == expected:
            return
        assert time.monotonic() < deadline, f"after {PATIENCE_S} s still {found!r} instead of {expected!r}"
        time.sleep(POLL_S)


def raw(method, path, body=None, token=TOKEN, headers=None):
    """Status, headers and body of a request that no client makes for us."""
    request = urllib.request.Request(URL + path, method=method, data=body, headers=headers or {})
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def exact(text):
    """JSON with its numbers as the decimals that they are."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def query(slug, **parameters):
    """The rows of a meter query, with exact values."""
    encoded = urllib.parse.urlencode(parameters, doseq=True)
    status, _, body = raw("GET", f"/api/v1/meters/{slug}/query?{encoded}")
    assert status == 200, body
    return exact(body)["data"]


def total(slug, **parameters):
    """The value of the one row of a query; None without a row."""
    rows = query(slug, **parameters)
    assert len(rows) <= 1, rows
    return rows[0]["value"] if rows else None
