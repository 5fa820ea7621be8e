import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scar_ray.objectives.kl import AdaptiveKL, FixedKL, k1, k2, k3


def test_the_estimators_have_their_hand_computed_values():
    logprobs, ref = np.array([math.log(0.5), math.log(0.2)]), np.array([math.log(0.25), math.log(0.4)])
    log2 = 0.6931471805599453
    np.testing.assert_allclose(k1(logprobs, ref), [log2, -log2], rtol=1e-14)
    np.testing.assert_allclose(k2(logprobs, ref), [log2**2 / 2, log2**2 / 2], rtol=1e-14)
    np.testing.assert_allclose(k3(logprobs, ref), [0.5 - 1 + log2, 2.0 - 1 - log2], rtol=1e-14)


@pytest.mark.parametrize("estimator", [k1, k2, k3])
def test_numpy_and_torch_give_the_same_numbers(estimator):
    logprobs, ref = np.array([[-0.1, -2.0], [-3.0, -0.5]]), np.array([[-0.3, -1.0], [-3.0, -4.0]])
    result = estimator(torch.from_numpy(logprobs), torch.from_numpy(ref))
    assert isinstance(result, torch.Tensor)
    np.testing.assert_allclose(result.numpy(), estimator(logprobs, ref), rtol=1e-14)


def test_k1_and_k3_are_unbiased_and_k2_is_not():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    kl = float((p * np.log(p / q)).sum())
    assert float((p * k1(np.log(p), np.log(q))).sum()) == pytest.approx(kl, abs=1e-14)
    assert float((p * k3(np.log(p), np.log(q))).sum()) == pytest.approx(kl, abs=1e-14)
    assert abs(float((p * k2(np.log(p), np.log(q))).sum()) - kl) > 0.01


@given(arrays(np.float32, 6, elements=st.floats(-20, 0, width=32)), st.floats(-(2.0**-10), 2.0**-10, width=32))
def test_k3_is_never_negative_also_where_the_policies_nearly_agree(logprobs, shift):
    assert (k3(logprobs, logprobs + np.float32(shift)) >= 0).all()
    assert (k3(logprobs, logprobs[::-1].copy()) >= 0).all()


def test_the_fixed_controller_keeps_its_coefficient():
    controller = FixedKL(0.05)
    controller.update(100.0, 64)
    assert controller.coef == 0.05


@pytest.mark.parametrize(
    ("kl", "coef"),
    [
        (6.0, 0.1),  # on target
        (6.6, 0.1 * (1 + 0.1 * 0.64)),  # 10 percent above
        (5.4, 0.1 * (1 - 0.1 * 0.64)),
        (60.0, 0.1 * (1 + 0.2 * 0.64)),  # far above: bounded
        (-3.0, 0.1 * (1 - 0.2 * 0.64)),  # an estimate may be negative: bounded
    ],
)
def test_the_adaptive_controller_moves_by_the_bounded_proportional_error(kl, coef):
    controller = AdaptiveKL(0.1, target=6.0, horizon=100)
    controller.update(kl, 64)
    assert controller.coef == pytest.approx(coef, rel=1e-12)


def test_a_batch_larger_than_the_horizon_cannot_turn_the_coefficient_negative():
    controller = AdaptiveKL(0.1, target=6.0, horizon=10)
    controller.update(0.0, 640)
    assert controller.coef == pytest.approx(0.08, rel=1e-12)


@given(st.floats(0.0, 50.0), st.integers(1, 500))
def test_the_coefficient_rises_above_the_target_and_falls_below_it(kl, n_responses):
    controller = AdaptiveKL(0.1, target=6.0, horizon=1000)
    controller.update(kl, n_responses)
    assert math.copysign(1, controller.coef - 0.1) == math.copysign(1, kl - 6.0) or abs(kl - 6.0) < 1e-9
    assert controller.coef > 0


def test_an_adaptive_controller_holds_a_simulated_kl_near_its_target():
    controller = AdaptiveKL(0.01, target=6.0, horizon=640)
    for _ in range(400):
        kl = 1.0 / controller.coef  # a policy whose divergence falls as the coefficient rises
        controller.update(kl, 64)
    assert kl == pytest.approx(6.0, rel=0.01)


def test_the_coefficient_survives_a_checkpoint():
    controller = AdaptiveKL(0.1, target=6.0, horizon=100)
    controller.update(60.0, 64)
    fresh = AdaptiveKL(0.1, target=6.0, horizon=100)
    fresh.load_state(json.loads(json.dumps(controller.state())))
    assert fresh == controller
    assert fresh.coef == pytest.approx(0.1128)
    fixed = FixedKL(0.3)
    fixed.load_state(json.loads(json.dumps(FixedKL(0.7).state())))
    assert fixed.coef == 0.7


def test_an_adaptive_coefficient_of_zero_is_refused():
    with pytest.raises(ValueError, match="start above 0"):
        AdaptiveKL(0.0, target=6.0, horizon=100)
