"""The networks of `linearized.models` as scikit-learn estimators, trained by `linearized.solvers.training.sgd`."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_random_state, column_or_1d, validate_data

from linearized.data.dataset import Dataset, Split, fingerprint
from linearized.models import NETWORK, declaration

ROWS = 64  # rows per block of predictions; the last block is padded, so that outputs do not depend on other rows


class _Network(BaseEstimator):
    """Base class of the classifier and the regressor, which define the task, the loss and the coding of y."""

    def __init__(
        self, model=NETWORK, num_units=128, *, ridge=0.0, epochs=100, learning_rate=0.01, batch_size=32,
        optimizer="adam", image_shape=None, settings=None, random_state=0,
    ):  # fmt: skip
        self.model, self.num_units, self.ridge, self.epochs = model, num_units, ridge, epochs
        self.learning_rate, self.batch_size, self.optimizer = learning_rate, batch_size, optimizer
        self.image_shape, self.settings, self.random_state = image_shape, settings, random_state

    def _trained(self, x, y, task, num_classes, loss):
        """Build the network, train it on all rows, and set the attributes `weights_`, `loss_curve_` and `diverged_`.

        Args:
            x: Rows (n, d).
            y: Class numbers or standardised targets, float32 of shape (n, 1).
            task: "classes" or "regression".
            num_classes: Number of classes; 0 for regression.
            loss: "square" or "cross_entropy".

        Raises:
            ValueError: If training diverges in the first epoch.
        """
        from linearized.models.backend import load_backend

        load_backend()
        from linearized.solvers.training import sgd
        from linearized.solvers.training.recipe import Recipe

        rows = Split(x, y)
        shape = None if self.image_shape is None else tuple(self.image_shape)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._outline = Dataset(
            name="arrays", noise_ind=0, train=rows, validation=None, test=rows, task=task, num_classes=num_classes,
            image_shape=shape, family="OWN", fingerprint=fingerprint(x, y),
        )  # fmt: skip
        self._network = self._built()
        result = sgd.fit(
            self._network, self._outline, learning_rate=self.learning_rate, epochs=self.epochs,
            batch_size=self.batch_size, loss=loss, optimizer=self.optimizer, seed=self._seed,
            recipe=Recipe(schedule="cosine", warm_up=min(5, self.epochs // 5)),
        )  # fmt: skip
        if result.epochs_done == 0:
            raise ValueError(f"{self.model}: {result.message}")
        outline = Split(x[:1], y[:1])
        self._outline = Dataset(**{**vars(self._outline), "train": outline, "test": outline})
        self.weights_, self.loss_curve_ = self._network.get_weights(), result.history["loss"]
        self.diverged_ = result.diverged
        if self.diverged_:
            warnings.warn(f"{self.model}: {result.message} The weights before that are kept; lower learning_rate.",
                          ConvergenceWarning, stacklevel=3)  # fmt: skip

    def _built(self):
        from linearized.experiments.train_settings import TrainSettings
        from linearized.models.common import build

        own = {"model": self.model, "num_units": self.num_units, "seed": self._seed}
        given = dict(self.settings or {})
        read = declaration(self.model).reads
        if refused := sorted(name for name in given if name in own or name not in read):
            raise ValueError(
                f"settings takes flags that {self.model} reads and the estimator has no argument of: "
                f"{', '.join(sorted(set(read) - set(own)))}. Received: {', '.join(refused)}."
            )
        config = TrainSettings(**own, **given)
        config.refuse_unread(given)
        return build(config, self._outline, self.ridge)

    def _outputs(self, X):
        """Return the network's outputs (m, k) for rows X (m, d), in float64."""
        from linearized.solvers.training import sgd

        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32)
        if self._network is None:
            self._network = self._built()
            self._network.set_weights(self.weights_)
        filled = np.concatenate([X, np.zeros((-len(X) % ROWS, X.shape[1]), np.float32)])
        return sgd.predict(self._network, filled, ROWS)[: len(X)].astype(np.float64)

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "_network" in state:
            state["_network"] = None  # rebuilt from `weights_` when it is needed
        return state


class NetworkClassifier(ClassifierMixin, _Network):
    """Classifier: a network trained with the cross-entropy loss.

    Parameters
    ----------
    model : Name of a model in `linearized.models.MODELS`, such as "NN", "CNN" or "SNNK_MLP".
    num_units : Number of units of a layer, or of channels of a convolutional network.
    ridge : λ, the strength of the model's own penalty on its weights; 0: no penalty.
    epochs, learning_rate, batch_size, optimizer : Training settings. `optimizer` is "adam", "adamw" or "sgd". The
        learning rate rises to `learning_rate` during the first fifth of the epochs, five at most, and then falls to 0
        along half a cosine.
    image_shape : (height, width, channels) of a row's image; required for models of images.
    settings : dict of further flags of `linearized train` that the model reads, such as {"num_layers": 2}.
    random_state : Random-number seed of the initial weights and of the order of the rows.

    Attributes
    ----------
    classes_ : The labels, in the order of the columns of `predict_proba`.
    weights_ : The trained weights, as returned by `keras.Model.get_weights`.
    loss_curve_ : The training loss of each epoch.
    diverged_ : Whether training stopped early because the loss was not finite.

    Inputs are not standardised; use a `StandardScaler` first. Keras computes in float32.
    """

    def fit(self, X, y):
        """Train the network on rows and labels.

        Parameters
        ----------
        X, y : Rows (n, d) and labels (n,) of any type; there must be at least two different labels.

        Raises
        ------
        ValueError : If the input is invalid, or if training diverges in the first epoch.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"There must be two classes at least. Received: one class, {self.classes_[0]!r}.")
        self._trained(X, numbers.astype(np.float32)[:, None], "classes", len(self.classes_), "cross_entropy")
        return self

    def decision_function(self, X):
        """Return the logits (m, classes); for two classes, the difference (m,) of the second and the first logit.

        Args:
            X: Rows (m, d).
        """
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X):
        """Return the probabilities of the classes, (m, classes), for rows X (m, d): the softmax of the logits."""
        logits = self._outputs(X)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def predict(self, X):
        """Return the most likely labels, (m,), for rows X (m, d)."""
        logits = self._outputs(X)  # called first, because it raises if the estimator is not fitted
        return self.classes_[logits.argmax(axis=1)]


class NetworkRegressor(RegressorMixin, _Network):
    """Regressor: a network trained with the square loss on one target, which is standardised for training.

    The parameters are those of `NetworkClassifier`.

    Attributes
    ----------
    weights_, loss_curve_, diverged_ : As for `NetworkClassifier`: trained weights, loss of each epoch (on the
        standardised target), and whether training stopped early because the loss was not finite.
    offset_, scale_ : Mean and standard deviation of y. If y is constant, `scale_` is 1.
    """

    def fit(self, X, y):
        """Train the network on rows and targets.

        Parameters
        ----------
        X, y : Rows (n, d) and targets (n,).

        Raises
        ------
        ValueError : If the input is invalid, or if training diverges in the first epoch.
        """
        X, y = validate_data(self, X, y, dtype=np.float32, y_numeric=True)
        y = column_or_1d(y, warn=True).astype(np.float64)
        self.offset_, self.scale_ = float(y.mean()), float(y.std()) or 1.0
        target = ((y - self.offset_) / self.scale_).astype(np.float32)[:, None]
        self._trained(X, target, "regression", 0, "square")
        return self

    def predict(self, X):
        """Return the predictions (m,) for rows X (m, d), in the unit of the targets."""
        return self._outputs(X)[:, 0] * self.scale_ + self.offset_
