"""Image folders as --data: equal to the same arrays, and one line for each thing that is wrong with pictures."""

import numpy as np
import pytest
from PIL import Image

from linearized import from_arrays
from linearized.base.errors import UserError
from linearized.cli.data import command
from linearized.data.loading import load_rows
from linearized.data.sources import image_folder
from linearized.data.sources.image_folder import skipped_notes
from linearized.experiments.fit_results import about_data
from linearized.experiments.train import TrainSettings


def images(count=12, shape=(6, 6)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def folder_of(folder, arrays, labels, suffix="png"):
    """Write one picture per array; names keep the order of the rows within a class."""
    for row, (array, label) in enumerate(zip(arrays, labels, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / label / f"{row:03d}.{suffix}")
    return folder


def loaded(path, **settings):
    return load_rows(TrainSettings(data=str(path), **settings), 0)


def assert_same(one, two):
    assert one.splits().keys() == two.splits().keys()
    for name, split in one.splits().items():
        np.testing.assert_array_equal(split.x, two.splits()[name].x)
        np.testing.assert_array_equal(split.y, two.splits()[name].y)
    assert (one.task, one.class_names, one.image_shape) == (two.task, two.class_names, two.image_shape)


@pytest.mark.parametrize("shape", [(6, 6), (6, 4, 3)])
def test_class_folders_are_the_same_as_arrays(tmp_path, shape):
    x, y = images(shape=shape), np.repeat(["apple", "pear", "plum"], 4)
    assert_same(loaded(folder_of(tmp_path / "fruit", x, y), seed=3), from_arrays(x, y, images=True, seed=3))


def test_train_and_test_folders_are_the_same_as_arrays_and_as_finetune_reads_them(tmp_path):
    x, y = images(), np.repeat(["a", "b", "c"], 4)
    folder_of(tmp_path / "set" / "train", x[::2], y[::2])
    folder_of(tmp_path / "set" / "test", x[1::2], y[1::2])
    dataset = loaded(tmp_path / "set")
    assert_same(dataset, from_arrays(x[::2], y[::2], x[1::2], y[1::2], images=True))
    tuned = image_folder.load(tmp_path / "set", (6, 6, 1))
    rows, others = (sorted(x.tolist()) for x in (tuned.train.x, dataset.train.x))
    np.testing.assert_allclose(rows, others, rtol=1e-6)


def test_pictures_of_several_sizes_are_counted_and_brought_to_one(tmp_path):
    folder_of(tmp_path, [*images(5), *images(2, (4, 8)), images(1, (3, 3))[0]], [*"aabb", *"abab"])
    with pytest.raises(UserError, match=r"3 sizes \(height x width\): 5 of 6x6, 2 of 4x8, 1 of 3x3.*--image_size=6"):
        loaded(tmp_path)
    assert loaded(tmp_path, image_size="6").image_shape == (6, 6, 1)
    assert loaded(tmp_path, image_size="4x8").image_shape == (4, 8, 1)
    for wrong in ("0", "6x", "six", "6x6x3", "99999"):
        with pytest.raises(UserError, match="--image_size takes a side"):
            loaded(tmp_path, image_size=wrong)


def test_grey_among_colour_is_refused_until_channels_are_given(tmp_path):
    grey, colour = images(4), images(4, (6, 6, 3))
    folder_of(tmp_path, [*grey, *colour], [*"abab", *"abab"])
    with pytest.raises(UserError, match=r"4 grey pictures and 4 in colour. Give --channels=colour"):
        loaded(tmp_path)
    as_colour = [*(np.stack([one] * 3, -1) for one in grey), *colour]
    rows = np.argsort([*"abab", *"abab"], kind="stable")
    direct = from_arrays(np.array(as_colour)[rows], np.array([*"abab", *"abab"])[rows], images=True)
    assert_same(loaded(tmp_path, channels="colour"), direct)
    assert loaded(tmp_path, channels="grey").image_shape == (6, 6, 1)


def test_palette_cmyk_and_exif_rotation_are_what_a_viewer_shows(tmp_path):
    x = images(4, (6, 4, 3))
    x[:2] = x[:2] // 128 * 255  # eight colours: a palette loses none
    for row, label in enumerate("abab"):
        (tmp_path / label).mkdir(exist_ok=True)
        if row < 2:
            Image.fromarray(x[row]).quantize(8, dither=Image.Dither.NONE).save(tmp_path / label / f"{row}.png")
    inverted = Image.merge("CMYK", [*Image.fromarray(255 - x[2]).split(), Image.new("L", (4, 6), 0)])
    inverted.save(tmp_path / "a" / "2.tif")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show it
    Image.fromarray(np.rot90(x[3])).save(tmp_path / "b" / "3.png", exif=exif)
    dataset = loaded(tmp_path, test_fraction=0.25)
    found = np.concatenate([dataset.train.x, dataset.test.x]).reshape(4, 6, 4, 3) * 255
    for image in x:
        assert np.abs(found - image).max(axis=(1, 2, 3)).min() < 1.5


def test_pictures_of_16_bits_keep_their_samples(tmp_path):
    x = np.random.default_rng(0).integers(0, 65_536, (6, 5, 5), dtype=np.uint16)
    folder_of(tmp_path, x, "ababab")
    dataset = loaded(tmp_path, test_fraction=0.3)
    found = np.concatenate([dataset.train.x, dataset.test.x])
    order = np.concatenate([x[::2], x[1::2]]).reshape(6, -1) / 65_535
    assert len(np.unique(found)) > 120
    for row in order:
        assert np.abs(found - row).max(axis=1).min() < 1e-6


def test_truncated_files_are_named_or_skipped_and_listed(tmp_path):
    folder_of(tmp_path, images(10, (30, 30)), [*"ab"] * 5)
    broken = [tmp_path / "a" / "002.png", tmp_path / "b" / "003.png"]
    broken[0].write_bytes(broken[0].read_bytes()[:500])  # its header is whole
    broken[1].write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"00[23].png .*--skip_bad"):
        loaded(tmp_path)
    dataset = loaded(tmp_path, skip_bad=True)
    assert len(dataset.train) + len(dataset.test) == 8
    assert dataset.notes == {"pictures_skipped": 2, "pictures_skipped_names": "a/002.png, b/003.png"}
    recorded = about_data(dataset)
    assert recorded["pictures_skipped"] == 2 and recorded["pictures_skipped_names"] == "a/002.png, b/003.png"
    many = [tmp_path / f"{number:02d}.png" for number in range(12)]
    names = ", ".join(f"{number:02d}.png" for number in range(10))
    assert skipped_notes(many, tmp_path) == {"pictures_skipped": 12, "pictures_skipped_names": f"{names} and 2 more"}


def test_a_picture_that_decompresses_without_end_is_refused_before_it_is_decoded(tmp_path):
    folder_of(tmp_path, images(4), "abab")
    with (tmp_path / "a" / "bomb.png").open("wb") as file:
        Image.new("1", (40_000, 40_000)).save(file)
    with pytest.raises(UserError, match=r"bomb.png .*40000 x 40000 pixels"):
        loaded(tmp_path)
    assert loaded(tmp_path, skip_bad=True).notes["pictures_skipped_names"] == "a/bomb.png"


def test_a_changed_picture_is_another_run_and_another_place_is_not(tmp_path):
    for name in ("one", "two", "three"):
        folder_of(tmp_path / name, images(), np.repeat(["a", "b"], 6))
    Image.fromarray(images(13)[-1]).save(tmp_path / "three" / "a" / "000.png")
    names = [TrainSettings(data=str(tmp_path / name)).run_name() for name in ("one", "two", "three")]
    names = [name.replace(folder, "") for name, folder in zip(names, ("one", "two", "three"), strict=True)]
    assert names[0] == names[1] != names[2]


def test_flags_of_pictures_are_refused_for_other_formats(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 3)), y=[0, 1, 0, 1])
    from linearized.experiments.train import TrainSettings as Settings

    for flag in ("image_size", "channels", "skip_bad"):
        with pytest.raises(UserError, match=flag):
            Settings(data=str(tmp_path / "a.npz"), **{flag: {"image_size": "8", "channels": "grey"}.get(flag, True)})


def test_a_validation_part_in_the_place_of_the_test_part_is_told_once(tmp_path, caplog, capsys):
    for part in ("train", "validation"):
        for name in ("cat", "dog"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(3):
                Image.new("L", (8, 8), 10 * number).save(tmp_path / "data" / part / name / f"{number}.png")
        (tmp_path / "data" / part / "loose.png").touch()
    with caplog.at_level("INFO"):
        assert command([f"--data={tmp_path / 'data'}", f"--out={tmp_path / 'a.png'}"]) == 0
    assert "6 train, 6 test rows" in capsys.readouterr().out
    lines = [record.getMessage() for record in caplog.records]
    assert sum("its validation part is scored as one" in line for line in lines) == 1
    assert sum("passed over 1 pictures" in line for line in lines) == 2  # one per part
