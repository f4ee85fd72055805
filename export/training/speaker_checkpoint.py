"""The bundled speaker checkpoint: a trained network as SpeechBrain's folder."""

from __future__ import annotations

from pathlib import Path

from export.speechbrain_folder import write_speechbrain_folder
from export.training.speaker_network import ARCHITECTURE, SpeakerNetwork

BUNDLED_FOLDER = "export/checkpoints/speaker_embedding"

# Chosen with speakers held out (model card); training voices would give a value too high.
SAME_SPEAKER_COSINE = 0.55

_OWN_KEYS = f"""\
# Not SpeechBrain's: typical cosine of two windows of 1.5 s by one voice never heard in training.
# Clustering is calibrated by it (api/services/clustering.py).
same_speaker_cosine: {SAME_SPEAKER_COSINE}
"""


def save(network: SpeakerNetwork, folder: Path, pretrained_path: str = BUNDLED_FOLDER) -> None:
    """Write the network's five files into ``folder``.

    The centring of embeddings is part of the embedding model's last bias.
    """
    write_speechbrain_folder(
        folder,
        network.encoder,
        network.classifier,
        architecture=ARCHITECTURE,
        class_names=network.class_names,
        pretrained_path=pretrained_path,
        own_keys=_OWN_KEYS,
    )
