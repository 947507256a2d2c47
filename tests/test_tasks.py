"""The task generators against the definitions in Hochreiter & Schmidhuber 1997, sequence by sequence."""

import re

import numpy as np
import pytest

from keras_lstm_custom.errors import ArgumentError, InputError
from keras_lstm_custom.tasks import (
    CLASSES,
    REBER_SYMBOLS,
    SYMBOLS,
    TASKS,
    adding_problem,
    embedded_reber,
    multiplication_problem,
    temporal_order,
)

LENGTHS = [20, 33, 100]


def length_of(sequence):
    """Return how many steps belong to the sequence; no step after them may be used again."""
    used = np.flatnonzero(np.abs(sequence).sum(axis=-1))
    assert (used == np.arange(len(used))).all(), "steps are missing inside a sequence"
    return len(used)


@pytest.mark.parametrize("length", LENGTHS)
def test_adding_problem_follows_its_definition(length, rng):
    x, y, marks = adding_problem(2000, length, rng)
    assert x.shape == (2000, length + length // 10, 2)
    assert y.shape == (2000, 1)
    for sequence, target, (early, late) in zip(x, y[:, 0], marks, strict=True):
        steps = length_of(sequence)
        numbers, markers = sequence[:steps].T
        assert length <= steps <= length + length // 10
        assert (np.abs(numbers) <= 1).all()
        # The two marked steps: the first step counts as marked, too, though its marker is -1.
        assert set(np.flatnonzero(markers == 1)) == {early, late} - {0}
        assert set(np.flatnonzero(markers == -1)) == {0, steps - 1}
        assert early < 10
        assert early < late < max(10, length // 2)
        assert early > 0 or numbers[0] == 0
        # Only what the network can see: the sum of the numbers with marker 1.
        assert target == pytest.approx(0.5 + numbers[markers == 1].sum() / 4, abs=1e-6)


def test_adding_problem_draws_every_position_and_length():
    _, _, marks = draw = adding_problem(20_000, 100, np.random.default_rng(3))
    lengths = [length_of(sequence) for sequence in draw.x]
    assert set(lengths) == set(range(100, 111))
    assert set(marks[:, 0]) == set(range(10))
    assert set(marks[:, 1]) == set(range(1, 50))
    # The second choice is uniform over 49 unmarked steps: 40 of them lie from step 10 on (steps 10 to 49).
    assert np.mean(marks[:, 1] >= 10) == pytest.approx(40 / 49, abs=4 * np.sqrt(40 / 49 * 9 / 49 / 20_000))


@pytest.mark.parametrize("length", LENGTHS)
def test_multiplication_problem_follows_its_definition(length, rng):
    x, y, marks = multiplication_problem(2000, length, rng)
    assert x.shape == (2000, length + length // 10, 2)
    assert y.shape == (2000, 1)
    for sequence, target, (early, late) in zip(x, y[:, 0], marks, strict=True):
        steps = length_of(sequence)
        numbers, markers = sequence[:steps].T
        assert ((numbers >= 0) & (numbers <= 1)).all()
        assert set(np.flatnonzero(markers == 1)) == {early, late} - {0}
        assert set(np.flatnonzero(markers == -1)) == {0, steps - 1}
        assert early > 0 or numbers[0] == 1
        assert target == pytest.approx(numbers[markers == 1].prod(), abs=1e-6)


#: Reber's grammar as a regular expression, read off its graph by hand, and not from the table of states.
FROM_V = "(?:PX(?:T)*V)*(?:V|PS)"
INNER = f"B(?:TS*X(?:S|XT*V{FROM_V})|PT*V{FROM_V})E"
EMBEDDED = re.compile(f"B(?:T{INNER}T|P{INNER}P)E")


def test_embedded_reber_strings_are_of_the_grammar():
    x, y, marks = embedded_reber(3000, 40, np.random.default_rng(3))
    assert x.shape == y.shape == (3000, 40, 7)
    texts = ["".join(REBER_SYMBOLS[k] for k in s[: length_of(s)].argmax(axis=-1)) for s in x]
    assert all(EMBEDDED.fullmatch(text) for text in texts)
    assert min(map(len, texts)) == 9
    assert max(map(len, texts)) <= 40
    assert np.mean([text[1] == "T" for text in texts]) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(3000))
    seen = {}  # what followed each beginning
    for text in texts:
        for step in range(1, len(text)):
            seen.setdefault(text[:step], set()).add(text[step])
    for text, targets, (first, due) in zip(texts, y, marks, strict=True):
        steps = len(text)
        assert not targets[steps - 1 :].any()
        allowed = [{REBER_SYMBOLS[k] for k in np.flatnonzero(step)} for step in targets[: steps - 1]]
        assert all(text[step + 1] in symbols for step, symbols in enumerate(allowed))
        for step in range(min(4, steps - 1)):  # beginnings so common that all that may follow did
            assert allowed[step] == seen[text[: step + 1]]
        assert (first, text[due], text[due + 1]) == (1, "E", text[1])
        assert allowed[due] == {text[1]}


def test_a_prediction_is_correct_if_what_may_come_is_above_all_else(rng):
    task = TASKS["embedded Reber grammar"]
    _, y, _ = task.draw(4, 20, rng)
    answer = np.where(y > 0, 0.3, 0.2)
    answer[1, 0, np.flatnonzero(y[1, 0])[0]] = 0.1  # one that may come, below those that may not
    answer[2, 0, np.flatnonzero(y[2, 0] == 0)[0]] = 0.3  # as high as those that may
    answer[3, -1] = rng.normal(size=7)  # filling
    assert task.correct(y, answer).tolist() == [True, False, False, True]


@pytest.mark.parametrize("length", LENGTHS)
def test_temporal_order_follows_its_definition(length, rng):
    x, y, marks = temporal_order(1000, length, rng)
    assert x.shape == (1000, length + length // 10, 8)
    assert y.shape == (1000, 4)
    for sequence, target, (t1, t2) in zip(x, y, marks, strict=True):
        steps = length_of(sequence)
        assert length <= steps <= length + length // 10
        assert set(np.unique(sequence)) == {0, 1}
        assert (sequence[:steps].sum(axis=-1) == 1).all()
        text = "".join(SYMBOLS[k] for k in sequence[:steps].argmax(axis=-1))
        assert text[0] == "E"
        assert text[-1] == "B"
        assert [k for k, symbol in enumerate(text) if symbol in "XY"] == [t1, t2]
        assert set(text[1:-1]) <= set("abcdXY")
        assert length // 10 <= t1 <= length * 2 // 10
        assert length * 5 // 10 <= t2 <= length * 6 // 10
        assert target.sum() == 1
        assert list(CLASSES.values())[target.argmax()] == (text[t1], text[t2])


def test_temporal_order_has_the_papers_rules_and_ranges():
    assert CLASSES == {"Q": ("X", "X"), "R": ("X", "Y"), "S": ("Y", "X"), "U": ("Y", "Y")}
    draw = temporal_order(20_000, 100, np.random.default_rng(3))
    assert set(draw.marks[:, 0]) == set(range(10, 21))
    assert set(draw.marks[:, 1]) == set(range(50, 61))
    assert {length_of(sequence) for sequence in draw.x} == set(range(100, 111))
    # Four classes and four distractors, each as likely as the others: within 4 standard deviations.
    np.testing.assert_allclose(draw.y.mean(axis=0), 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 20_000))
    distractors = draw.x[:, 1:9, 2:6].reshape(-1, 4)
    np.testing.assert_allclose(distractors.mean(axis=0), 0.25, atol=4 * np.sqrt(0.25 * 0.75 / len(distractors)))


@pytest.mark.parametrize("name", TASKS)
def test_draws_are_float32_fresh_and_repeatable(name):
    task = TASKS[name]
    first, again = (task.draw(7, task.shortest, np.random.default_rng(5)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert first.x.dtype == first.y.dtype == np.float32
    assert first.x.shape[-1] == task.features
    assert first.y.shape[-1] == task.outputs
    assert len({row.tobytes() for row in first.x}) > 4


def test_correct_is_the_papers_criterion():
    adding = TASKS["adding"]
    assert adding.correct([[0.5], [0.5], [0.5]], [[0.5399], [0.5401], [0.4601]]).tolist() == [True, False, True]
    order = TASKS["temporal order"]
    answers = [[0.9, 0.2, 0.29, 0.0], [0.71, 0.0, 0.31, 0.0], [0.69, 0.1, 0.1, 0.11]]
    assert order.correct([[1, 0, 0, 0]] * 3, answers).tolist() == [True, False, False]


def test_answers_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"(?s)'adding'.*\(5, 1\).*\(5,\)"):
        TASKS["adding"].correct(np.zeros((5, 1)), np.zeros(5))


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("count", "length"), [(0, 100), (5, 19)])
def test_sizes_without_meaning_are_refused(name, count, length, rng):
    with pytest.raises(ArgumentError, match=f"(?s){name}.*count={count}, length={length}"):
        TASKS[name].draw(count, length, rng)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    "asked",
    [(5.0, 100), (5, 20.5), ("5", 100), (True, 100), (None, 100), (5, 100, 0), (5, 100, np.random.RandomState(0))],
)
def test_what_is_no_size_and_no_generator_is_refused(name, asked, rng):
    with pytest.raises(ArgumentError, match=r"(?s)Expected: whole numbers.*Received: count=.*rng=.*What to do"):
        TASKS[name].draw(*asked, *[rng][: 3 - len(asked)])


def test_sizes_of_numpy_are_sizes(rng):
    assert temporal_order(np.int64(3), np.int32(25), rng).x.shape == (3, 27, 8)


def test_how_far_apart_the_symbols_are_also_at_lengths_that_ten_does_not_divide(rng):
    for length in (20, 25, 34):
        apart = np.diff(temporal_order(2000, length, rng).marks).min()
        assert 0.3 * length - 1 < apart < 0.3 * length + 1


def test_the_layer_that_answers_is_said_for_each_kind_of_task():
    for name, each in (("adding", "each sequence"), ("embedded Reber grammar", "each step")):
        with pytest.raises(InputError, match=each):
            TASKS[name].correct(np.zeros((2, 7)), np.zeros((2, 5)))
