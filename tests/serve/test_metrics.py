"""/metrics: names that dashboards are built on, and counts that are true."""

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

NAMES = {
    "rawgpt_requests": "counter",
    "rawgpt_prompt_tokens": "counter",
    "rawgpt_cached_prompt_tokens": "counter",
    "rawgpt_generated_tokens": "counter",
    "rawgpt_running_texts": "gauge",
    "rawgpt_waiting_texts": "gauge",
    "rawgpt_first_token_seconds": "histogram",
    "rawgpt_token_interval_seconds": "histogram",
}


def figures(client: TestClient) -> dict[str, float]:
    """Return every sample by its name and labels."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    families = [family for family in families if not family.name.endswith("_created")]
    assert {family.name: family.type for family in families} == NAMES
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_names_and_counts(client: TestClient) -> None:
    """Guards: a renamed figure; a client's path that makes a series of its own; tokens counted twice."""
    assert not figures(client)
    asked = {"prompt": [1, 2, 3], "max_tokens": 5, "n": 2, "seed": 1}
    usage = client.post("/v1/completions", json=asked).json()["usage"]
    client.post("/v1/completions", json={"prompt": 1})
    for name in ("gpt-9", "a/b"):
        client.get(f"/v1/models/{name}")
    client.get("/none/of/this")
    client.request("BREW", "/v1/models")
    seen = figures(client)
    assert seen["rawgpt_requests_total POST /v1/completions 200"] == 1
    assert seen["rawgpt_requests_total POST /v1/completions 400"] == 1
    assert seen["rawgpt_requests_total GET /v1/models/{name} 404"] == 1
    assert seen["rawgpt_requests_total GET other 404"] == 2
    assert not any("none/of/this" in name or "BREW" in name for name in seen)
    assert seen["rawgpt_prompt_tokens_total pretrain"] == 6  # each text reads its prompt
    assert seen["rawgpt_generated_tokens_total pretrain"] == usage["completion_tokens"]
    assert seen["rawgpt_first_token_seconds_count pretrain"] == 2
    assert seen["rawgpt_token_interval_seconds_count pretrain"] == usage["completion_tokens"] - 2
    assert seen["rawgpt_running_texts pretrain"] == seen["rawgpt_waiting_texts pretrain"] == 0
