"""THE path: a waveform becomes an analysis. REST, streams and jobs all come through here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from api.assembly import Findings, Spoken, assemble, to_source
from api.branches import Branches, Kept, Witness, timed, together
from api.cache import StageCache, samples_digest
from api.chunking import chunks
from api.detection import RELEASES, Detection, Detectors, Speech
from api.errors import DeadlineExceeded, InferenceError, InvalidOption, ModelUnavailable
from api.priority import asked_again
from api.services import diarization, emotion, speaker_embedding, whisper
from api.services.clustering import cluster
from api.services.emotion import HeardWindow
from api.services.known_speakers import KnownVoice, Voice, recognise, usable
from api.services.overlapping import fewest_speakers, overlapping, windows_alone
from api.services.voice_track import VoiceTrack
from api.services.whisper import Transcript
from api.services.windows import Window
from api.serving import ServedModels, Serving
from api.sound import measure
from api.speaker_profiles import SpeakerTake
from api.store.profiles import ProfileStore
from api.triton import TritonClient
from api.types import (
    Analysis,
    AnalysisOptions,
    OnProgress,
    Region,
    Segment,
    VoiceReference,
    Waveform,
    unheard,
)

T = TypeVar("T")

OnSegments = Callable[[Sequence[Segment]], None]
"""Is told each chunk's segments, in order, as soon as they and all before them are there; they have
the recording's times, but no speaker and no emotion yet."""


FEWEST_ENROLLED_S = 3.0
"""With less speech a voice isn't enrolled; `api.services.known_speakers` has the errors at 3 s."""


@dataclass(frozen=True, eq=False)
class HeardVoice:
    """One voice alone: for how long it speaks, and its windows' embeddings, shape (n, dim)."""

    speech_s: float
    embeddings: NDArray[np.float32]


_OF_A_MODEL = (ModelUnavailable, DeadlineExceeded, InferenceError, InvalidOption)
"""What a release may be to blame for; whether it is, the stable ones tell."""


@dataclass(frozen=True)
class Asked:
    """What is to be analysed, whoever does it."""

    waveform: Waveform
    digest: str
    options: AnalysisOptions
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    references: Sequence[VoiceReference] = ()
    on_progress: OnProgress = unheard


class Pipeline:
    """Owns nothing but the way; what it needs is handed in, opened and closed by the lifespan."""

    def __init__(
        self,
        triton: TritonClient,
        detectors: Detectors,
        serving: Serving,
        executor: Executor,
        cache: StageCache,
        profiles: ProfileStore,
    ) -> None:
        self._triton = triton
        self._detection = Detection(detectors, executor)
        self._executor = executor
        self._cache = cache
        self._serving = serving
        self._profiles = profiles

    async def analyze(
        self,
        waveform: Waveform,
        options: AnalysisOptions,
        *,
        deadline: float,
        timings_ms: Mapping[str, float] | None = None,
        references: Sequence[VoiceReference] = (),
        on_segments: OnSegments | None = None,
        served: ServedModels | None = None,
        on_progress: OnProgress = unheard,
    ) -> Analysis:
        """Find speech, then words, speakers and emotions at once, and put them together.

        Args:
            waveform: the whole recording.
            options: what the caller wants to know.
            deadline: on `time.monotonic`'s clock.
            timings_ms: what came before, by stage; ends up in the answer.
            references: speakers with these voices go by these names.
            on_segments: hears the words while the rest is still under way.
            served: the releases that answer; None lets the recording itself decide. When a
                release on trial fails, the stable ones do the whole analysis.
            on_progress: hears how far each stage has come.

        Raises:
            ModelUnavailable, DeadlineExceeded, InvalidOption, InferenceError: see `api.triton`.
        """
        digest = await self._run(samples_digest, waveform)
        chosen = served or self._serving.choose(digest)
        asked = Asked(waveform, digest, options, dict(timings_ms or {}), references, on_progress)
        told: list[Sequence[Segment]] = []
        on_trial = self._serving.fallback(chosen) is not None
        half = (time.monotonic() + deadline) / 2
        with self._serving.holding(chosen):
            try:
                analysis = await self.analyze_by(
                    chosen,
                    asked,
                    deadline=half if on_trial else deadline,
                    on_segments=told.append if on_trial else on_segments,
                    witness=self._serving.saw,
                )
            except _OF_A_MODEL as error:
                stable = self._serving.fallback(chosen)
                is_silent = on_trial or on_segments is None  # else words were told already
                if stable is None or not is_silent:
                    raise
                analysis = await self._instead(stable, asked, deadline, on_segments)
                self._serving.failed(chosen, error)
                return analysis
        self._serving.answered(chosen, analysis.cache)
        if on_segments is not None:
            for segments in told:
                on_segments(segments)
        return analysis

    async def _instead(
        self,
        stable: ServedModels,
        asked: Asked,
        deadline: float,
        on_segments: OnSegments | None,
    ) -> Analysis:
        """The whole analysis again, by the releases that are sure to work."""
        with asked_again(), self._serving.holding(stable):
            analysis = await self.analyze_by(
                stable, asked, deadline=deadline, on_segments=on_segments
            )
        self._serving.answered(stable, analysis.cache)
        return analysis

    async def analyze_by(
        self,
        served: ServedModels,
        asked: Asked,
        *,
        deadline: float,
        on_segments: OnSegments | None = None,
        witness: Witness | None = None,
    ) -> Analysis:
        """Analyse by these releases and no others; raises as `analyze`."""
        waveform, options = asked.waveform, asked.options
        timings = dict(asked.timings_ms)
        kept = self._kept(asked.digest, served, deadline, timings, asked.on_progress)
        speech = await self._detection.find_speech(kept, waveform, options)
        regions = speech.regions
        cut = await self._run(lambda: chunks(waveform, regions, max_s=served.chunk_s))
        branches = Branches(self._triton, served, kept, deadline, witness)

        def on_transcript(index: int, transcript: Transcript) -> None:
            if on_segments is not None:
                on_segments(to_source(transcript.segments, cut[index]))

        transcripts, spoken, heard, sound = await together(
            branches.transcribe(cut, options, on_transcript),
            self._diarize(branches, waveform, speech, options, asked.references),
            self._hear_emotions(branches, waveform, regions, options),
            self._run(lambda: measure(waveform.blocks())),
        )
        found = Findings(regions, cut, transcripts, spoken, heard, served.emotion_labels, sound)
        with timed(timings, "assembly"):
            releases = dict(served.releases)
            analysis = await self._run(
                assemble, uuid4().hex, waveform, options, found, releases, timings
            )
        asked.on_progress("assembly", 1.0)
        return replace(analysis, cache=kept.outcomes)

    async def ask_one(
        self, model: str, served: ServedModels, asked: Asked, *, deadline: float, witness: Witness
    ) -> None:
        """Have one model say of a recording what it would in an analysis, and no other.

        Args:
            model: a leaf's name.
            witness: hears the answer, unless the recording asks nothing of the model.

        Raises:
            as `analyze`.
        """
        waveform, options = asked.waveform, asked.options
        kept = self._kept(asked.digest, served, deadline, {})
        regions = (await self._detection.find_speech(kept, waveform, options)).regions
        branches = Branches(self._triton, served, kept, deadline, witness)
        if model == whisper.SPEC.name:
            cut = await self._run(lambda: chunks(waveform, regions, max_s=served.chunk_s))
            await branches.transcribe(cut, options, lambda index, transcript: None)
        elif model == emotion.SPEC.name:
            await self._hear_emotions(branches, waveform, regions, options)
        elif windows := await self._run(diarization.windows, waveform, regions):
            await branches.embed(windows)

    def _kept(
        self,
        digest: str,
        served: ServedModels,
        deadline: float,
        timings_ms: dict[str, float],
        on_progress: OnProgress = unheard,
    ) -> Kept:
        fingerprints = {**served.fingerprints, **RELEASES}
        return Kept(self._cache, digest, fingerprints, deadline, timings_ms, on_progress)

    async def hear_voice(self, waveform: Waveform, *, deadline: float) -> SpeakerTake:
        """Hear a recording in which one person speaks, to know the voice again later.

        Raises:
            InvalidOption: too little is said in it, or by more than one person.
            ModelUnavailable, DeadlineExceeded, InferenceError: see `api.triton`.
        """
        served = self._serving.stable  # voices of a version on trial are of no use afterwards
        heard = await self._hear_voice(waveform, served, deadline)
        if heard.speech_s < FEWEST_ENROLLED_S:
            raise InvalidOption(
                "Too little speech is heard to know the voice again",
                speech_s=round(heard.speech_s, 2),
                min_speech_s=FEWEST_ENROLLED_S,
            )
        cosine = served.same_speaker_cosine
        labels = await self._run(lambda: cluster(heard.embeddings, same_speaker_cosine=cosine))
        if labels.any():
            raise InvalidOption(
                "More than one voice is heard: enrol a recording in which nobody else speaks",
                voices=int(labels.max()) + 1,
            )
        voice = Voice.of(heard.embeddings)
        release = served.releases[speaker_embedding.SPEC.name]
        return SpeakerTake(
            id=uuid4().hex,
            created_at=datetime.now(timezone.utc),
            speech_s=heard.speech_s,
            windows=voice.windows,
            embedding=voice.direction.astype(np.float32),
            fingerprint=served.fingerprints[speaker_embedding.SPEC.name],
            version=release.version,
            checkpoint=release.checkpoint,
        )

    async def _hear_voice(
        self, waveform: Waveform, served: ServedModels, deadline: float
    ) -> HeardVoice:
        digest = await self._run(samples_digest, waveform)
        kept = self._kept(digest, served, deadline, {})
        regions = (await self._detection.find_speech(kept, waveform, AnalysisOptions())).regions
        windows = diarization.windows(waveform, regions)
        if not windows:
            return HeardVoice(0.0, np.empty((0, 0), np.float32))
        embeddings = await Branches(self._triton, served, kept, deadline).embed(windows)
        return HeardVoice(sum(region.duration_s for region in regions), embeddings)

    async def _known_voice(
        self, reference: VoiceReference, served: ServedModels, deadline: float
    ) -> KnownVoice:
        """
        Raises:
            InvalidOption: nobody speaks in the reference.
        """
        heard = await self._hear_voice(reference.waveform, served, deadline)
        if not len(heard.embeddings):
            raise InvalidOption("A speaker's reference holds no speech", speaker=reference.name)
        return KnownVoice(reference.name, Voice.of(heard.embeddings))

    async def _diarize(
        self,
        branches: Branches,
        waveform: Waveform,
        speech: Speech,
        options: AnalysisOptions,
        references: Sequence[VoiceReference],
    ) -> Spoken:
        served = branches.served
        known: list[KnownVoice] = [
            *await together(*(self._known_voice(r, served, branches.deadline) for r in references))
        ]
        given = {voice.name for voice in known}
        profiles = await self._profiles.all() if options.identify_speakers else []
        fingerprint = served.fingerprints[speaker_embedding.SPEC.name]
        known += [voice for voice in usable(profiles, fingerprint) if voice.name not in given]
        if not options.diarize:
            return Spoken(known_voices=len(known))
        windows = await self._run(diarization.windows, waveform, speech.regions)
        if not windows:
            return Spoken(known_voices=len(known))
        embeddings, overlaps = await together(
            branches.embed(windows),
            self._detection.find_overlaps(branches.kept, waveform, speech.regions, options),
        )

        def find_voices() -> VoiceTrack:
            fewest = options.num_speakers or max(
                options.min_speakers or 1, fewest_speakers(overlaps, speech.talk)
            )
            alone = windows_alone(windows, overlaps, fewest)
            labels = cluster(
                embeddings[alone],
                num_speakers=options.num_speakers,
                min_speakers=fewest,
                max_speakers=options.max_speakers,
                same_speaker_cosine=served.same_speaker_cosine,
            )
            return VoiceTrack.of(windows, embeddings, labels, alone)

        with timed(branches.kept.timings_ms, "clustering"):
            track = await self._run(find_voices)
        branches.kept.on_progress("clustering", 1.0)
        return await self._run(
            _draw, windows, track, speech, overlaps, known, served.same_speaker_cosine
        )

    async def _hear_emotions(
        self,
        branches: Branches,
        waveform: Waveform,
        regions: Sequence[Region],
        options: AnalysisOptions,
    ) -> Sequence[HeardWindow]:
        if not options.emotions:
            return []
        window_s = branches.served.emotion_window_s
        windows = await self._run(emotion.windows, waveform, regions, window_s)
        return await branches.hear(windows)

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        """Run work that computes in a thread, never on the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)


def _draw(
    windows: Sequence[Window],
    track: VoiceTrack,
    speech: Speech,
    overlaps: Sequence[Region],
    known: Sequence[KnownVoice],
    same_speaker_cosine: float,
) -> Spoken:
    """The speakers' turns under their names, of those who are known and of the others."""
    people = recognise(track, known, same_speaker_cosine)
    exclusive = diarization.turns(windows, track, speech.regions, speech.talk)
    names = diarization.names_by_appearance(
        exclusive, track, {speaker: who.name for speaker, who in people.items()}
    )
    return Spoken(
        turns=diarization.renamed(overlapping(exclusive, track, overlaps), names),
        exclusive=diarization.renamed(exclusive, names),
        track=track.renamed(names),
        identities={who.name: who for who in people.values()},
        known_voices=len(known),
    )
