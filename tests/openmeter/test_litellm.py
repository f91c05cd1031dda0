"""LiteLLM's own callback, unmodified: what it counts arrives, is the tenant's, and is exact.

No model is asked: `mock_response` makes LiteLLM answer itself, with 10 tokens in and 20 out. Its prices are those in
the package.
"""

import asyncio
import json
import os
from decimal import Decimal

import harness
import pytest

EVENT_TYPE = f"litellm.{harness.RUN}"
# Read by LiteLLM when it is imported, and at each call.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["OPENMETER_API_ENDPOINT"] = harness.URL
os.environ["OPENMETER_API_KEY"] = os.environ["RENTROLL_LITELLM_TOKEN"]
os.environ["OPENMETER_EVENT_TYPE"] = EVENT_TYPE

import litellm  # noqa: E402

MESSAGES = [{"role": "user", "content": "What is a meter?"}]
TOKENS = f"litellm_{harness.RUN}_tokens"
COST = f"litellm_{harness.RUN}_cost"
CALLS = f"litellm_{harness.RUN}_calls"


@pytest.fixture(scope="module", autouse=True)
def meters():
    litellm.callbacks = ["openmeter"]
    for slug, aggregation, value in [(TOKENS, "SUM", "$.total_tokens"), (COST, "SUM", "$.cost"), (CALLS, "COUNT", None)]:
        meter = {"slug": slug, "aggregation": aggregation, "eventType": EVENT_TYPE, "groupBy": {"model": "$.model"}}
        if value:
            meter["valueProperty"] = value
        headers = {"content-type": "application/json"}
        status, _, body = harness.raw("POST", "/api/v1/meters", json.dumps(meter).encode(), headers=headers)
        assert status == 201, body


def complete(user, model="gpt-4o"):
    return litellm.completion(model=model, messages=MESSAGES, mock_response="A ruler.", user=user)


def test_synchronous_calls_are_counted_for_the_user():
    user = f"sync-{harness.RUN}"
    for _ in range(3):
        assert complete(user).usage.total_tokens == 30
    harness.eventually(lambda: harness.total(CALLS, subject=user), 3)
    harness.eventually(lambda: harness.total(TOKENS, subject=user), 90)


def test_costs_that_are_floats_are_summed_as_what_they_mean():
    user = f"cost-{harness.RUN}"
    complete(user)
    complete(user, "gpt-4.1")
    complete(user, "gpt-4o-mini")
    # 0.00022500000000000002, 0.00017999999999999998 and 1.35e-05, as LiteLLM writes them.
    harness.eventually(
        lambda: {row["groupBy"]["model"]: row["value"] for row in harness.query(COST, subject=user, groupBy="model")},
        {"gpt-4o": Decimal("0.000225"), "gpt-4.1": Decimal("0.00018"), "gpt-4o-mini": Decimal("0.0000135")},
    )
    assert harness.total(COST, subject=user) == Decimal("0.0004185")


def test_a_model_without_a_price_is_counted_too():
    user = f"free-{harness.RUN}"
    complete(user, "openai/a-model-of-our-own")
    harness.eventually(lambda: harness.total(TOKENS, subject=user), 30)
    assert harness.total(CALLS, subject=user) == 1
    assert harness.total(COST, subject=user) in (None, 0)


def test_asynchronous_calls_are_counted_for_the_user():
    user = f"async-{harness.RUN}"

    async def calls():
        asked = [
            litellm.acompletion(model="gpt-4o", messages=MESSAGES, mock_response="A ruler.", user=user)
            for _ in range(4)
        ]
        for answer in await asyncio.gather(*asked):
            assert answer.usage.total_tokens == 30
        # The callback is a task of this loop: it must be done before the loop ends.
        for _ in range(int(harness.PATIENCE_S / harness.POLL_S)):
            if harness.total(CALLS, subject=user) == 4:
                return
            await asyncio.sleep(harness.POLL_S)

    asyncio.run(calls())
    harness.eventually(lambda: harness.total(CALLS, subject=user), 4)
    harness.eventually(lambda: harness.total(TOKENS, subject=user), 120)


def test_a_stream_is_counted_once():
    user = f"stream-{harness.RUN}"
    stream = litellm.completion(model="gpt-4o", messages=MESSAGES, mock_response="A ruler.", user=user, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "A ruler."
    harness.eventually(lambda: harness.total(CALLS, subject=user), 1)


def test_the_token_of_litellm_reads_nothing():
    token = os.environ["OPENMETER_API_KEY"]
    status, _, body = harness.raw("GET", f"/api/v1/meters/{CALLS}/query", token=token)
    assert status == 403, body
