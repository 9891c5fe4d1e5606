"""Hold examples out, and say which data it was."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from edgeport.runtimes.errors import SourceError, UsageError
from edgeport.runtimes.needs import needs

from .examples import Array, DataSet, Labelled, Origin, Split

_MARKED_ROWS: Final = 1024


def split(
    name: str,
    whole: Labelled,
    *,
    how: Split | None = None,
    schema: Mapping[str, str] | None = None,
    target: str = "label",
    classes: Sequence[str] = (),
) -> DataSet:
    """Hold a part of the examples out.

    Args:
        name: Of the data set.
        whole: All examples.
        how: ``None`` for a fifth, seed 42, not stratified: what published figures mostly use.
        schema: What each input holds; ``None`` for dtype and shape of each array.
        target: The name of what is predicted.
        classes: Names of the classes; empty for their numbers.

    Raises:
        SourceError: There are too few examples, only one class, or nothing but one value; or that
            is so of a part, or a class is only in the part that is held out.
        UsageError: ``how`` has no seed, or is stratified and the labels are values.
        BackendMissingError: scikit-learn is not installed.
    """
    how = how or Split(test_size=0.2, random_state=42, stratified=False)
    if how.random_state is None:
        raise UsageError("a split is drawn without a seed", remedy="give it a random_state")
    check_labels(whole, target, classes)
    if how.stratified and not whole.classification:
        raise UsageError(
            f"{target!r} holds values, and a stratified split holds out as much of every class",
            remedy="leave --stratify out; numbers that are classes: --categorical NAME",
        )
    train, held_out = _rows(whole, how)
    _check_parts(whole.labels[train], whole.labels[held_out], target, classes)
    found = fingerprint([*whole.inputs.values(), whole.labels])
    schema = described(whole.inputs) if schema is None else dict(schema)
    names = tuple(classes) or _numbers(whole)
    origin = Origin(name, len(whole), found, how, schema, target, names)
    return DataSet(origin, whole.rows(train), whole.rows(held_out))


def split_before(
    name: str,
    train: Labelled,
    held_out: Labelled,
    *,
    schema: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
) -> DataSet:
    """A data set that came with a part to test on: that one is held out.

    Args:
        name: Of the data set.
        train: With one input and classes.
        held_out: The same.
        schema: As for ``split``.
        classes: As for ``split``.

    Raises:
        SourceError: There is only one class to train on.
    """
    check_labels(train, "label", classes)
    parts = (train, held_out)
    found = fingerprint([a for p in parts for a in p.inputs.values()] + [p.labels for p in parts])
    examples = len(train) + len(held_out)
    how = Split(len(held_out) / examples, None, stratified=False)
    schema = described(train.inputs) if schema is None else dict(schema)
    names = tuple(classes) or max(map(_numbers, parts), key=len)
    return DataSet(Origin(name, examples, found, how, schema, classes=names), train, held_out)


def _numbers(examples: Labelled) -> tuple[str, ...]:
    """Names of classes that have none."""
    if not examples.classification:
        return ()
    return tuple(str(number) for number in range(int(examples.labels.max()) + 1))


def check_labels(whole: Labelled, target: str, classes: Sequence[str] = ()) -> None:
    """Refuse labels that nothing can be learned from.

    Args:
        whole: All examples.
        target: The name of what is predicted.
        classes: Names of the classes; empty for their numbers.

    Raises:
        SourceError: They are all equal, not finite, negative, or numbers that no class has.
    """
    labels = whole.labels
    if len(labels) < 2:
        raise SourceError(
            f"there is {len(labels)} example, expected at least 2",
            remedy="one to train on and one to hold out are the least",
        )
    if not whole.classification:
        if not np.isfinite(labels).all():
            row = int(np.argwhere(~np.isfinite(labels))[0][0])
            raise SourceError(
                f"{target!r} is {labels[row]} in example {row}, expected a finite number",
                remedy="correct it, or leave the example out",
            )
        if (labels == labels[0]).all():
            raise SourceError(
                f"{target!r} is {labels.flat[0]:g} in every example: there is nothing to learn",
                remedy="name another target",
            )
        return
    found = np.unique(labels)
    if found[0] < 0:
        raise SourceError(
            f"{target!r} holds the class {found[0]}, expected 0 and up", remedy="number from 0"
        )
    if len(found) == 1:
        raise SourceError(
            f"{target!r} holds one class only, {classes[found[0]] if classes else found[0]}: "
            "there is nothing to learn",
            remedy="add examples of another class",
        )
    if found[-1] >= len(labels) and not classes:
        raise SourceError(
            f"{target!r} holds the class {found[-1]} and {len(found)} classes in all, in "
            f"{len(labels):,} examples",
            remedy="number the classes from 0 without gaps: np.unique(y, return_inverse=True)[1]",
        )


def _check_parts(train: Array, held_out: Array, target: str, classes: Sequence[str]) -> None:
    """Refuse parts of which one teaches too little, or cannot be measured on."""
    if train.dtype == np.int64:
        unknown = np.setdiff1d(held_out, train)
        if len(unknown):
            raise SourceError(
                f"the class {classes[unknown[0]] if classes else unknown[0]} of {target!r} is in "
                f"none of the {len(train):,} examples that are trained on",
                remedy="add or remove examples of it, or hold out as much of every class "
                "(--stratify)",
            )
        return
    for labels, what in ((train, "trained on"), (held_out, "held out, which leaves R2 undefined")):
        if (labels == labels[0]).all():
            raise SourceError(
                f"{target!r} is {labels.flat[0]:g} in all examples ({len(labels):,}) that are "
                f"{what}",
                remedy="use another share of held-out examples (--held-out 0.5), or more data",
            )


def repeated(data: DataSet) -> int:
    """How many held-out examples have the inputs of one that is trained on: they measure memory.

    Of images that stay files, as the memory has no room for them, none is counted.
    """
    known = set(_marks(data.train.inputs))
    return sum(mark in known for mark in _marks(data.held_out.inputs))


def _marks(inputs: Mapping[str, Array]) -> Iterator[int]:
    """A number for each example: equal if its inputs are, and else as good as never."""
    arrays = list(inputs.values())
    if any(array.dtype == object for array in arrays):
        for row in zip(*arrays, strict=True):
            if all(isinstance(one, np.ndarray) for one in row):
                yield hash(tuple((one.shape, one.tobytes()) for one in row))
        return
    for start in range(0, len(arrays[0]), _MARKED_ROWS):
        cut = [np.ascontiguousarray(array[start : start + _MARKED_ROWS]) for array in arrays]
        parts = [part.reshape(len(part), -1).view(np.uint8) for part in cut]
        yield from map(hash, map(bytes, np.concatenate(parts, 1)))


def described(inputs: Mapping[str, Array]) -> dict[str, str]:
    """Dtype and shape of one example of each input."""
    return {
        name: f"{array.dtype}{list(array.shape[1:]) if array.ndim > 1 else ''}"
        for name, array in inputs.items()
    }


def fingerprint(arrays: Iterable[Array]) -> str:
    """The sha256 of the bytes of arrays, one after the other."""
    found = hashlib.sha256()
    for array in arrays:
        for part in array if array.dtype == object else [array]:
            found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def _rows(whole: Labelled, how: Split) -> tuple[Array, Array]:
    with needs("splitting data", "train"):
        from sklearn.model_selection import train_test_split
    try:
        train, held_out = train_test_split(
            np.arange(len(whole)),
            test_size=how.test_size,
            random_state=how.random_state,
            stratify=whole.labels if how.stratified else None,
        )
    except ValueError as e:
        raise SourceError(
            f"{len(whole)} examples cannot be split: {str(e).partition('. ')[0]}",
            remedy="use another share of held-out examples, or more data"
            + " of the rare classes" * how.stratified,
        ) from e
    return np.asarray(train), np.asarray(held_out)
