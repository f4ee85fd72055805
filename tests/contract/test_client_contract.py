"""The SDK and the service, held together: every route, every field, every kind of error."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_args

import pytest

from api import errors as server_errors
from api import middleware
from api.main import create_app
from api.settings import Settings
from api.streaming import messages
from voice_analytics_client import AsyncVoiceAnalytics, VoiceAnalytics, answers
from voice_analytics_client import errors as client_errors
from voice_analytics_client import rollout_answers, routes
from voice_analytics_client.streaming import events, protocol

METHODS = {
    "POST /audio/analyze": ["analyze", "analyze_as"],
    "GET /audio/analyses": ["analyses.list", "analyses.page"],
    "GET /audio/analyses/{analysis_id}": ["analyses.get"],
    "PATCH /audio/analyses/{analysis_id}": ["analyses.rename_speakers"],
    "DELETE /audio/analyses/{analysis_id}": ["analyses.delete"],
    "GET /audio/analyses/{analysis_id}/export": ["analyses.export"],
    "POST /audio/jobs": ["jobs.submit"],
    "GET /audio/jobs": ["jobs.list", "jobs.page"],
    "GET /audio/jobs/{job_id}": ["jobs.get", "jobs.wait"],
    "DELETE /audio/jobs/{job_id}": ["jobs.cancel"],
    "GET /audio/jobs/{job_id}/events": ["jobs.events"],
    "POST /speakers": ["speakers.enrol"],
    "GET /speakers": ["speakers.list", "speakers.page"],
    "GET /speakers/{speaker_id}": ["speakers.get"],
    "PATCH /speakers/{speaker_id}": ["speakers.rename"],
    "DELETE /speakers/{speaker_id}": ["speakers.delete"],
    "POST /speakers/{speaker_id}/takes": ["speakers.add"],
    "GET /models": ["models.list"],
    "GET /models/{name}/rollouts": ["rollouts.list"],
    "POST /models/{name}/rollouts": ["rollouts.start"],
    "GET /models/{name}/rollouts/{rollout_id}": ["rollouts.get"],
    "PATCH /models/{name}/rollouts/{rollout_id}": [
        "rollouts.pause",
        "rollouts.resume",
        "rollouts.set_weight",
    ],
    "DELETE /models/{name}/rollouts/{rollout_id}": ["rollouts.delete"],
    "POST /models/{name}/rollouts/{rollout_id}/promote": ["rollouts.promote"],
    "POST /models/{name}/rollouts/{rollout_id}/rollback": ["rollouts.roll_back"],
    "GET /health": ["health"],
    "GET /health/live": ["live"],
    "GET /health/ready": ["ready"],
    "GET /metrics": ["metrics"],
}
"""Route → what calls it. A new route of the service fails the test below until it stands here."""

OPENAI = "/v1/"
"""Routes below it are for OpenAI's own SDKs."""

SCHEMAS: dict[str, type] = {
    "AudioResponse": answers.Analysis,
    "SegmentResponse": answers.Segment,
    "WordResponse": answers.Word,
    "EmotionResponse": answers.Emotion,
    "SpeakerResponse": answers.Speaker,
    "TurnResponse": answers.Turn,
    "ConversationResponse": answers.Conversation,
    "QualityResponse": answers.Quality,
    "EmotionCurveResponse": answers.EmotionCurve,
    "TurnLengthsResponse": answers.TurnLengths,
    "MonologueResponse": answers.Monologue,
    "StretchResponse": answers.Stretch,
    "IdentityResponse": answers.Identity,
    "SpeakerCountResponse": answers.Diarization,
    "ModelResponse": answers.Release,
    "ServedModelResponse": rollout_answers.Model,
    "AnalysisSummaryResponse": answers.AnalysisSummary,
    "AnalysesPage": answers.AnalysesPage,
    "SpeakerProfileResponse": answers.SpeakerProfile,
    "TakeResponse": answers.SpeakerTake,
    "SpeakersPage": answers.SpeakersPage,
    "ModelList": rollout_answers.ModelList,
    "VersionResponse": rollout_answers.Version,
    "RolloutResponse": rollout_answers.Rollout,
    "RolloutDetails": rollout_answers.RolloutDetails,
    "RolloutList": rollout_answers.RolloutList,
    "EventResponse": rollout_answers.RolloutEvent,
    "SideResponse": rollout_answers.RolloutSide,
    "FiguresResponse": rollout_answers.RolloutFigures,
    "JobResponse": answers.Job,
    "JobsPageResponse": answers.JobsPage,
    "JobError": answers.JobError,
    "WebhookState": answers.Webhook,
    "HealthResponse": answers.Health,
    "ModelHealth": answers.ModelHealth,
}
"""The service's schema → the SDK's dataclass."""

NO_ANSWERS = {"HTTPValidationError", "ValidationError", "ErrorResponse", "OpenAIError"}
"""Schemas of errors and of OpenAI's contract."""


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    document: dict[str, Any] = create_app(Settings(triton_url="127.0.0.1:1")).openapi()
    return document


def resolved(client: type, connection: Any, dotted: str) -> Any:
    found = connection
    for name in dotted.split("."):
        found = getattr(found, name)
    return found


def test_each_schema_has_a_name_of_its_own(openapi: dict[str, Any]) -> None:
    """Two classes of one name are called after their modules, which generated clients then show."""
    assert [name for name in openapi["components"]["schemas"] if "__" in name] == []


def test_every_form_with_a_file_is_declared_multipart(openapi: dict[str, Any]) -> None:
    """Generated clients sent recordings URL-encoded, which nothing here reads."""
    kinds = {
        kind
        for methods in openapi["paths"].values()
        for operation in methods.values()
        for kind in operation.get("requestBody", {}).get("content", {})
    }
    assert kinds == {"multipart/form-data", "application/json"}


def test_every_route_has_a_method_in_both_clients(openapi: dict[str, Any]) -> None:
    served = {
        f"{method.upper()} {path}"
        for path, methods in openapi["paths"].items()
        for method in methods
        if not path.startswith(OPENAI)
    }
    assert served == set(METHODS)
    blocking, asynchronous = VoiceAnalytics("http://x"), AsyncVoiceAnalytics("http://x")
    for names in METHODS.values():
        for name in names:
            one = resolved(VoiceAnalytics, blocking, name)
            other = resolved(AsyncVoiceAnalytics, asynchronous, name)
            assert inspect.signature(one).parameters == inspect.signature(other).parameters
            assert (one.__doc__, True) == (other.__doc__, bool(one.__doc__))
    blocking.close()


def test_every_field_of_an_answer_is_in_its_dataclass(openapi: dict[str, Any]) -> None:
    """A field that the service adds is tolerated, but shouldn't be forgotten."""
    schemas = openapi["components"]["schemas"]
    for name, dataclass in SCHEMAS.items():
        fields = {field.name for field in dataclasses.fields(dataclass)} - {"raw"}
        assert fields == set(schemas[name]["properties"]), name


def test_no_answer_is_without_a_dataclass(openapi: dict[str, Any]) -> None:
    answered: set[str] = set()
    for path, methods in openapi["paths"].items():
        for operation in methods.values() if not path.startswith(OPENAI) else ():
            for status, response in operation["responses"].items():
                schema = response.get("content", {}).get("application/json", {}).get("schema", {})
                if status.startswith("2") and "$ref" in schema:
                    answered.add(schema["$ref"].rsplit("/", 1)[1])
    assert answered <= set(SCHEMAS)


def test_options_and_filters_are_the_services_own(openapi: dict[str, Any]) -> None:
    options = set(routes.Options.__annotations__) | {"file"}
    assert _form(openapi, "/audio/analyze") == options | {"response_format"}
    assert _form(openapi, "/audio/jobs") == options | {"webhook_url"}
    query = openapi["paths"]["/audio/analyses"]["get"]["parameters"]
    assert set(routes.Filters.__annotations__) | {"limit", "cursor"} == {
        p["name"] for p in query if p["in"] == "query"
    }


def test_formats_are_the_services_own(openapi: dict[str, Any]) -> None:
    form = _schema(openapi, "/audio/analyze")
    asked = set(form["properties"]["response_format"]["enum"])
    assert asked == {"json", *get_args(routes.TextFormat)}
    export = openapi["paths"]["/audio/analyses/{analysis_id}/export"]["get"]
    (format_,) = (p for p in export["parameters"] if p["name"] == "format")
    assert set(format_["schema"]["enum"]) == set(get_args(routes.ExportFormat))


def _form(openapi: dict[str, Any], path: str) -> set[str]:
    return set(_schema(openapi, path)["properties"])


def _schema(openapi: dict[str, Any], path: str) -> dict[str, Any]:
    body = openapi["paths"][path]["post"]["requestBody"]
    (content,) = body["content"].values()
    schema: dict[str, Any] = openapi["components"]["schemas"][
        content["schema"]["$ref"].rsplit("/", 1)[1]
    ]
    return schema


def test_every_kind_of_error_has_its_exception() -> None:
    kinds = {
        middleware.kind(error("x")): (error, middleware.status_code(error("x")))
        for error in vars(server_errors).values()
        if isinstance(error, type) and issubclass(error, server_errors.VoiceAnalyticsError)
        if error not in (server_errors.VoiceAnalyticsError, server_errors.ConfigurationError)
    }
    assert set(kinds) | {"InternalError", "MethodNotAllowed"} == set(client_errors.KINDS)


@pytest.mark.parametrize(
    "server, client",
    [
        (server_errors.InvalidAudio, client_errors.InvalidAudio),
        (server_errors.AudioTooLong, client_errors.TooLarge),
        (server_errors.UploadTooLarge, client_errors.TooLarge),
        (server_errors.UnsupportedAudioFormat, client_errors.UnsupportedFormat),
        (server_errors.InvalidOption, client_errors.InvalidOption),
    ],
)
def test_what_is_wrong_with_the_input_is_told_by_its_status(
    server: type[server_errors.ValidationError], client: type[client_errors.ValidationError]
) -> None:
    error = server("why")
    shape = {"error": middleware.kind(error), "message": "why"}
    status, code = middleware.status_code(error), middleware.close_code(error)
    assert type(client_errors.from_shape(shape, status=status)) is client
    if client is not client_errors.UnsupportedFormat:  # a close code is InvalidAudio's too
        assert type(client_errors.from_shape(shape, close_code=code)) is client


def test_the_streams_messages_are_the_services_own() -> None:
    config = {field.name for field in dataclasses.fields(protocol.StreamConfig)}
    assert config | {"type"} == set(messages.ConfigMessage.model_fields)
    for event, model in (
        (events.Ready, messages.ReadyEvent),
        (events.Resumed, messages.ResumedEvent),
        (events.Partial, messages.PartialEvent),
        (events.Final, messages.FinalEvent),
    ):
        fields = {field.name for field in dataclasses.fields(event)}
        assert fields | {"type"} == set(model.model_fields), event
