"""What the recurrent layers share: options, checks of input, and the call of an engine."""

from __future__ import annotations

import re
import warnings
from operator import attrgetter
from typing import Any, ClassVar

import keras
from keras import ops, tree

from keras_lstm_custom.arguments import BY_KEYWORD_OVER_TIME, with_arguments
from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.engines import EngineName, Request, registry
from keras_lstm_custom.errors import ArgumentError, InputError
from keras_lstm_custom.keras_hooks import NO_DROPOUT, EngineRNN, dropout_masks, name_for, symbolic_dropout_masks
from keras_lstm_custom.layers import checks
from keras_lstm_custom.options import (
    ClassSignature,
    bind,
    own_options,
    parameters_of,
    signature_with,
    spelling_checked,
)

OWN_OPTIONS = ("engine", "checkpoint_every")  #: what the layers take and their Keras counterparts do not


class Recurrent(EngineRNN):
    """The base of layers: a cell run over time by an engine.

    A subclass names its `cell_class`, and is then a whole layer; `docs/your-own-cell.md` writes one. With a
    `keras_class` it takes that layer's arguments, too.

    Args: those of `keras_class` (by default `keras.layers.SimpleRNN`) and the keyword-only ones of the cell, and
        engine: how to run over time: "auto" picks the first engine that can serve; a name from
            `keras_lstm_custom.engines.ENGINES` forces that engine, which raises if it cannot.
        checkpoint_every: for long sequences: training keeps the gates of this many steps at a time and
            computes the others again in the backward pass. The gradients are the same, memory grows
            with `timesteps / checkpoint_every`; None keeps the gates of all steps.

    Call arguments:
        sequences: `(batch, timesteps, features)`.
        initial_state: the cell's `state_type`, each `(batch, n)` as `cell.state_size` says; by default
            `cell.get_initial_state`.
        mask: `(batch, timesteps)` booleans. A masked step keeps the state and repeats the output before it (zeros at
            the start), on every backend. By itself it comes along only without an `initial_state`, as in Keras; with
            one, a mask that is left out is warned of: pass `mask=layers.MaskOf()(sequences)`.
        training: whether dropout applies.

    Returns:
        `h` of the last step `(batch, units)`, or of all steps `(batch, timesteps, units)` with `return_sequences=True`;
        with `return_state=True` followed by the final states.

    Raises:
        ArgumentError: an option is not usable, or the cell's step returns something else than it declares.
        EngineError: the engine is unknown, or was forced and cannot serve.
        InputError: the input, the mask or the initial state has the wrong shape.
    """

    #: the Keras layer whose arguments it takes; by default the one that takes what `RecurrentCell` does
    keras_class: ClassVar[type] = keras.layers.SimpleRNN
    cell_class: ClassVar[type[EquationCell]]
    cell_name: ClassVar[str]  #: the name Keras gives the cell, so that weight paths are the same

    def __init_subclass__(cls, **kwargs: Any):
        """Give the class the signature of its Keras counterpart plus our options, and its cell's as attributes."""
        super().__init_subclass__(**kwargs)
        if "cell_class" not in vars(cls):
            return
        _check_cell_class(cls)
        own = own_options(cls.cell_class)
        if "cell_name" not in vars(cls):
            cls.cell_name = _snake_case(cls.cell_class.__name__)
        if "__init__" not in vars(cls):
            signature = signature_with(cls.keras_class, own | own_options(Recurrent))
            cls.__signature__ = ClassSignature(signature)
            cls.__dict__["__signature__"].__set_name__(cls, "__signature__")
            names = [*signature.parameters, *BY_KEYWORD_OVER_TIME]
            cls.__doc__ = with_arguments(cls.__doc__, names, cls.cell_class.__doc__, Recurrent.__doc__)
        for name in (*parameters_of(cls.cell_class.keras_class), *own):
            if name not in vars(cls):
                setattr(cls, name, property(attrgetter(f"cell.{name}")))

    def __init__(
        self, *args: Any, engine: EngineName = registry.AUTO, checkpoint_every: int | None = None, **kwargs: Any
    ):
        _check_cell_class(type(self))
        of_cell = {name: kwargs.pop(name) for name in own_options(self.cell_class) if name in kwargs}
        options = bind(self.keras_class, args, kwargs) | of_cell
        options["name"] = options.get("name") or name_for(type(self))
        knows_cudnn = "use_cudnn" in parameters_of(self.keras_class)  # else it is refused as anything unknown is
        use_cudnn = options.pop("use_cudnn") if knows_cudnn else None
        cell_names = [*parameters_of(self.cell_class.keras_class), *own_options(self.cell_class), "implementation"]
        cell_options = {name: options.pop(name) for name in cell_names if name in options}
        shared = {name: options[name] for name in ("dtype", "trainable") if name in options}
        with spelling_checked(type(self), kwargs):
            super().__init__(self.cell_class(**cell_options, **shared, name=self.cell_name), **options)
        self.engine = registry.check_name(engine)
        self.checkpoint_every = _check_checkpoint_every(checkpoint_every)
        if knows_cudnn:
            self.use_cudnn = _check_use_cudnn(use_cudnn)
        self._unmasked = self.told_of_mask = False  #: whether the latest call had a state and no mask; and told of it
        self.last_engine: str | None = None  #: name of the engine that served the latest call or trace

    def build(self, sequences_shape, initial_state_shape=None):
        checks.check_rank(self, sequences_shape)
        checks.check_features_known(self, sequences_shape)
        if self.stateful and sequences_shape[0] is None:
            raise InputError(
                f"With `stateful=True` {self.name!r} keeps a state for each row, so it must know the batch size.",
                expected="a fixed batch size",
                received=f"sequences of shape {tuple(sequences_shape)}",
                remedy="Declare it: keras.Input(batch_shape=(batch, timesteps, features)).",
            )
        if self.stateful and keras.backend.backend() == "jax":
            warnings.warn(
                f"On JAX, Keras' `fit` and `predict` do not keep the state of {self.name!r} between batches. "
                "Call the model itself, model(x), or use the TensorFlow or torch backend.",
                stacklevel=2,
            )
        super().build(sequences_shape, initial_state_shape)
        self._build_layers_of_the_cell(sequences_shape)
        # On a GPU Keras compiles by XLA what allows it, and XLA has no cuDNN: `keras.layers.LSTM` refuses, too.
        if keras.backend.backend() == "tensorflow":
            self.supports_jit = self.explain_engine(sequences_shape, training=True).chosen != "cudnn"

    def _build_layers_of_the_cell(self, sequences_shape):
        """Build the layers that the cell's step calls, here: inside a loop they were none of the cell's weights."""
        if any(
            isinstance(part, keras.Layer) and not part.built for part in tree.flatten(list(vars(self.cell).values()))
        ):
            batch, _, features = sequences_shape
            widths = (features, *tree.flatten(self.cell.state_size))
            x, *state = (keras.KerasTensor((batch, width), self.compute_dtype) for width in widths)
            self.cell(x, state)

    def compute_output_spec(self, sequences, initial_state=None, mask=None, training=False):
        self._check_call(sequences, initial_state, mask)  # here too: a symbolic call does not get to `call`
        return super().compute_output_spec(sequences, initial_state=initial_state, mask=mask, training=training)

    def call(self, sequences, initial_state=None, mask=None, training=False):
        if tree.is_nested(mask):  # one mask for each call argument; only the sequence's counts
            mask = mask[0]
        self._check_call(sequences, initial_state, mask)
        sequences = ops.cast(sequences, self.compute_dtype)  # Keras leaves integers as they are
        if sequences.shape[1] == 0:
            return self._no_timesteps(sequences, initial_state, mask)
        if sequences.shape[1] is None:  # Keras would draw the dropout masks by the first step, and there may be none
            x_t, h = (ops.zeros((ops.shape(sequences)[0], n)) for n in (sequences.shape[2], self.state_size[0]))
            dropout_masks(self.cell, x_t, h, training)
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def _check_call(self, sequences, initial_state, mask):
        checks.check_rank(self, sequences.shape)
        checks.check_dtype(self, sequences)
        checks.check_features(self, sequences.shape)
        checks.check_batch(self, sequences.shape)
        checks.check_mask(self, sequences, mask)
        if initial_state is not None:
            checks.check_state(self, sequences, initial_state)
        self._unmasked = initial_state is not None and mask is None

    def compute_mask(self, sequences, mask):
        if self._unmasked:  # after each call Keras asks this, with the mask that came with the sequences
            checks.tell_of_mask(self, mask)
        return super().compute_mask(sequences, mask)

    def run_loop(self, sequences, initial_state, mask, training):
        cell = self.cell
        masks = dropout_masks(cell, sequences[:, 0, :], initial_state[0], training)
        if training and cell.noise_widths:
            sequences = ops.concatenate([sequences, cell.noise(*ops.shape(sequences)[:2])], axis=-1)
        with cell.dropped_weights(training):
            result = self._run(self.request(sequences, initial_state, mask, training, masks))
        return result.last_output, result.outputs, result.state

    def _run(self, request):
        result = registry.run(self.engine, request)
        if self.last_engine != result.engine:  # Keras looks through what an attribute is set to
            self.last_engine = result.engine
        return result

    def request(self, sequences, initial_state, mask=None, training=False, dropout=NO_DROPOUT, **more) -> Request:
        """Return what this layer would ask of an engine for this input; `more` are further fields of `Request`."""
        return Request(
            cell=self.cell,
            sequences=sequences,
            initial_state=initial_state,
            mask=mask,
            dropout=dropout,
            go_backwards=self.go_backwards,
            unroll=self.unroll,
            return_sequences=self.return_sequences,
            zero_output_for_mask=self.zero_output_for_mask,
            stateful=self.stateful,
            training=training,
            checkpoint_every=self.checkpoint_every,
            use_cudnn=getattr(self, "use_cudnn", "auto"),
            **more,
        )

    def explain_engine(self, input_shape, *, masked: bool = False, training: bool = False) -> registry.Explanation:
        """Return which engine would serve an input of this shape, and what each engine answers.

        Args:
            input_shape: `(batch, timesteps, features)`; None where a size is not known.
            masked: whether a mask comes with the input.
            training: whether dropout applies.

        Returns:
            An `Explanation`; print it to see a table.

        Raises:
            InputError: the shape does not have three axes.
        """
        checks.check_rank(self, input_shape)
        batch, timesteps, features = input_shape
        dtype = self.compute_dtype
        sequences = keras.KerasTensor(input_shape, dtype)
        state = [keras.KerasTensor((batch, size), dtype) for size in self.state_size]
        mask = keras.KerasTensor((batch, timesteps), "bool") if masked else None
        dropout = symbolic_dropout_masks(self.cell, (batch, features), (batch, self.state_size[0]), training)
        request = self.request(sequences, state, mask, training, dropout)
        return registry.explain(self.engine, request)

    def _no_timesteps(self, sequences, initial_state, mask):
        """An empty sequence leaves the state as it is. Keras' own call reads the first step, so it is not called."""
        state = initial_state if initial_state is not None else self.states
        if state is None:
            state = self.get_initial_state(batch_size=ops.shape(sequences)[0])
        state = [ops.convert_to_tensor(s, dtype=self.compute_dtype) for s in tree.flatten(state)]
        result = self._run(self.request(sequences, state, mask))
        output = result.outputs if self.return_sequences else result.last_output
        return (output, *result.state) if self.return_state else output

    def get_config(self):
        own = super().get_config()
        del own["cell"]
        config = {**self.cell.get_config(), **own, **{name: getattr(self, name) for name in OWN_OPTIONS}}
        config["activity_regularizer"] = keras.regularizers.serialize(self.activity_regularizer)
        if hasattr(self, "use_cudnn"):
            config["use_cudnn"] = self.use_cudnn
        return config

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _check_cell_class(layer_class: type) -> None:
    cell_class = getattr(layer_class, "cell_class", None)
    if not isinstance(cell_class, type) or not issubclass(cell_class, EquationCell):
        raise ArgumentError(
            f"{layer_class.__name__} does not name the cell that it runs over time.",
            expected="`cell_class`, a subclass of RecurrentCell or of another cell of this package",
            received="none" if cell_class is None else repr(cell_class),
            remedy="Write cell_class = YourCell in the class; for a cell of Keras use keras.layers.RNN.",
        )


def _snake_case(name: str) -> str:
    """Return the name that Keras gives an object of a class: `LSTMCell` is lstm_cell."""
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)).lower()


def _check_checkpoint_every(steps: Any) -> int | None:
    is_whole = hasattr(steps, "__index__") and not isinstance(steps, bool)
    if steps is not None and (not is_whole or steps <= 0):
        raise ArgumentError(
            "`checkpoint_every` is the number of steps whose gates training keeps at a time.",
            expected="a positive integer, or None to keep those of all steps",
            received=repr(steps),
            remedy="Pass about the square root of the number of steps, e.g. checkpoint_every=128 for 16,384.",
        )
    return None if steps is None else int(steps)


def _check_use_cudnn(use_cudnn: Any) -> bool | str:
    if use_cudnn not in ("auto", True, False):
        raise ArgumentError(
            "`use_cudnn` says whether cuDNN may serve.",
            expected="'auto', True or False",
            received=repr(use_cudnn),
            remedy="Leave it at 'auto', and choose an engine with `engine`.",
        )
    return use_cudnn
