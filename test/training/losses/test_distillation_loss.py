"""Equations 5 to 7 against float64 computations written out."""

import numpy as np
import pytest
import torch

from vidllm_ros.training.losses.distillation import (
    DistillationLoss,
    DistillationWeights,
    on_grid,
    patch_feature_loss,
    pooled_feature_loss,
    structural_consistency_loss,
)

F, N = 3, 6


def tokens(channels: int, seed: int, count: int = N) -> torch.Tensor:
    return torch.randn(F, count, channels, generator=torch.Generator().manual_seed(seed))


def unit(x) -> np.ndarray:
    x = x.double().numpy()
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_patch_features_eq_6():
    student, teacher = tokens(8, 0), tokens(8, 1)
    distances = ((unit(student) - unit(teacher)) ** 2).sum(axis=-1)
    assert float(patch_feature_loss(student, teacher)) == pytest.approx(distances.mean(), rel=1e-6)
    assert float(patch_feature_loss(3 * teacher, teacher)) == pytest.approx(0, abs=1e-6)


def test_pooled_features_eq_6_on_different_grids():
    student, teacher = tokens(8, 2), tokens(8, 3, count=10)
    a, b = unit(student.mean(dim=1)), unit(teacher.mean(dim=1))
    assert float(pooled_feature_loss(student, teacher)) == pytest.approx(1 - (a * b).sum(axis=-1).mean(), rel=1e-5)


def test_structural_consistency_eq_7_frame_by_frame():
    student, teacher = (tokens(8, 4), tokens(8, 5)), (tokens(6, 6), tokens(10, 7))
    expected = []
    for frame in range(F):
        z_student = np.concatenate([unit(s)[frame] for s in student])
        narrow, wide = unit(teacher[0])[frame], unit(teacher[1])[frame]
        z_teacher = np.concatenate([np.pad(narrow, ((0, 0), (0, 4))), wide])
        difference = z_student @ z_student.T - z_teacher @ z_teacher.T
        expected.append(np.linalg.norm(difference, "fro") ** 2 / (2 * N) ** 2)
    assert float(structural_consistency_loss(student, teacher)) == pytest.approx(np.mean(expected), rel=1e-5)
    turned = tuple(s @ torch.linalg.qr(torch.randn(8, 8))[0] for s in student[:1]) * 2
    assert float(structural_consistency_loss(turned, (student[0], student[0]))) == pytest.approx(0, abs=1e-6)


def test_the_sum_is_weighted_and_a_teacher_can_be_left_out():
    torch.manual_seed(0)
    student, teacher = (tokens(8, 0), tokens(8, 1)), (tokens(6, 2), tokens(10, 3))
    loss = DistillationLoss(8, 6, 10, DistillationWeights(geometry=2, language=0, structure=0.5))
    total, parts = loss(student, teacher)
    torch.testing.assert_close(total, 2 * parts["geometry"] + 0.5 * parts["structure"])
    total.backward()
    assert loss.to_geometry.weight.grad.any() and not loss.to_language.weight.grad.any()


def test_resampling_keeps_rows_and_columns_apart():
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    field = torch.stack([rows, columns], dim=-1).flatten(0, 1)[None]
    assert on_grid(field, (4, 6), (4, 6)) is field
    fine = on_grid(field, (4, 6), (8, 12))[0].unflatten(0, (8, 12))
    # Away from the border a linear field stays linear: cell centres lie half a fine cell beside the coarse ones.
    np.testing.assert_allclose(fine[3, 5].numpy(), [1.25, 2.25], atol=1e-5)
    np.testing.assert_allclose(fine[4, 6].numpy(), [1.75, 2.75], atol=1e-5)
