"""Write the hashes of ids into a checkpoint of an older bakit, from its training folder.

python tests/benchmarks/add_id_hashes.py bakit/weights/bakit-rsna100.safetensors DATA
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import msgspec

from bakit.data.labels import known_split, read_samples, split_record
from bakit.model.checkpoint import Checkpoint, FloatReference


def main() -> None:
    """Replace the checkpoint by one with hashes; its weights stay as they are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path, help="its training folder, complete")
    parser.add_argument(
        "--references", type=int, nargs="+", metavar="N", help="keep these reference images only"
    )
    given = parser.parse_args()
    checkpoint = Checkpoint.read(given.checkpoint)
    training = checkpoint.header.training
    parts = training and known_split(read_samples(given.data), training.split)
    if not training or not parts:
        parser.error(f"{given.data}: not the training folder of {given.checkpoint}")
    record = split_record(parts, training.split.seed, training.split.excluded_ids)
    if record.ids_sha256 != training.split.ids_sha256:
        parser.error(f"{given.data}: some images of {given.checkpoint} are missing")
    training = msgspec.structs.replace(training, split=record)
    written = checkpoint.with_header(training=training)
    if (found := written.reference) is not None and given.references is not None:
        kept = {name: value[given.references] for name, value in vars(found).items()}
        written = replace(written, reference=FloatReference(**kept))
    written = written.write(given.checkpoint)
    print(f"{given.checkpoint}: {sum(map(len, parts))} images; weights {written.weights_sha256}")


if __name__ == "__main__":
    main()
