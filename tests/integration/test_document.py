"""The service keeps to its own OpenAPI document, whatever is sent: no 5xx, no answer unforeseen."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import Service, run_service
from tests.integration.audio_files import digits, wav

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
SPEECH = wav(digits()[0])
FILES = [SPEECH, SPEECH[:300], SPEECH[:44], wav(np.zeros(8000, np.float32)), b"", b"RIFF"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own: whatever its document allows is done to it."""
    with run_service(tmp_path_factory.mktemp("plain"), MAX_AUDIO_LENGTH="10") as service:
        yield service


@pytest.fixture(scope="module")
def document(plain: Service) -> BaseSchema:
    """The service's document, but for X-Request-Timeout, which would refuse all else that is made
    up together with it; tests/unit/test_deadline.py has it alone."""
    content = httpx.get(f"{plain.url}/openapi.json").json()
    for operations in content["paths"].values():
        for operation in operations.values():
            given = operation["parameters"]
            operation["parameters"] = [p for p in given if p["name"] != "X-Request-Timeout"]
    schema = schemathesis.openapi.from_dict(content)
    schema.config.update(base_url=plain.url)
    return schema


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_whatever_is_sent(document: BaseSchema, plain: Service, mode: GenerationMode) -> None:
    """What the document allows, with recordings and ids that exist among those that don't, is
    answered as it says; what it doesn't allow is refused."""
    kept = httpx.post(f"{plain.url}/audio/analyze", files={"file": SPEECH}, timeout=60).json()["id"]
    known = {"analysis_id": kept, "model": "whisper-1"}
    statuses: Counter[int] = Counter()
    for found in document.get_all_operations():
        assert isinstance(found, Ok)

        @settings(
            max_examples=10,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=found.ok().as_strategy(generation_mode=mode),
            upload=st.sampled_from(FILES) | st.binary(max_size=1000),
            existing=st.booleans(),
        )
        def send(case: Any, upload: bytes, existing: bool) -> None:
            checks = CHECKS
            if mode is GenerationMode.POSITIVE:
                for place in (case.path_parameters, case.body):
                    for name in set(known) & set(place if isinstance(place, dict) else ()):
                        place[name] = known[name] if existing else place[name]
                if isinstance(case.body, dict) and "file" in case.body:
                    case.body["file"] = upload
            else:
                checks = [*CHECKS, negative_data_rejection]
            answer = case.call(timeout=60)
            statuses[answer.status_code] += 1
            case.validate_response(answer, checks=checks)

        with contextlib.suppress(Unsatisfiable):  # without a field nothing can be wrong
            send()
    assert {200, 404} <= set(statuses) if mode is GenerationMode.POSITIVE else 422 in statuses
    assert statuses[200] > 20 or mode is GenerationMode.NEGATIVE


def test_every_route_is_in_the_document_with_its_errors(plain: Service) -> None:
    content = httpx.get(f"{plain.url}/openapi.json").json()
    for path, operations in content["paths"].items():
        for method, operation in operations.items():
            errors = {s for s in operation["responses"] if s >= "400"}
            assert {"500", "504"} <= errors, (method, path)
            for status in errors:
                shape = operation["responses"][status]["content"]["application/json"]["schema"]
                name = "OpenAIError" if path.startswith("/v1/") else "ErrorResponse"
                assert shape == {"$ref": f"#/components/schemas/{name}"}, (method, path, status)
