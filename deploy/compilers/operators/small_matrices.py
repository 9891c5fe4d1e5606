"""Linear algebra on matrices of a small fixed size, unrolled: ONNX has a determinant at most.

What is solved with a larger matrix becomes a product with its inverse, which a matrix of weights
alone has: see ``constant_folding``.
"""

from typing import Any, Final

import torch
from torch import Tensor

LARGEST: Final = 8
"""Rows: elimination is unrolled, so that a graph grows with the cube of it."""


def cholesky(a: Tensor, *, upper: bool = False) -> Any:
    """Factor a positive definite matrix (Cholesky and Banachiewicz)."""
    n = _size(a)
    if n is None:
        return NotImplemented
    rows: list[list[Tensor]] = []
    for i in range(n):
        row: list[Tensor] = []
        for j in range(i + 1):
            rest = a[..., i, j]
            for k in range(j):
                rest = rest - row[k] * (rows[j][k] if j < i else row[k])
            row.append(rest.sqrt() if i == j else rest / rows[j][j])
        rows.append(row)
    zero = torch.zeros_like(a[..., 0, 0])
    full = [torch.stack([*row, *[zero] * (n - len(row))], -1) for row in rows]
    lower = torch.stack(full, -2)
    return lower.transpose(-1, -2) if upper else lower


def determinant(a: Tensor) -> Any:
    """The determinant, by elimination."""
    n = _size(a)
    if n is None:
        return NotImplemented
    triangle, sign = _eliminated(a, n)
    product = sign
    for k in range(n):
        product = product * triangle[..., k, k]
    return product


def inverse(a: Tensor) -> Any:
    """The inverse, by solving for the unit vectors."""
    n = _size(a)
    return NotImplemented if n is None else solve(a, torch.eye(n, dtype=a.dtype).expand(a.shape))


def solve(a: Tensor, b: Tensor, *, left: bool = True) -> Any:
    """The solution of ``a @ x = b``, by elimination and substitution."""
    n = _size(a)
    if n is None or not left or b.shape[:-1] != a.shape[:-1]:
        return NotImplemented
    triangle, _ = _eliminated(torch.cat([a, b], -1), n)
    found: list[Tensor] = []
    for i in reversed(range(n)):
        rest = triangle[..., i, n:]
        for place, x in enumerate(reversed(found), i + 1):
            rest = rest - triangle[..., i, place : place + 1] * x
        found.append(rest / triangle[..., i, i : i + 1])
    return torch.stack(found[::-1], -2)


def solve_triangular(
    a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Any:
    """The solution of ``a @ x = b``, where half of ``a`` is not looked at."""
    if not left or unitriangular or a.ndim != b.ndim:
        return NotImplemented
    half = a.triu() if upper else a.tril()
    found = solve(half, b)
    return torch.linalg.inv(half) @ b if found is NotImplemented else found


def cholesky_solve(b: Tensor, factor: Tensor, upper: bool = False) -> Any:
    """The solution of ``a @ x = b``, where the factor of ``a`` is known."""
    half = factor.triu() if upper else factor.tril()
    a = half.mT @ half if upper else half @ half.mT
    found = solve(a, b)
    return torch.linalg.inv(a) @ b if found is NotImplemented else found


def log_determinant(a: Tensor) -> Any:
    """The sign of the determinant, and the logarithm of its size."""
    n = _size(a)
    if n is None:
        return NotImplemented
    triangle, sign = _eliminated(a, n)
    diagonal = triangle.diagonal(dim1=-2, dim2=-1)
    return sign * diagonal.sign().prod(-1), diagonal.abs().log().sum(-1)


def _size(a: Tensor) -> int | None:
    n = a.shape[-1]
    fits = isinstance(n, int) and n <= LARGEST and a.shape[-2] == n and a.is_floating_point()
    return n if fits else None


def _eliminated(a: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """An upper triangle, by rows swapped for the largest pivot, and the sign of the swaps."""
    places = torch.arange(n)
    sign = torch.ones_like(a[..., 0, 0])
    for k in range(n - 1):
        pivot = a[..., k:, k].abs().argmax(-1, keepdim=True) + k
        swapped = torch.where(places == k, pivot, torch.where(places == pivot, k, places))
        a = a.gather(-2, swapped.unsqueeze(-1).expand(a.shape))
        sign = torch.where(pivot.squeeze(-1) == k, sign, -sign)
        top = a[..., k : k + 1, :]
        rest = a[..., k + 1 :, :]
        largest = top[..., k : k + 1]
        factor = rest[..., k : k + 1] / torch.where(largest == 0, 1, largest)  # all are 0 then
        a = torch.cat([a[..., : k + 1, :], rest - factor * top], -2)
    return a, sign
