"""Gives a fresh server something to answer with: events of three tenants, counted, meters, and a registry."""

import datetime as dt
import json
import os
import sys
import time
import urllib.error
import urllib.request

URL = os.environ["RENTROLL_API_URL"].rstrip("/") + "/api/v1"
TOKEN = os.environ["RENTROLL_API_TOKEN"]
TENANTS = ["acme", "acme-shop", "beta"]
PATIENCE_S = 120


def send(method, path, body=None, media="application/json"):
    """The answer to a request that must succeed."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", **({"Content-Type": media} if data else {})}
    request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def event(number, now):
    data = {"method": ["GET", "POST"][number % 2], "region": ["eu", "us", "=1+1"][number % 3]}
    # Some have no value: they are listed, and not counted.
    if number % 7:
        data["bytes"] = str(number) + ".000000001"
    return {
        "specversion": "1.0",
        "id": str(number),
        "source": "ops/web",
        # Some match no meter.
        "type": "http.request" if number % 10 else "job.run",
        "subject": TENANTS[number % 3],
        "time": (now - dt.timedelta(hours=number % 200, minutes=1 + number % 50)).isoformat(),
        "data": data,
    }


def wait_for_token():
    """A server reads the file of tokens again every half second."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return send("GET", "/tokens/self")
        except urllib.error.HTTPError as error:
            if error.code != 401 or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def main():
    wait_for_token()
    for name, definition in {
        "egress_bytes": {"unit": "byte", "event_type": "http.request", "aggregation": "sum", "value": "bytes"},
        "by_method": {"unit": "request", "event_type": "http.request", "aggregation": "count", "group_by": ["method"]},
        "p95": {"unit": "byte", "event_type": "http.request", "aggregation": "percentile", "percentile": 95, "value": "bytes"},
    }.items():
        send("PUT", f"/meters/{name}", definition)
    csv = "tenant,name,organisation,tier,tag.region\r\n"
    csv += "".join(f"{tenant},{tenant.title()},Acme,pro,eu\r\n" for tenant in TENANTS)
    send("POST", "/tenants/import", csv.encode(), "text/csv")
    now = dt.datetime.now(dt.timezone.utc)
    events = [event(number, now) for number in range(1_000)]
    send("POST", "/events", events, "application/cloudevents-batch+json")
    deadline = time.monotonic() + PATIENCE_S
    while not send("GET", "/usage?meter=requests&from=2020-01-01&to=2100-01-01")["rows"]:
        if time.monotonic() > deadline:
            sys.exit(f"nothing was counted within {PATIENCE_S} s")
        time.sleep(0.25)


main()
