import numpy as np

from scar_ray.objectives.importance import importance_weights


def test_weights_are_capped_probability_ratios_and_one_at_the_padding():
    learner = np.log(np.array([[0.5, 0.9, 0.2]], dtype=np.float32))
    engine = np.log(np.array([[0.25, 0.1, 0.4]], dtype=np.float32))
    learner = np.append(learner, [[-1.0]], axis=1)
    engine = np.append(engine, [[-900.0]], axis=1)
    weights = importance_weights(learner, engine, np.array([[True, True, True, False]]), cap=3.0)
    np.testing.assert_allclose(weights, [[2.0, 3.0, 0.5, 1.0]], rtol=1e-6)
    assert weights.dtype == np.float32


def test_equal_probabilities_weigh_exactly_one():
    logprobs = np.array([[-0.1, -20.0]], dtype=np.float32)
    assert (importance_weights(logprobs, logprobs, np.ones((1, 2), dtype=bool), cap=2.0) == 1.0).all()


def test_a_huge_mismatch_does_not_overflow():
    weights = importance_weights(np.array([[-1.0]]), np.array([[-5000.0]]), np.array([[True]]), cap=2.0)
    np.testing.assert_allclose(weights, [[2.0]])
