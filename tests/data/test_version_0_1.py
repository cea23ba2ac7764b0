"""Folders of shards that version 0.1 wrote: they are read, and what is missing in them is made."""

import dataclasses
import json
import zlib

import h5py
import numpy as np
import pytest

from kernel_gen.jobs import feature_job, gram_job
from kernel_gen.jobs.runner import run
from linearized import open_embedding, open_gram
from linearized.base.seals import FORMAT
from linearized.storage.manifest import kind_of, load_manifest
from linearized.storage.shards import read_header

SMALL = {"dataset": "DIGITS", "num_train": 90, "num_test": 20, "validation": 10.0, "num_shards": 3}
CONFIGS = {
    "matrix": gram_job.GramJobSettings(kernel="POLYNOMIAL", **SMALL),
    "features": feature_job.EmbedSettings(features="RF", embedding_dim=48, **SMALL),
}


def rewritten_as_0_1(folder):
    """Write the description and the shards of a folder with the layout of version 0.1: no digest and no seal."""
    kind = kind_of(folder)
    manifest = load_manifest(folder, kind)
    current, settings = manifest, dict(manifest.settings)
    del settings["zca_regularization"]  # a flag that version 0.1 did not have
    settings["num_layers"] = settings.pop("hidden_layers") + 1  # it counted the readout
    manifest = dataclasses.replace(manifest, settings=settings)
    record = {"format": 1, **dataclasses.asdict(manifest)} | ({"tile": 1} if manifest.dim else {})
    if not manifest.dim:
        del record["dim"]
    for shard, bands in enumerate(manifest.shards):
        path = manifest.path(folder, shard)
        blocks = [np.array(stored.mapped()) for stored in read_header(path, current, shard)]
        path.unlink()
        with h5py.File(path, "w") as file:
            file.attrs.update({
                "format": 1, "fingerprint": manifest.fingerprint, "dtype": manifest.dtype, "scale": manifest.scale,
                "settings": json.dumps(manifest.settings, sort_keys=True), "shard": shard,
                "rows": json.dumps(manifest.rows, sort_keys=True), "num_shards": len(manifest.shards),
                "bands": json.dumps(bands), "versions": "{}", "pairs_per_second": 5.0, "finished": np.uint8(1),
            })  # fmt: skip
            for band, block in zip(bands, blocks, strict=True):
                file.create_dataset(band.name, data=block).attrs["crc32"] = np.uint32(zlib.crc32(block))
    (folder / kind.file).write_text(json.dumps(record, indent=1, sort_keys=True))


def values(config):
    """Every number of a folder."""
    if isinstance(config, feature_job.EmbedSettings):
        return [rows[:] for rows in open_embedding(config.path()).splits.values()]
    gram = open_gram(config.path(), check=True)
    return [gram.to_memory(), gram.validation.to_memory(), gram.test.to_memory()]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_folder_of_version_0_1_is_read_and_completed(directories, config):
    run(config)
    expected, folder = values(config), config.path()
    rewritten_as_0_1(folder)
    assert FORMAT == 2 and "digest" not in (folder / kind_of(folder).file).read_text()
    for ours, theirs in zip(values(config), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (folder / "shard_0001.h5").unlink()
    assert run(config) == [1]
    for ours, theirs in zip(values(config), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
