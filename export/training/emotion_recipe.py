"""The numbers of the emotion recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """What a training run can vary; the defaults made the bundled checkpoint.

    Attributes:
        speeds: copies of every emotional clip, each at another speed.
        max_speed_change: largest change of speed, and with it of pitch and formants.
        digit_strings: strings of spoken digits made from FSDD.
        digit_share: share of these among the last stage's windows, where they count as neutral.
        ear_steps: steps of 16 one-second windows in which the convolutions learn.
        windows_per_clip: disturbed two-second windows of each clip, for the transformer.
        sense_steps: steps in which it learns pitch and statistics.
        emotion_steps: steps in which it learns emotions as well.
        batch_size: windows per step of the last two stages.
        learning_rate: peak, of every stage.
        weight_decay: of AdamW.
        auxiliary_weight: weight of pitch and statistics in the last stage.
        mixup: parameter of the Beta distribution from which two windows' shares are drawn.
        label_smoothing: probability that is spread evenly over all labels.
        seed: of everything random.
    """

    speeds: int = 6
    max_speed_change: float = 0.18
    digit_strings: int = 400
    digit_share: float = 0.05
    ear_steps: int = 600
    windows_per_clip: int = 2
    sense_steps: int = 600
    emotion_steps: int = 800
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    auxiliary_weight: float = 0.5
    mixup: float = 0.4
    label_smoothing: float = 0.1
    seed: int = 0

    def scaled_to(self, emotion_steps: int | None) -> Recipe:
        """The same recipe, that many steps in the last stage, the other stages in proportion.

        Raises:
            ValueError: not a positive number.
        """
        if emotion_steps is None:
            return self
        if emotion_steps < 1:
            raise ValueError(f"steps must be positive, not {emotion_steps}")
        factor = emotion_steps / self.emotion_steps
        return replace(
            self,
            ear_steps=math.ceil(self.ear_steps * factor),
            sense_steps=math.ceil(self.sense_steps * factor),
            emotion_steps=emotion_steps,
        )
