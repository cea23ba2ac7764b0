"""Descriptions of matrices and embeddings: an entry of another kind is named, before anything is computed from it."""

import json

import pytest

from kernel_gen.jobs.tiles import divide
from linearized.base.errors import UserError
from linearized.storage import embeddings, manifest
from linearized.storage.embeddings import EmbeddingManifest
from linearized.storage.manifest import Manifest

ROWS = {"train": 12, "test": 5}
KINDS = {
    "matrix": (Manifest, divide(ROWS, 2, 4), manifest, {}),
    "embedding": (EmbeddingManifest, embeddings.divide(ROWS, 2), embeddings, {"dim": 7}),
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
    ],
)
def test_an_entry_of_another_kind_is_named(tmp_path, kind, change, named):
    made, bands, module, more = KINDS[kind]
    module.save_once(tmp_path, made({}, "f00d", "float32", "stax", ROWS, 4, bands, "make it", **more))
    path = tmp_path / module.FILE
    record = {**json.loads(path.read_text()), "format": 1, **change}  # as version 0.1 wrote it, without a digest
    del record["digest"]
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"{path} is damaged or not the description of an? .*{named}"):
        module.load_manifest(tmp_path)
