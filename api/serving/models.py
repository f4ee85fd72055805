"""Which release of each model answers: chosen once, at the start of an analysis or a live stream.

Whatever is asked of a model on the way names the chosen version, and whatever is read from a
manifest (labels, lengths, cache keys) comes from the chosen release, so that no answer mixes two
releases of a model, whatever is rolled out meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from api.repository import Manifest, ensemble_name
from api.services import emotion, ensemble, speaker_embedding, whisper
from api.services.clustering import DEFAULT_SAME_SPEAKER_COSINE
from api.tensors import ModelSpec
from api.types import ModelRelease


@dataclass(frozen=True)
class ServedModels:
    """One release of each leaf model, by the model's name.

    Attributes:
        manifests: all that is known of the releases.
        fingerprints: what a cached result's key carries of its model.
        releases: what an answer says of its models.
        emotion_labels: names of the emotion model's outputs, in order.
        chunk_s: longest chunk that Whisper is asked, seconds.
        emotion_window_s: length that the emotion model hears at once, seconds.
        same_speaker_cosine: typical cosine between two windows of one speaker, in (0, 1).
    """

    manifests: Mapping[str, Manifest]
    fingerprints: Mapping[str, str]
    releases: Mapping[str, ModelRelease]
    emotion_labels: tuple[str, ...]
    chunk_s: float
    emotion_window_s: float
    same_speaker_cosine: float

    @classmethod
    def of(cls, manifests: Mapping[str, Manifest]) -> ServedModels:
        """Read what an analysis needs from one manifest of each leaf."""
        emotions = manifests[emotion.SPEC.name].content
        voices = manifests[speaker_embedding.SPEC.name].content
        return cls(
            manifests=dict(manifests),
            fingerprints={name: m.fingerprint for name, m in manifests.items()},
            releases={name: m.release for name, m in manifests.items()},
            emotion_labels=tuple(emotions["labels"]),
            chunk_s=float(manifests[whisper.SPEC.name].content["chunk_s"]),
            emotion_window_s=float(emotions["window_s"]),
            same_speaker_cosine=float(
                voices.get("same_speaker_cosine", DEFAULT_SAME_SPEAKER_COSINE)
            ),
        )

    def version(self, model: str) -> str:
        """The version to name when a leaf is asked."""
        return self.manifests[model].version

    @property
    def versions(self) -> dict[str, str]:
        """The version of each leaf, by the model's name."""
        return {name: manifest.version for name, manifest in self.manifests.items()}

    @property
    def ensemble(self) -> ModelSpec:
        """The ensemble whose steps are pinned to exactly these versions."""
        return replace(ensemble.SPEC, name=ensemble_name(self.versions))

    def with_release(self, manifest: Manifest) -> ServedModels:
        """The same, but for the one model that this manifest describes."""
        return ServedModels.of({**self.manifests, manifest.model: manifest})
