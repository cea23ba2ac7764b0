"""Readers of data sets of scikit-learn and of OpenML by name, through scikit-learn's loaders and fetchers.

`sklearn:NAME` is `load_NAME` (in the package) or `fetch_NAME` (downloaded once into `$SCIKIT_LEARN_DATA`): iris,
digits, wine, breast_cancer, diabetes, linnerud, olivetti_faces, california_housing, covtype, lfw_people. Images keep
their shape, and no values are changed. `openml:NAME` is a table of openml.org, `openml:NAME@2` version 2
of this table, and `openml:61` the table with the number 61.
"""

from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.readers.fetched import Fetched, failed

NETWORK = "Check the name and the network, or download it elsewhere and give it as a file."


class Sklearn(Fetched):
    """Reader of scikit-learn's data sets, `--data=sklearn:NAME`."""

    scheme = "sklearn"

    def fetch(self, name: str) -> OwnArrays:
        """Return the arrays of scikit-learn's function `load_<name>` or `fetch_<name>`, which may download them.

        Raises `UserError` for an unknown name, and if the function fails.
        """
        from sklearn import datasets

        loaders = {one.partition("_")[2]: one for one in datasets.__all__ if one.startswith(("load_", "fetch_"))}
        loader = loaders.get(name)
        if loader is None or loader in _OTHERS:
            known = sorted(one for one, function in loaders.items() if function not in _OTHERS)
            raise UserError(f"Unknown data set sklearn:{name}. The choices are: {', '.join(known)}.")
        try:
            bunch = getattr(datasets, loader)()
        except Exception as error:  # a download may raise any exception
            raise failed(f"sklearn:{name}", error, NETWORK) from error
        return from_bunch(bunch)


class OpenML(Fetched):
    """Reader of tables of OpenML: `openml:NAME`, `openml:NAME@VERSION` or `openml:NUMBER`."""

    scheme = "openml"
    reads: tuple[str, ...] = ("target",)

    def fetch(self, name: str, target: str = "") -> OwnArrays:
        """Download a table of OpenML unless that was done before, and return its inputs and labels.

        Args:
            name: Name, "NAME@VERSION", or number of the table.
            target: Names of the columns of the labels, separated by commas; "" selects the table's default.

        Raises `UserError` if the table cannot be downloaded.
        """
        from sklearn import datasets

        title, _, version = name.partition("@")
        if version and not version.isdigit():
            raise UserError(f"The version of openml:{name[:60]} must be a number, such as openml:{title[:40]}@1.")
        which: dict[str, Any] = {"data_id": int(name)} if name.isdigit() else {"name": title}
        which |= {"version": int(version)} if version else {}
        wanted = target.split(",") if target else "default-target"
        try:
            bunch = datasets.fetch_openml(**which, target_column=wanted, as_frame=True)
        except Exception as error:  # a download may raise any exception
            raise failed(f"openml:{name}", error, NETWORK) from error
        return OwnArrays(bunch.data, None if bunch.target is None else bunch.target.to_numpy())


_OTHERS = (
    "load_files",
    "load_svmlight_file",
    "load_svmlight_files",
    "load_sample_image",
    "load_sample_images",
    "fetch_openml",
    "fetch_file",
    "fetch_20newsgroups",
    "fetch_20newsgroups_vectorized",
    "fetch_rcv1",
    "fetch_species_distributions",
    "fetch_kddcup99",
    "fetch_lfw_pairs",
)  # fmt: skip - no table of numbers, or not dense


def from_bunch(bunch: Any) -> OwnArrays:
    """Convert the value of a scikit-learn loader, a `Bunch`, to inputs and labels.

    Inputs are images if the loader has them. The names of the classes are kept if labels are the class numbers 0, 1,
    ...
    """
    images = getattr(bunch, "images", None)
    x = np.asarray(bunch.data if images is None else images)
    y = np.asarray(bunch.target)
    names = getattr(bunch, "target_names", None)
    whole = y.ndim == 1 and y.dtype.kind in "iu"
    named = names is not None and whole and len(names) == int(y.max()) + 1 and int(y.min()) == 0
    return OwnArrays(x, y, images=images is not None, class_names=tuple(map(str, names)) if named else None)


SKLEARN, OPENML = Sklearn(), OpenML()
