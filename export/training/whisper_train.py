"""The training loop of the tiny Whisper: seeded, saved as it goes, resumable."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.training.whisper_data import WindowMaker
from export.training.whisper_losses import Losses, encoder_losses, full_losses
from export.training.whisper_model import TrainableWhisper
from export.training.whisper_schedule import draw_window, learning_rate, phase_at
from export.training.whisper_trial import SpokenString, word_error_rate
from export.training.whisper_vocabulary import CompactVocabulary

WEIGHT_DECAY = 0.02
MAX_GRADIENT_NORM = 1.0
AVERAGE_DECAY = 0.998
REPORT_EVERY_STEPS = 50
SAVE_EVERY_S = 240.0
TRIAL_WINDOW_S = 12.0


@dataclass(frozen=True)
class Budget:
    """How long to train: by steps (exactly repeatable) or by minutes, from ``begin`` (0..1) on."""

    steps: int | None
    minutes: float
    begin: float = 0.0

    def progress(self, step: int, elapsed_s: float) -> float:
        """Share of the whole schedule that lies behind, ``begin`` at the start and 1 at the end."""
        share = step / self.steps if self.steps else elapsed_s / (60 * self.minutes)
        return self.begin + (1 - self.begin) * share


@dataclass
class Progress:
    """Where a run stands; saved with it. ``log`` holds the periodic reports."""

    step: int = 0
    elapsed_s: float = 0.0
    phase_first_step: int = 0
    encoder_only: bool = True
    log: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains until the budget is spent, keeping a running average of the weights for export.

    Args:
        model: what to train.
        windows: where the training data comes from.
        trials: held-out strings by name; their WER is reported at every save.
        state_path: where the state is saved, and resumed from if it exists.
        say: prints a line.
    """

    def __init__(
        self,
        model: TrainableWhisper,
        windows: WindowMaker,
        vocabulary: CompactVocabulary,
        trials: Mapping[str, Sequence[SpokenString]],
        budget: Budget,
        state_path: Path,
        say: Callable[[str], None],
    ) -> None:
        self.model, self.windows, self.vocabulary = model, windows, vocabulary
        self.trials, self.budget, self.state_path, self.say = trials, budget, state_path, say
        self.average = TrainableWhisper(vocabulary)
        self.average.load_state_dict(model.state_dict())
        self.average.requires_grad_(False).eval()
        self.optimizers = make_optimizers(model)
        self.progress = Progress()
        self._sums = np.zeros(5)

    def run(self) -> Progress:
        """Train to the end of the budget, save, and return where the run stands."""
        if self.state_path.exists():
            self._resume()
        started_s, last_save_s = time.monotonic() - self.progress.elapsed_s, time.monotonic()
        self.model.train()
        while (share := self._share()) < 1.0:
            self._step(share)
            self.progress.elapsed_s = time.monotonic() - started_s
            if self.progress.step % REPORT_EVERY_STEPS == 0:
                self._report(share)
            if time.monotonic() - last_save_s > SAVE_EVERY_S:
                self._try_and_save()
                last_save_s = time.monotonic()
        self._try_and_save()
        return self.progress

    def _share(self) -> float:
        return self.budget.progress(self.progress.step, self.progress.elapsed_s)

    def _step(self, share: float) -> None:
        progress = self.progress
        encoder_only = phase_at(share).encoder_only
        if encoder_only != progress.encoder_only:
            progress.encoder_only, progress.phase_first_step = encoder_only, progress.step
        rate = learning_rate(share, progress.step - progress.phase_first_step)
        batch = self.windows.batch(*draw_window(share, self.windows.rng))
        if encoder_only:
            losses = encoder_losses(self.model, batch)
        else:
            losses = full_losses(self.model, batch, self.vocabulary)
        losses.total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        progress.step += 1
        self._update_average()
        self._sums += [float(value.detach()) for value in _values(losses)]

    def _update_average(self) -> None:
        decay = min(AVERAGE_DECAY, (self.progress.step + 1) / (self.progress.step + 10))
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        for mean, weight in pairs:
            mean.lerp_(weight.detach(), 1 - decay)

    def _report(self, share: float) -> None:
        means = self._sums / REPORT_EVERY_STEPS
        self._sums[:] = 0
        names = ("tokens", "frames", "digits", "guide", "accuracy")
        progress = self.progress
        entry = {name: round(float(mean), 4) for name, mean in zip(names, means, strict=True)}
        progress.log.append({"step": progress.step, "seconds": round(progress.elapsed_s), **entry})
        spent = max(share - self.budget.begin, 1e-6)
        left_min = progress.elapsed_s / 60 * (1 - share) / spent
        shown = " ".join(f"{name} {value:.3f}" for name, value in entry.items())
        self.say(f"step {progress.step} {share:.1%} {shown} left {left_min:.0f} min")

    def _try_and_save(self) -> None:
        if not self.progress.encoder_only:
            rates = {
                name: word_error_rate(self.average, strings, TRIAL_WINDOW_S, self.vocabulary)
                for name, strings in self.trials.items()
            }
            self.progress.log.append({"step": self.progress.step, **rates})
            shown = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items())
            self.say(f"step {self.progress.step} WER: {shown}")
        self._save()

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.windows.rng.bit_generator.state,
            "progress": vars(self.progress),
        }
        partial = self.state_path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.state_path)
        log_path = self.state_path.with_name("log.json")
        log_path.write_text(json.dumps(self.progress.log, indent=1) + "\n")

    def _resume(self) -> None:
        state = load_state(self.state_path)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.windows.rng.bit_generator.state = state["generator"]
        self.progress = Progress(**state["progress"])
        self.say(f"resumed at step {self.progress.step}")


def load_state(path: Path) -> dict[str, Any]:
    """Read a state that a Trainer saved. It is a pickle: only load your own."""
    state: dict[str, Any] = torch.load(path, weights_only=False)
    return state


def make_optimizers(model: TrainableWhisper) -> list[torch.optim.Optimizer]:
    """Muon for the hidden layers' matrices, AdamW for all else.

    Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) reached the same encoder
    loss as AdamW in five sixths of the steps here.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            hidden = weight.dim() == 2 and ".layers." in name
            (matrices if hidden else others).append(weight)
    return [
        torch.optim.Muon(
            matrices,
            weight_decay=WEIGHT_DECAY,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY),
    ]


def _values(losses: Losses) -> tuple[Tensor, ...]:
    return losses.tokens, losses.frames, losses.digits, losses.guide, losses.accuracy
