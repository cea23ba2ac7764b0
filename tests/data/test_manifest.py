"""Descriptions of matrices and embeddings: an entry of another kind is named, before anything is computed from it."""

import json

import pytest

from kernel_gen.jobs.tiles import divide, divide_features
from linearized.base.errors import UserError
from linearized.storage.manifest import FEATURES, GRAM, Manifest, load_manifest, save_once

ROWS = {"train": 12, "test": 5}
KINDS = {
    "matrix": (GRAM, divide(ROWS, 2, 4), 0),
    "embedding": (FEATURES, divide_features(ROWS, 2), 7),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change, named",
    [
        ({"settings": None}, "settings"),
        ({"settings": []}, "settings"),
        ({"fingerprint": 5}, "fingerprint"),
        ({"dtype": "object"}, "dtype cannot be object"),
        ({"dtype": ["float32"]}, "dtype"),
        ({"scale": None}, "scale"),
        ({"command": ["rm"]}, "command"),
        ({"rows": {"train": 12.0, "test": 5}}, "rows"),
        ({"rows": {"train": -12, "test": 5}}, "rows"),
        ({"rows": {"test": 5}}, "rows"),
        ({"rows": []}, "rows"),
        ({"rows": {"train": 12, "other": 5}}, "rows"),
        ({"rows": {"train": 13, "test": 5}}, "12 rows of train, not 13"),
        ({"tile": 0}, "tile"),
        ({"tile": True}, "tile"),
        ({"shards": []}, "0 rows of (train|test), not"),
        ({"shards": None}, "NoneType"),
        ({"shards": [[["train", 0, 12], ["test", 0, 5]], [["test", 0, 5]]]}, "in no shard, or in two"),
        ({"shards": [[["train", 0, "12"], ["test", 0, 5]]]}, "shards"),
        ({"shards": [[["train", 0, 12], ["test", 0, 5], ["dev", 0, 5]]]}, "shards"),
        ({"shards": [[["train", 0]]]}, "stop"),
        ({"surprise": 1}, "surprise"),
        ({"dim": -1}, "dim"),
        ({"dim": "7"}, "dim"),
    ],
)
def test_an_entry_of_another_kind_is_named(tmp_path, kind, change, named):
    kind, bands, dim = KINDS[kind]
    save_once(tmp_path, Manifest({}, "f00d", "float32", "stax", ROWS, 4, bands, "make it", dim))
    path = tmp_path / kind.file
    record = {**json.loads(path.read_text()), "format": 1, **change}  # as version 0.1 wrote it, without a digest
    del record["digest"]
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"{path} is damaged or not the description of an? .*{named}"):
        load_manifest(tmp_path, kind)
