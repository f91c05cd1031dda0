"""OpenMeter's Python SDK, unmodified, against our face of its API: every endpoint, and exact numbers.

What the events come to is worked out by hand beside them; `docs/openmeter.md` says what is promised.
"""

import asyncio
import csv
import datetime as dt
import io
import json
from decimal import Decimal
from urllib.parse import quote

import harness
import openmeter
import openmeter.aio
import pytest
from corehttp.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from harness import DAY1, DAY2, DAY3, RUN, SOURCE, at, eventually
from openmeter.models import (
    Event,
    FilterString,
    MeterCreate,
    MeterQueryRequest,
    MeterUpdate,
    PortalToken,
    SubjectUpsert,
)

UTC = dt.timezone.utc
TYPE = f"py.{RUN}.prompt"
# A slash and an umlaut, since subjects are the customers' own keys.
A, B = f"py-{RUN}-a", f"py-{RUN}/bü"
ODD = "it's 5\" \\ big"

GROUPS = {"model": "$.model", "kind": "$.meta.kind"}
SPAN = {"from_parameter": DAY1, "to": DAY3}


def event(number, subject, event_type, time, data):
    return Event(id=str(number), source=SOURCE, specversion="1.0", type=event_type, subject=subject, time=time, data=data)


def prompt(number, subject, time, tokens, model, kind, user):
    data = {"tokens": tokens, "model": model, "user": user}
    if kind:
        data["meta"] = {"kind": kind}
    return event(number, subject, TYPE, time, data)


EVENTS = [
    prompt(1, A, at(DAY1, "10:00:00"), 0.1, "gpt-4o", "chat", "u1"),
    prompt(2, A, at(DAY1, "10:00:30"), 0.2, "gpt-4o", "chat", "u2"),
    prompt(3, A, at(DAY1, "11:15:00"), 10, "o3", None, "u1"),
    prompt(4, A, at(DAY1, "19:00:00"), 5.5, "gpt-4o", "batch", "u3"),
    prompt(5, B, at(DAY1, "10:00:00"), "12.5", "o3", "chat", "u1"),
    prompt(6, B, at(DAY2, "12:00:00"), 7, ODD, None, "u2"),
]


# What they come to, by hand.
TOTALS = {"sum": 35.3, "count": 6, "avg": 5.883333333, "min": 0.1, "max": 12.5, "latest": 7, "unique_count": 3}


def slug(name):
    return f"py_{RUN}_{name}"


def meter(suffix, aggregation="SUM", event_type=TYPE, value="$.tokens", group_by=None, **more):
    if aggregation == "COUNT":
        value = None
    return MeterCreate(
        slug=slug(suffix), aggregation=aggregation, event_type=event_type, value_property=value, group_by=group_by, **more
    )


def client_of(token):
    return openmeter.Client(endpoint=harness.URL, token=token)


@pytest.fixture(scope="module")
def client():
    with client_of(harness.TOKEN) as one:
        yield one


@pytest.fixture(scope="module")
def world(client):
    """A meter of each aggregation and the events above, sent in each way that there is, and counted."""
    for aggregation in ["SUM", "COUNT", "AVG", "MIN", "MAX", "LATEST"]:
        made = client.meters.create(meter(aggregation.lower(), aggregation, group_by=GROUPS))
        assert made.slug == slug(aggregation.lower())
    client.meters.create(meter("unique_count", "UNIQUE_COUNT", value="$.user", group_by=GROUPS))
    assert client.events.ingest_event(EVENTS[0]) is None
    client.events.ingest_event(EVENTS[1], content_type="application/cloudevents+json; charset=utf-8")
    client.events.ingest_events(EVENTS[2:4])
    client.events.ingest_events_json(EVENTS[4])
    client.events.ingest_events_json([EVENTS[5]], content_type="Application/JSON; charset=UTF-8")
    # A meter that the aggregator took up later than the others counts what came before by a repair.
    eventually(lambda: {name: total(client, name) for name in TOTALS}, TOTALS)
    return client


def total(client, name, **more):
    rows = client.meters.query_json(slug(name), **{**SPAN, **more}).data
    assert len(rows) <= 1, rows
    return rows[0].value if rows else None


def by_model(rows):
    return {row.group_by["model"]: row.value for row in rows}


def test_each_aggregation_comes_to_what_it_is_by_hand(world):
    assert {name: total(world, name) for name in TOTALS} == TOTALS


def test_each_aggregation_of_one_subject(world):
    expected = {"sum": 15.8, "count": 4, "avg": 3.95, "min": 0.1, "max": 10, "latest": 5.5, "unique_count": 3}
    assert {name: total(world, name, subject=[A]) for name in expected} == expected


def test_decimals_are_added_exactly_and_written_so(world):
    span = {"from": at(DAY1, "10:00:00").isoformat(), "to": at(DAY1, "10:01:00").isoformat(), "subject": A}
    assert harness.total(slug("sum"), **span) == Decimal("0.3")
    status, headers, body = harness.raw(
        "GET", f"/api/v1/meters/{slug('sum')}/query?from={quote(span['from'])}&to={quote(span['to'])}&subject={A}"
    )
    assert status == 200 and headers["content-type"].split(";")[0] == "application/json"
    assert '"value":0.3,' in body or '"value":0.3}' in body, body


def test_without_a_window_a_row_is_the_span(world):
    result = world.meters.query_json(slug("sum"), **SPAN)
    assert (result.from_property, result.to, result.window_size) == (DAY1, DAY3, None)
    [row] = result.data
    assert (row.window_start, row.window_end, row.value) == (DAY1, DAY3, 35.3)
    assert row.subject is None and row.group_by == {} and row.customer_id is None


def test_without_a_span_everything_is_counted(world):
    [row] = world.meters.query_json(slug("sum")).data
    assert row.value == 35.3
    assert row.window_start <= at(DAY1, "10:00:00") and row.window_end > at(DAY2, "12:00:00")


def test_a_span_is_half_open_and_taken_to_whole_minutes(world):
    at_ten, at_noon = at(DAY1, "10:00:00"), at(DAY2, "12:00:00")
    assert total(world, "count", from_parameter=at_ten, to=at_noon) == 5
    assert total(world, "count", from_parameter=at_ten + dt.timedelta(minutes=1), to=at_noon) == 2
    result = world.meters.query_json(
        slug("count"), from_parameter=at_ten + dt.timedelta(seconds=29.5), to=at_ten + dt.timedelta(seconds=30)
    )
    assert (result.from_property, result.to) == (at_ten, at_ten + dt.timedelta(minutes=1))
    assert [row.value for row in result.data] == [3]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("MINUTE", [("10:00:00", "10:01:00", 12.8), ("11:15:00", "11:16:00", 10), ("19:00:00", "19:01:00", 5.5)]),
        ("HOUR", [("10:00:00", "11:00:00", 12.8), ("11:00:00", "12:00:00", 10), ("19:00:00", "20:00:00", 5.5)]),
    ],
)
def test_windows_of_minutes_and_hours(world, window, expected):
    result = world.meters.query_json(slug("sum"), from_parameter=DAY1, to=DAY2, window_size=window)
    assert result.window_size == window
    assert [(row.window_start, row.window_end, row.value) for row in result.data] == [
        (at(DAY1, start), at(DAY1, end), value) for start, end, value in expected
    ]


def test_days_are_those_of_the_zone(world):
    days = world.meters.query_json(slug("sum"), **SPAN, window_size="DAY").data
    assert [(row.window_start, row.window_end, row.value) for row in days] == [(DAY1, DAY2, 28.3), (DAY2, DAY3, 7)]
    # 5:45 ahead: the event at 19:00 is of the next day there.
    ahead = dt.timedelta(hours=5, minutes=45)
    days = world.meters.query_json(
        slug("sum"), from_parameter=DAY1 - ahead, to=DAY3 - ahead, window_size="DAY", window_time_zone="Asia/Kathmandu"
    ).data
    assert [(row.window_start, row.window_end, row.value) for row in days] == [
        (DAY1 - ahead, DAY2 - ahead, 22.8),
        (DAY2 - ahead, DAY3 - ahead, 12.5),
    ]


def test_a_window_at_the_end_is_the_part_that_was_counted(world):
    start, end = at(DAY1, "10:00:00"), at(DAY1, "12:00:00")
    [row] = world.meters.query_json(slug("sum"), from_parameter=start, to=end, window_size="DAY").data
    assert (row.window_start, row.window_end, row.value) == (start, end, 22.8)


def test_months(world):
    rows = world.meters.query_json(slug("sum"), **SPAN, window_size="MONTH").data
    expected = {}
    for day, value in [(DAY1, Decimal("28.3")), (DAY2, Decimal("7"))]:
        month = max(day.replace(day=1), DAY1)
        expected[month] = expected.get(month, 0) + value
    assert {row.window_start: row.value for row in rows} == {month: float(value) for month, value in expected.items()}


def test_rows_are_told_apart_by_subject_and_by_groups(world):
    rows = world.meters.query_json(slug("sum"), **SPAN, subject=[A, B]).data
    assert [(row.subject, row.value) for row in rows] == [(A, 15.8), (B, 19.5)]
    rows = world.meters.query_json(slug("sum"), **SPAN, group_by=["subject"]).data
    assert [(row.subject, row.value) for row in rows] == [(A, 15.8), (B, 19.5)]
    rows = world.meters.query_json(slug("sum"), **SPAN, group_by=["model"]).data
    assert all(row.subject is None for row in rows)
    assert by_model(rows) == {"gpt-4o": 5.8, "o3": 22.5, ODD: 7}
    rows = world.meters.query_json(slug("sum"), **SPAN, group_by=["kind"]).data
    assert {row.group_by["kind"]: row.value for row in rows} == {"chat": 12.8, "batch": 5.5, None: 17}
    rows = world.meters.query_json(slug("count"), **SPAN, group_by=["subject", "kind"], window_size="DAY").data
    assert {(row.window_start, row.subject, row.group_by["kind"]): row.value for row in rows} == {
        (DAY1, A, "chat"): 2,
        (DAY1, A, "batch"): 1,
        (DAY1, A, None): 1,
        (DAY1, B, "chat"): 1,
        (DAY2, B, None): 1,
    }


def test_filters_by_groups_in_every_form_that_the_sdk_sends(world):
    # Python's own spelling of a dictionary, quotes and all.
    assert total(world, "sum", filter_group_by={"model": "gpt-4o"}) == 5.8
    assert total(world, "sum", filter_group_by={"model": "gpt-4o", "kind": "batch"}) == 5.5
    assert total(world, "sum", filter_group_by={"model": ODD}) == 7
    assert total(world, "sum", filter_group_by={"model": "no such"}) is None
    for given, expected in [
        ({"$eq": "o3"}, 22.5),
        ({"$ne": "o3"}, 12.8),
        ({"$in": ["o3", ODD]}, 29.5),
        ({"$nin": ["o3", ODD]}, 5.8),
        ({"$like": "gpt-%"}, 5.8),
        ({"$and": [{"$ne": "o3"}, {"$ne": ODD}]}, 5.8),
    ]:
        assert total(world, "sum", advanced_meter_group_by_filters={"model": given}) == expected, given


def test_a_query_by_post(world):
    request = MeterQueryRequest(
        from_property=DAY1,
        to=DAY3,
        window_size="DAY",
        window_time_zone="UTC",
        subject=[A],
        group_by=["model"],
        filter_group_by={"model": ["gpt-4o", "o3"]},
        client_id="a-client",
    )
    result = world.meters.query(slug("sum"), request)
    assert [(row.window_start, row.subject, row.group_by, row.value) for row in result.data] == [
        (DAY1, A, {"model": "gpt-4o"}, 5.8),
        (DAY1, A, {"model": "o3"}, 10),
    ]
    request = MeterQueryRequest(
        from_property=DAY1, to=DAY3, advanced_meter_group_by_filters={"model": FilterString(in_property=["o3"])}
    )
    assert [row.value for row in world.meters.query(slug("sum"), request).data] == [22.5]
    assert [row.value for row in world.meters.query(slug("sum"), MeterQueryRequest()).data] == [35.3]


def test_csv_by_get_and_by_post(world):
    text = world.meters.query_csv(slug("sum"), **SPAN, window_size="DAY", subject=[B], group_by=["model", "kind"])
    first, second = f"{DAY1:%Y-%m-%d}T00:00:00Z", f"{DAY2:%Y-%m-%d}T00:00:00Z"
    third = f"{DAY3:%Y-%m-%d}T00:00:00Z"
    assert list(csv.reader(io.StringIO(text))) == [
        ["window_start", "window_end", "subject", "model", "kind", "value"],
        [first, second, B, "o3", "chat", "12.5"],
        [second, third, B, ODD, "", "7"],
    ]
    # The SDK's POST for CSV has no body, and no content-type.
    header, row = csv.reader(io.StringIO(world.meters.query_csv_post(slug("sum"))))
    assert header == ["window_start", "window_end", "subject", "value"] and row[2:] == ["", "35.3"]
    _, headers, _ = harness.raw("GET", f"/api/v1/meters/{slug('sum')}/query", headers={"accept": "text/csv"})
    assert headers["content-type"].split(";")[0] == "text/csv"
    assert headers["content-disposition"] == f'attachment; filename="{slug("sum")}.csv"'


def test_subjects_of_a_meter_and_values_of_a_group(world):
    assert world.meters.list_subjects(slug("sum"), **SPAN) == [A, B]
    assert world.meters.list_subjects(slug("sum"), from_parameter=DAY2, to=DAY3) == [B]
    assert world.meters.list_subjects(slug("sum")) == [A, B]
    values = world.meters.list_group_by_values
    assert values(slug("sum"), "model", **SPAN) == ["gpt-4o", ODD, "o3"]
    assert values(slug("sum"), "kind", **SPAN) == ["batch", "chat"]
    assert values(slug("sum"), "subject", **SPAN) == [A, B]
    assert values(slug("sum"), "model", from_parameter=DAY2, to=DAY3) == [ODD]
    assert values(slug("sum"), "model") == [], "the last 24 hours, where nothing happened"
    with pytest.raises(HttpResponseError) as refused:
        values(slug("sum"), "colour", **SPAN)
    assert refused.value.status_code == 400


def test_numbers_are_exact_beyond_what_a_float_holds(client):
    name, event_type, subject = "exact", f"py.{RUN}.exact", f"py-{RUN}-exact"
    client.meters.create(meter(name, event_type=event_type))
    for number, tokens in enumerate(["12345678901234567.123456789", "0.000000001", "0.00022500000000000002"]):
        body = json.dumps({"id": f"exact-{number}", "source": SOURCE, "specversion": "1.0", "type": event_type,
                           "subject": subject, "time": at(DAY1, "08:00:00").isoformat(), "data": {"tokens": "?"}})
        client.events.ingest_event(body.replace('"?"', tokens).encode())
    eventually(lambda: harness.total(slug(name)), Decimal("12345678901234567.123681790"))


def test_a_meter_counts_the_events_from_before_it_was_made(world):
    made = world.meters.create(meter("late", group_by={"model": "$.model"}))
    assert made.value_property == "$.tokens"
    eventually(lambda: total(world, "late"), 35.3)
    assert by_model(world.meters.query_json(slug("late"), **SPAN, group_by=["model"]).data) == {
        "gpt-4o": 5.8,
        "o3": 22.5,
        ODD: 7,
    }


def test_a_meter_is_made_read_changed_and_deleted(client):
    before = dt.datetime.now(UTC) - dt.timedelta(minutes=5)
    made = client.meters.create(
        meter("life", group_by=GROUPS, name="Life", description="Of a meter", metadata={"team": "ai"}, event_from=DAY1)
    )
    assert (made.slug, made.name, made.description) == (slug("life"), "Life", "Of a meter")
    assert (made.aggregation, made.event_type, made.value_property) == ("SUM", TYPE, "$.tokens")
    assert made.group_by == GROUPS and made.metadata == {"team": "ai"} and made.event_from == DAY1
    assert before < made.created_at <= made.updated_at and made.deleted_at is None
    assert client.meters.get(slug("life")) == made
    assert client.meters.get(made.id) == made
    with pytest.raises(ResourceExistsError):
        client.meters.create(meter("life"))

    changed = client.meters.update(slug("life"), MeterUpdate(name="Longer life"))
    assert (changed.name, changed.description, changed.group_by) == ("Longer life", "Of a meter", GROUPS)
    changed = client.meters.update(made.id, MeterUpdate(group_by={"user": "$.user"}, metadata={}))
    assert changed.group_by == {"user": "$.user"} and not changed.metadata
    assert (changed.created_at, changed.name) == (made.created_at, "Longer life")
    assert changed.updated_at >= made.updated_at
    assert client.meters.get(slug("life")).group_by == {"user": "$.user"}

    mine = lambda **more: [one.slug for one in client.meters.list(page_size=1000, **more) if one.slug == slug("life")]  # noqa: E731
    assert mine() == [slug("life")]
    assert client.meters.delete(slug("life")) is None
    assert mine() == []
    [gone] = [one for one in client.meters.list(page_size=1000, include_deleted=True) if one.slug == slug("life")]
    assert gone.deleted_at is not None
    for call in [client.meters.get, client.meters.delete, client.meters.query_json, client.meters.list_subjects]:
        with pytest.raises(ResourceNotFoundError):
            call(slug("life"))
    assert client.meters.create(meter("life", "COUNT")).aggregation == "COUNT"


def test_meters_are_listed_in_order_and_by_pages(world):
    everything = [one.slug for one in world.meters.list(page_size=1000)]
    assert everything == sorted(everything) and slug("sum") in everything
    assert not any(one.startswith("__") for one in everything)
    assert [one.slug for one in world.meters.list(page_size=1000, order="DESC")] == everything[::-1]
    assert [one.slug for one in world.meters.list(page=2, page_size=3)] == everything[3:6]
    times = [one.created_at for one in world.meters.list(page_size=1000, order_by="createdAt")]
    assert times == sorted(times)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slug": "Upper"},
        {"slug": "__unmatched__"},
        {"aggregation": "SUMM"},
        {"event_type": ""},
        {"value_property": "tokens"},
        {"value_property": "$.tokens[0]"},
        {"value_property": None},
        {"group_by": {"subject": "$.subject"}},
        {"group_by": {"a-b": "$.a"}},
        {"group_by": {"a": "$..a"}},
        {"event_from": DAY1 + dt.timedelta(seconds=1)},
    ],
)
def test_a_meter_that_cannot_be_is_refused_by_name(client, wrong):
    good = {"slug": slug("wrong"), "aggregation": "SUM", "event_type": TYPE, "value_property": "$.tokens"}
    with pytest.raises(HttpResponseError) as refused:
        client.meters.create(MeterCreate(**{**good, **wrong}))
    assert refused.value.status_code == 400
    field = {"event_type": "eventType", "value_property": "valueProperty", "group_by": "groupBy", "event_from": "eventFrom"}
    [name] = wrong
    assert field.get(name, name) in refused.value.model.detail


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"window_size": "WEEK"}, "windowSize"),
        ({"window_time_zone": "Mars/Olympus"}, "windowTimeZone"),
        ({"group_by": ["colour"]}, "groupBy"),
        ({"filter_group_by": {"colour": "red"}}, "filterGroupBy"),
        ({"advanced_meter_group_by_filters": {"model": {"$ilike": "a"}}}, "advancedMeterGroupByFilters"),
        ({"filter_customer_id": ["01G65Z755AFWAKHE12NY0CQ9FH"]}, "filterCustomerId"),
        ({"from_parameter": DAY2, "to": DAY1}, "from"),
    ],
)
def test_a_query_that_cannot_be_is_refused_by_name(world, wrong, field):
    with pytest.raises(HttpResponseError) as refused:
        world.meters.query_json(slug("sum"), **wrong)
    problem = refused.value.model
    assert (refused.value.status_code, problem.status) == (400, 400)
    assert field in problem.detail and problem.type and problem.title and problem.instance
    assert problem.extensions["validationErrors"][0]["field"] == field


def test_what_is_not_known_is_refused_and_not_passed_over(world):
    for path in [f"/api/v1/meters/{slug('sum')}/query?subjects={A}", "/api/v1/meters?sort=key", "/api/v1/events?type=a"]:
        status, headers, body = harness.raw("GET", path)
        assert (status, headers["content-type"]) == (400, "application/problem+json"), body
    with pytest.raises(ResourceNotFoundError):
        world.meters.query_json(slug("no_such"))
    status, headers, _ = harness.raw("GET", "/api/v1/features")
    assert (status, headers["content-type"]) == (404, "application/problem+json")


def test_nobody_is_let_in_without_a_token(world):
    for token in ["rr_nosuch_secret", "x"]:
        with client_of(token) as stranger, pytest.raises(ClientAuthenticationError) as refused:
            stranger.meters.list()
        assert refused.value.model.status == 401
    status, headers, _ = harness.raw("GET", "/api/v1/meters", token=None)
    assert (status, headers["content-type"]) == (401, "application/problem+json")


def test_an_event_that_cannot_be_is_refused_and_the_good_ones_are_taken(world):
    event_type = f"py.{RUN}.mixed"
    world.meters.create(meter("mixed", "COUNT", event_type=event_type))
    good = event("mixed-1", A, event_type, at(DAY1, "09:00:00"), {})
    with pytest.raises(HttpResponseError) as refused:
        world.events.ingest_events([good, event("mixed-2", A, event_type, DAY1 - dt.timedelta(days=40), {})])
    assert refused.value.status_code == 400
    problem = json.loads(refused.value.response.text())
    assert (problem["accepted"], problem["rejected"], problem["errors"][0]["index"]) == (1, 1, 1)
    eventually(lambda: total(world, "mixed"), 1)


def test_events_are_listed_newest_first(world):
    listed = world.events.list(subject=A, from_parameter=DAY1, to=DAY3)
    mine = [one for one in listed if one.event.type == TYPE]
    assert [one.event.id for one in mine] == ["4", "3", "2", "1"]
    first = mine[-1]
    assert (first.event.subject, first.event.source, first.event.specversion) == (A, SOURCE, "1.0")
    assert first.event.time == at(DAY1, "10:00:00")
    assert first.event.data == {"tokens": 0.1, "model": "gpt-4o", "meta": {"kind": "chat"}, "user": "u1"}
    assert first.ingested_at <= first.stored_at and first.validation_error is None
    assert [one.event.id for one in world.events.list(subject=A, from_parameter=DAY1, to=DAY3, limit=2)] == ["4", "3"]
    assert len(world.events.list(subject=f"{RUN}/b", from_parameter=DAY1, to=DAY3)) == 2, "a part of the subject"
    found = world.events.list(id="5", subject=RUN, from_parameter=DAY1, to=DAY3)
    assert [one.event.subject for one in found if one.event.type == TYPE] == [B]
    later = first.ingested_at + dt.timedelta(days=1)
    assert world.events.list(subject=A, from_parameter=DAY1, ingested_at_from=later) == []
    with pytest.raises(HttpResponseError):
        world.events.list(limit=101)


def test_events_are_listed_by_pages(world):
    chosen = {"subject": {"$eq": A}, "type": {"$eq": TYPE}, "time": {"$gte": DAY1.isoformat()}}
    pages = [[one.event.id for one in page] for page in world.events_v2.list(limit=3, filter=chosen).by_page()]
    assert [page for page in pages if page] == [["4", "3", "2"], ["1"]]
    everyone = {"subject": {"$in": [A, B]}, "type": {"$eq": TYPE}, "time": {"$gte": DAY1.isoformat()}}
    assert [one.event.id for one in world.events_v2.list(limit=1, filter=everyone)][:2] == ["6", "4"]
    assert len(list(world.events_v2.list(limit=1, filter=everyone))) == 6


def test_events_that_count_nowhere_say_so(world):
    hollow = f"py.{RUN}.hollow"
    world.meters.create(meter("hollow", event_type=hollow))
    world.meters.create(meter("hollow_count", "COUNT", event_type=hollow))
    world.events.ingest_events(
        [
            event("stray", A, f"py.{RUN}.stray", at(DAY1, "07:00:00"), {"tokens": 1}),
            event("hollow", A, hollow, at(DAY1, "07:00:00"), {"model": "o3"}),
            event("whole", A, hollow, at(DAY1, "07:00:00"), {"tokens": 3}),
        ]
    )

    def complaints():
        listed = world.events.list(subject=A, from_parameter=at(DAY1, "07:00:00"), to=at(DAY1, "07:01:00"))
        return {one.event.id: one.validation_error for one in listed}

    eventually(lambda: total(world, "hollow_count"), 2)
    eventually(lambda: set(complaints()), {"stray", "hollow", "whole"})
    assert f"py.{RUN}.stray" in complaints()["stray"]
    assert slug("hollow") in complaints()["hollow"] and "tokens" in complaints()["hollow"]
    assert complaints()["whole"] is None
    assert total(world, "hollow") == 3


def test_an_event_that_is_sent_again_counts_once(world):
    subject, event_type = f"py-{RUN}-again", f"py.{RUN}.again"
    world.meters.create(meter("again", "COUNT", event_type=event_type))
    events = [event(f"again-{number}", subject, event_type, at(DAY1, "06:00:00"), {}) for number in range(50)]
    world.events.ingest_events(events)
    eventually(lambda: total(world, "again"), 50)
    world.events.ingest_events(events)
    world.events.ingest_events(
        [event(f"after-{number}", subject, event_type, at(DAY1, "06:00:00"), {}) for number in range(50)]
    )
    eventually(lambda: total(world, "again") >= 100, True)
    assert total(world, "again") == 100


def test_subjects_are_the_registry_of_tenants(client):
    one, two = f"py-{RUN}-s/1", f"py-{RUN}-s2"
    made = client.subjects.upsert(
        [
            SubjectUpsert(key=one, display_name="One", metadata={"hubspotId": "123456"}, stripe_customer_id="cus_1"),
            SubjectUpsert(key=two),
        ]
    )
    assert [(each.key, each.display_name) for each in made] == [(one, "One"), (two, None)]
    found = client.subjects.get(one)
    assert (found.key, found.display_name, found.stripe_customer_id) == (one, "One", "cus_1")
    assert found.metadata == {"hubspotId": "123456"} and found.created_at <= found.updated_at
    assert client.subjects.get(found.id).key == one
    assert [each.key for each in client.subjects.list() if f"py-{RUN}-s" in each.key] == [one, two]

    [changed] = client.subjects.upsert([SubjectUpsert(key=one, display_name="Uno")])
    assert (changed.display_name, changed.metadata, changed.stripe_customer_id) == ("Uno", {"hubspotId": "123456"}, "cus_1")
    [erased] = client.subjects.upsert([{"key": one, "metadata": None, "stripeCustomerId": None}])
    assert erased.display_name == "Uno" and not erased.metadata and erased.stripe_customer_id is None
    assert erased.created_at == found.created_at

    assert client.subjects.delete(one) is None
    for call in [client.subjects.get, client.subjects.delete]:
        with pytest.raises(ResourceNotFoundError):
            call(one)
    assert [each.key for each in client.subjects.list() if f"py-{RUN}-s" in each.key] == [two]
    with pytest.raises(HttpResponseError) as refused:
        client.subjects.upsert([SubjectUpsert(key="")])
    assert refused.value.status_code == 400


def test_a_portal_token_reads_the_meters_of_its_subject(world):
    tokens = world.portal.portal_tokens
    made = tokens.create(PortalToken(subject=A, allowed_meter_slugs=[slug("sum"), slug("count")]))
    assert (made.subject, made.allowed_meter_slugs, made.expired) == (A, [slug("sum"), slug("count")], False)
    hour = dt.timedelta(hours=1)
    assert hour - dt.timedelta(minutes=1) < made.expires_at - made.created_at < hour + dt.timedelta(minutes=1)

    with client_of(made.token) as portal:
        eventually(lambda: opens(portal), True)
        [row] = portal.portal.portal_meters.query_json(slug("sum"), **SPAN).data
        assert (row.subject, row.value) == (A, 15.8)
        rows = portal.portal.portal_meters.query_json(slug("sum"), **SPAN, window_size="DAY", group_by=["model"]).data
        assert [(row.window_start, row.subject) for row in rows] == [(DAY1, A), (DAY1, A)]
        assert by_model(rows) == {"gpt-4o": 5.8, "o3": 10}
        text = portal.portal.portal_meters.query_csv(slug("sum"), **SPAN)
        assert [line[2:] for line in csv.reader(io.StringIO(text))] == [["subject", "value"], [A, "15.8"]]
        for call in [
            lambda: portal.portal.portal_meters.query_json(slug("max"), **SPAN),
            lambda: portal.meters.query_json(slug("sum"), subject=[B]),
            lambda: portal.meters.create(meter("stolen")),
            lambda: portal.events.list(),
            lambda: portal.portal.portal_tokens.create(PortalToken(subject=B)),
        ]:
            with pytest.raises(HttpResponseError) as refused:
                call()
            assert refused.value.status_code == 403

        listed = {one.id: one for one in tokens.list(limit=100)}
        assert (listed[made.id].subject, listed[made.id].token) == (A, None)
        assert tokens.invalidate(id=made.id) is None
        eventually(lambda: opens(portal), False)
    assert made.id not in {one.id for one in tokens.list(limit=100)}


def opens(portal):
    try:
        portal.portal.portal_meters.query_json(slug("count"), **SPAN)
    except ClientAuthenticationError:
        return False
    return True


def test_portal_tokens_end_when_they_are_told_to(world):
    tokens = world.portal.portal_tokens
    subject = f"py-{RUN}-portal"
    end = (dt.datetime.now(UTC) + dt.timedelta(days=2)).replace(microsecond=0)
    made = [tokens.create({"subject": subject, "expiresAt": end.isoformat()}) for _ in range(2)]
    assert [one.expires_at for one in made] == [end, end] and made[0].allowed_meter_slugs is None
    assert {one.id for one in made} <= {one.id for one in tokens.list(limit=100)}
    tokens.invalidate(subject=subject)
    assert not {one.id for one in made} & {one.id for one in tokens.list(limit=100)}
    tokens.invalidate({"subject": subject})
    for wrong in [{}, {"id": made[0].id, "subject": subject}]:
        with pytest.raises(HttpResponseError) as refused:
            tokens.invalidate(wrong)
        assert refused.value.status_code == 400
    with pytest.raises(HttpResponseError):
        tokens.create({"subject": subject, "expiresAt": "2020-01-01T00:00:00Z"})
    with pytest.raises(ResourceNotFoundError):
        tokens.create(PortalToken(subject=subject, allowed_meter_slugs=[slug("no_such")]))


def test_the_asynchronous_client(world):
    async def ask():
        async with openmeter.aio.Client(endpoint=harness.URL + "/", token=harness.TOKEN) as client:
            await client.events.ingest_event(event("again-0", A, f"py.{RUN}.async", at(DAY1, "05:00:00"), {}))
            result = await client.meters.query_json(slug("sum"), **SPAN, group_by=["subject"])
            text = await client.meters.query_csv(slug("sum"), **SPAN)
            with pytest.raises(ResourceNotFoundError):
                await client.meters.get(slug("no_such"))
            return [(row.subject, row.value) for row in result.data], text.splitlines()[1].rsplit(",", 1)[1]

    assert asyncio.run(ask()) == ([(A, 15.8), (B, 19.5)], "35.3")
