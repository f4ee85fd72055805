"""Write a trained network as the folder that SpeechBrain's ``EncoderClassifier`` loads.

Same files and same keys as ``speechbrain/spkrec-ecapa-voxceleb`` on the hub, so that whatever reads
one reads the other.
"""

from __future__ import annotations

from pathlib import Path

import torch

from export.training.speaker_network import (
    ARCHITECTURE,
    EMBEDDING_DIM,
    NUM_MELS,
    SpeakerNetwork,
)

BUNDLED_FOLDER = "export/checkpoints/speaker_embedding"

# Measured with speakers held out (model card); training voices would give a value too high.
SAME_SPEAKER_COSINE = 0.5

_HYPERPARAMS = """\
# The keys of speechbrain/spkrec-ecapa-voxceleb. `pretrained_path` is relative to the repository's
# root; from anywhere else, and for a copy of this folder, override it:
#   EncoderClassifier.from_hparams(source=FOLDER, overrides={{"pretrained_path": FOLDER}})
pretrained_path: {pretrained_path}
n_mels: {num_mels}
sample_rate: 16000
n_channels: 1
out_n_neurons: {num_classes}
# Not SpeechBrain's: median cosine of two windows of 1.5 s by one voice never heard in training.
# Clustering is calibrated by it (api/services/clustering.py).
same_speaker_cosine: {same_speaker_cosine}

compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>

mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False

embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
{architecture}

classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: {embedding_dim}
    out_neurons: !ref <out_n_neurons>

mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False

modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
    classifier: !ref <classifier>

label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        mean_var_norm_emb: !ref <mean_var_norm_emb>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        mean_var_norm_emb: !ref <pretrained_path>/mean_var_norm_emb.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""


def save(network: SpeakerNetwork, folder: Path, pretrained_path: str = BUNDLED_FOLDER) -> None:
    """Write hyperparams.yaml, the three .ckpt files and label_encoder.txt into ``folder``.

    ``mean_var_norm_emb`` holds zero: the centring is part of the embedding model's last bias.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.encoder.state_dict(), folder / "embedding_model.ckpt")
    torch.save(network.classifier.state_dict(), folder / "classifier.ckpt")
    neutral = {
        "count": 1,
        "glob_mean": torch.zeros(EMBEDDING_DIM),
        "glob_std": torch.ones(EMBEDDING_DIM),
    }
    torch.save(neutral, folder / "mean_var_norm_emb.ckpt")
    labels = "".join(f"'{name}' => {i}\n" for i, name in enumerate(network.class_names))
    (folder / "label_encoder.txt").write_text(
        f"{labels}================\n'starting_index' => 0\n", encoding="utf-8"
    )
    architecture = "\n".join(f"    {key}: {value}" for key, value in ARCHITECTURE.items())
    (folder / "hyperparams.yaml").write_text(
        _HYPERPARAMS.format(
            pretrained_path=pretrained_path,
            num_mels=NUM_MELS,
            num_classes=len(network.class_names),
            same_speaker_cosine=SAME_SPEAKER_COSINE,
            architecture=architecture,
            embedding_dim=EMBEDDING_DIM,
        ),
        encoding="utf-8",
    )
