"""Write ECAPA-TDNN weights as the folder that SpeechBrain's ``EncoderClassifier`` loads.

Same files and same keys as ``speechbrain/spkrec-ecapa-voxceleb`` on the hub, so that whatever reads
one reads the other. Needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

NUM_MELS = 80

_HYPERPARAMS = """\
# The keys of speechbrain/spkrec-ecapa-voxceleb. `pretrained_path` is relative to the repository's
# root; from anywhere else, and for a copy of this folder, override it:
#   EncoderClassifier.from_hparams(source=FOLDER, overrides={{"pretrained_path": FOLDER}})
pretrained_path: {pretrained_path}
n_mels: {num_mels}
sample_rate: 16000
n_channels: 1
out_n_neurons: {num_classes}
{own_keys}
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


def write_speechbrain_folder(
    folder: Path,
    encoder: torch.nn.Module,
    classifier: torch.nn.Module,
    *,
    architecture: Mapping[str, Any],
    class_names: Sequence[str],
    pretrained_path: str,
    own_keys: str = "",
) -> None:
    """Write hyperparams.yaml, the three .ckpt files and label_encoder.txt into ``folder``.

    ``mean_var_norm_emb`` holds zero: embeddings leave the network centred, or don't care.

    Args:
        architecture: ECAPA_TDNN's keyword arguments; ``lin_neurons`` is the embedding's size.
        pretrained_path: what hyperparams.yaml says of where the folder lies.
        own_keys: lines of YAML that SpeechBrain's file doesn't have, each ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dimension = architecture["lin_neurons"]
    neutral = {
        "count": 1,
        "glob_mean": torch.zeros(dimension),
        "glob_std": torch.ones(dimension),
    }
    torch.save(encoder.state_dict(), folder / "embedding_model.ckpt")
    torch.save(classifier.state_dict(), folder / "classifier.ckpt")
    torch.save(neutral, folder / "mean_var_norm_emb.ckpt")
    labels = "".join(f"'{name}' => {index}\n" for index, name in enumerate(class_names))
    (folder / "label_encoder.txt").write_text(
        f"{labels}================\n'starting_index' => 0\n", encoding="utf-8"
    )
    (folder / "hyperparams.yaml").write_text(
        _HYPERPARAMS.format(
            pretrained_path=pretrained_path,
            num_mels=NUM_MELS,
            num_classes=len(class_names),
            own_keys=own_keys,
            architecture="\n".join(f"    {key}: {value}" for key, value in architecture.items()),
            embedding_dim=dimension,
        ),
        encoding="utf-8",
    )
