"""The reward pool on real Ray actors: the same numbers whoever computes them, and actors that are lost."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import reward_bench
from reward_actors import Fragile, Scripted, blank, come_back, numbers, prompts, start, told, wait_for
from transformers import PreTrainedTokenizerFast

from scar_ray.config.schema import RewardModelConfig
from scar_ray.games import shapley
from scar_ray.records import CreditPlan, Evaluation, Response, Units
from scar_ray.scoring import RewardModel, SampleFailed, Workload
from scar_ray.text.units import segment
from scar_ray.workers.errors import ActorFailed
from scar_ray.workers.reward import RewardOptions
from scar_ray.workers.reward_pool import RayRewardPool
from scar_ray.workers.reward_tasks import TaskSizes, cut, joined

pytestmark = pytest.mark.stack

NAMES = ["reward-0", "reward-1"]
Jobs = list[tuple[Response, CreditPlan]]


@pytest.fixture(scope="module")
def real(ray_cluster: None, models: dict[str, Path]) -> Iterator[list[Any]]:
    """Two actors with a reward model that reads at most 64 tokens."""
    options = RewardOptions(
        model=RewardModelConfig(path=str(models["llama_reward"]), max_length=64),
        policy_tokenizer=str(models["llama"]),
        masking="delete",
        device="cpu",
        batch_tokens=300,
        attention=True,
        trust_remote_code=False,
        threads=1,
    )
    actors = start(Fragile, NAMES, options, restarts=-1)
    assert come_back(actors) == NAMES
    yield actors
    for actor in actors:
        ray.kill(actor)


@pytest.fixture(scope="module")
def idle(ray_cluster: None) -> Iterator[list[Any]]:
    """Scripted actors that are never started again, between two tests; those that a test has ended are missing."""
    actors: list[Any] = []
    yield actors
    for actor in actors:
        ray.kill(actor)


@pytest.fixture
def scripted(idle: list[Any]) -> Iterator[Callable[..., tuple[RayRewardPool, list[Any]]]]:
    """Makes pools of scripted actors and ends them."""
    pools: list[tuple[RayRewardPool, list[Any], bool]] = []

    def new(
        actors: int = 2, restarts: int = 0, gate: str = "", times: dict[str, float] | None = None, **sizes: int
    ) -> tuple[RayRewardPool, list[Any]]:
        if restarts or gate:
            handles = start(Scripted, NAMES[:actors], gate, restarts=restarts)
        else:
            idle.extend(start(Scripted, NAMES[len(idle) : actors]))
            handles = [idle.pop() for _ in range(actors)]
        ray.get([handle.renew.remote(name) for handle, name in zip(handles, NAMES, strict=False)])
        chosen = TaskSizes(**{"neighbours": 1} | sizes)
        pools.append((RayRewardPool(handles, NAMES[:actors], chosen, **(times or {})), handles, bool(restarts or gate)))
        return pools[-1][:2]

    yield new
    for pool, handles, own in pools:
        pool.close()
        for handle in handles:
            if own:
                ray.kill(handle)
            else:
                _keep(handle, idle)


def _keep(actor: Any, idle: list[Any]) -> None:
    """Keeps an actor that answers at once; ends it otherwise."""
    try:
        ray.get(actor.renew.remote("idle"), timeout=5)
        idle.append(actor)
    except (ray.exceptions.RayError, TimeoutError):
        ray.kill(actor)


@pytest.fixture(scope="module")
def jobs(tok: PreTrainedTokenizerFast) -> Jobs:
    """Nine responses: scores, coalitions and attention."""
    responses = reward_bench.replies(tok)
    plans = [(reward_bench.every_prefix(r), CreditPlan(), CreditPlan(attention=True)) for r in responses]
    return [(response, plans[i][i % 3]) for i, response in enumerate(responses)]


def evaluate(pool: RayRewardPool, jobs: Jobs) -> list[Evaluation]:
    """One step; evaluations in row order."""
    pool.begin([response.prompt for response, _ in jobs])
    for response, plan in jobs:
        pool.submit(response, plan)
    results = pool.results()
    return [results[row] for row in range(len(jobs))]


def until(condition: Callable[[], bool]) -> None:
    """Waits until it holds; for a minute at most."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise TimeoutError


def by_tasks(model: RewardModel, jobs: Jobs, sizes: TaskSizes) -> list[Evaluation]:
    """What one model in this process answers to the same tasks."""
    whole = {response.row: cut(response, plan, sizes) for response, plan in jobs}
    small = {r for r, parts in whole.items() if len(parts) == 1 and parts[0].tokens * sizes.neighbours <= sizes.tokens}
    found: dict[int, Evaluation] = {}
    for begin in range(0, len(jobs), sizes.neighbours):
        rows = [row for row in range(begin, min(begin + sizes.neighbours, len(jobs))) if row in small]
        found |= dict(zip(rows, model.evaluate([jobs[row] for row in rows])[0], strict=True))
    for row in whole.keys() - small:
        answers = [model.evaluate([part.job])[0][0] for part in whole[row]]
        found[row] = joined(jobs[row][1], whole[row], answers)
    return [found[row] for row in range(len(jobs))]


def assert_equal(some: list[Evaluation], others: list[Evaluation]) -> None:
    """Bit for bit."""
    for one, other in zip(some, others, strict=True):
        assert one.score == other.score
        for left, right in ((one.values_C, other.values_C), (one.attention_T, other.attention_T)):
            assert (left is None) == (right is None)
            assert left is None or np.array_equal(left, right)


@pytest.mark.parametrize("tokens", [16_384, 500, 30])
@pytest.mark.parametrize("neighbours", [1, 4, 100])
def test_the_numbers_depend_neither_on_the_number_of_actors_nor_on_the_order_of_arrival(
    tokens: int, neighbours: int, real: list[Any], jobs: Jobs, load_reward: Callable[..., RewardModel]
) -> None:
    """All small, some of them small, or nearly all of them cut; also where the last group is not full."""
    model, sizes = load_reward("llama", batch_tokens=300, attention=True), TaskSizes(tokens, neighbours)
    expected, works = by_tasks(model, jobs, sizes), []
    for actors, order in ((1, 0), (2, 1), (2, 2)):
        arrival = random.Random(order).sample(jobs, len(jobs)) if order else jobs
        pool = RayRewardPool(real[:actors], NAMES[:actors], sizes)
        assert_equal(evaluate(pool, arrival), expected)
        works.append(pool.work)
        assert pool.busy_seconds() > 0
        pool.close()
    assert works[0] == works[1] == works[2]
    assert works[0].asked == sum(1 + (plan.game.n_coalitions if plan.game else 0) for _, plan in jobs)
    for (response, plan), evaluation in zip(jobs, expected, strict=True):
        [whole], _ = model.evaluate([(response, plan)])
        assert evaluation.score == pytest.approx(whole.score, abs=1e-5)
        if whole.values_C is not None:
            assert evaluation.values_C == pytest.approx(whole.values_C, abs=1e-5)
            assert evaluation.values_C[1] == evaluation.score


def test_a_pool_scores_step_after_step(real: list[Any], jobs: Jobs) -> None:
    pool = RayRewardPool(real, NAMES, TaskSizes(neighbours=2))
    first = evaluate(pool, jobs)
    work, busy = pool.work, pool.busy_seconds()
    assert_equal(evaluate(pool, jobs[:4]), first[:4])
    assert pool.work.asked == sum(1 + (plan.game.n_coalitions if plan.game else 0) for _, plan in jobs[:4])
    assert_equal(evaluate(pool, jobs), first)
    assert pool.work == work
    assert pool.busy_seconds() > busy
    assert evaluate(pool, []) == []
    pool.close()


def test_a_sample_that_cannot_be_scored_is_one_line_and_the_next_step_is_as_good_as_ever(
    real: list[Any], jobs: Jobs, tok: PreTrainedTokenizerFast
) -> None:
    pool = RayRewardPool(real, NAMES, TaskSizes(neighbours=1))
    expected = evaluate(pool, jobs)
    too_long = reward_bench.respond(tok, " good film" * 20, row=4)
    message = (
        r"^prompt 4, sample 0 \('good film .*'\): prompt and response take \d+ .*, the reward model reads 64; [^\n]*$"
    )
    for _ in range(2):
        with pytest.raises(SampleFailed, match=message):
            evaluate(pool, [*jobs[:4], (too_long, CreditPlan()), *jobs[5:]])
    assert_equal(evaluate(pool, jobs), expected)
    pool.close()


def test_the_work_of_an_actor_that_dies_is_done_again_and_the_actor_comes_back(
    real: list[Any], jobs: Jobs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = RayRewardPool(real, NAMES, TaskSizes(neighbours=2))
    expected, once = evaluate(pool, jobs), pool.work
    dying = [
        (told(response, f"die {tmp_path / 'died'}") if i == 3 else response, p) for i, (response, p) in enumerate(jobs)
    ]
    assert_equal(evaluate(pool, dying), expected)
    assert pool.work == once  # what was lost is not counted
    assert (tmp_path / "died").exists()
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.startswith("reward-")
    assert "is lost (died: " in line
    assert line.endswith("; its responses are scored again")
    assert come_back(real) == NAMES
    assert_equal(evaluate(pool, jobs), expected)
    pool.close()


Pools = Callable[..., tuple[RayRewardPool, list[Any]]]


def scores(evaluations: list[Evaluation]) -> list[float]:
    return [evaluation.score for evaluation in evaluations]


def test_a_task_starts_when_its_rows_are_there_and_holds_neighbours(scripted: Pools) -> None:
    pool, [actor] = scripted(actors=1, neighbours=2)
    pool.begin(prompts(5))
    for row in (1, 3, 4, 2, 0):
        pool.submit(*blank(row))
    assert pool.results() == {row: Evaluation(float(row), asked_tokens=15) for row in range(5)}
    assert {span.rows for span in pool.spans} == {(4,), (2, 3), (0, 1)}
    assert sorted(ray.get(actor.seen.remote())) == [0, 1, 2, 3, 4]
    assert pool.work == Workload(asked=5, unique=3, asked_tokens=75, tokens=30, computed_tokens=60, padding_tokens=9)
    assert pool.busy_seconds() == 1.5


def test_an_actor_killed_in_the_middle_of_a_task_comes_back_and_its_task_is_done(
    scripted: Pools, tmp_path: Path
) -> None:
    pool, actors = scripted(restarts=1)
    pool.begin(prompts(4))
    for row in range(4):
        pool.submit(*blank(row, f"wait {tmp_path / 'go'} 10" if row == 1 else ""))
    wait_for(tmp_path / "go.who")
    ray.kill(actors[NAMES.index((tmp_path / "go.who").read_text())], no_restart=False)
    assert {row: one.score for row, one in pool.results().items()} == {0: 0, 1: 11, 2: 2, 3: 3}
    assert come_back(actors) == NAMES
    assert scores(evaluate(pool, [blank(row) for row in range(6)])) == [0, 1, 2, 3, 4, 5]


def test_a_hanging_actors_task_goes_to_another_one_and_it_is_started_again(
    scripted: Pools, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool, actors = scripted(restarts=1, times={"timeout_s": 4.0})
    jobs = [blank(row, f"hang {tmp_path / 'hung'}" if row == 1 else "", units=2) for row in range(4)]
    pool.begin(prompts(4))
    for job in jobs:
        pool.submit(*job)
    assert {row: one.score for row, one in pool.results().items()} == {0: 0, 1: 1, 2: 2, 3: 3}
    assert sorted(span.rows for span in pool.spans) == [(0,), (1,), (2,), (3,)]
    assert (pool.work.asked, pool.work.asked_tokens) == (20, 300)
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.endswith(
        " is lost (no answer for 4 s, cluster.reward.timeout_s; it is started again); its responses are scored again"
    )
    assert come_back(actors) == NAMES
    assert scores(evaluate(pool, [blank(row) for row in range(6)])) == [0, 1, 2, 3, 4, 5]


def test_the_others_go_on_when_an_actor_is_lost_for_good(scripted: Pools, tmp_path: Path) -> None:
    pool, actors = scripted()
    pool.begin(prompts(4))
    for row in range(4):
        pool.submit(*blank(row, f"wait {tmp_path / 'go'}" if row == 0 else ""))
    wait_for(tmp_path / "go.who")
    ray.kill(actors[NAMES.index((tmp_path / "go.who").read_text())])
    assert pool.results().keys() == {0, 1, 2, 3}
    assert scores(evaluate(pool, [blank(row) for row in range(3)])) == [0, 1, 2]


def test_a_pool_without_actors_left_says_so_at_once_and_ever_after(scripted: Pools) -> None:
    pool, _ = scripted()
    message = (
        r"^reward-[01], the last reward actor, is lost for good: died: .*; "
        r"it was scoring prompt 1, sample 0 \(''\)$"
    )
    with pytest.raises(ActorFailed, match=message) as first:
        evaluate(pool, [blank(row, "die" if row == 1 else "") for row in range(4)])
    with pytest.raises(ActorFailed) as second:
        pool.begin(prompts(4))
    assert str(first.value) == str(second.value)


def test_a_response_that_ends_every_actor_is_given_up_and_named(scripted: Pools) -> None:
    """After two actors lost over both, each of the two is tried alone. The actors come back, the pool goes on."""
    pool, actors = scripted(neighbours=2, restarts=-1)
    message = r"^prompt 3, sample 0 \(''\): 3 reward actors were lost over it, the last one reward-[01]: died: [^\n]*$"
    with pytest.raises(SampleFailed, match=message):
        evaluate(pool, [blank(row, "die" if row == 3 else "") for row in range(6)])
    assert scores(evaluate(pool, [blank(row, "5") for row in range(6)])) == [5, 6, 7, 8, 9, 10]
    assert come_back(actors) == NAMES


def test_a_model_that_fails_on_inputs_names_them_when_the_others_are_done(scripted: Pools) -> None:
    pool, actors = scripted(neighbours=4)
    message = (
        r"^2 of 8 responses could not be scored: sample 1: no score; "
        r"prompt 6, sample 0 \(''\): reward-[01]: RuntimeError: out of order$"
    )
    texts = {1: "fail 1", 6: "break"}
    with pytest.raises(SampleFailed, match=message):
        evaluate(pool, [blank(row, texts.get(row, "")) for row in range(8)])
    seen = ray.get([actor.seen.remote() for actor in actors])
    assert {row for rows in seen for row in rows} == set(range(8))
    assert scores(evaluate(pool, [blank(row) for row in range(8)])) == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("tokens", "number"), [(16_384, 37), (40, 37), (16_384, 0), (40, 62)])
def test_the_coalition_that_a_model_fails_on_is_found(scripted: Pools, tokens: int, number: int) -> None:
    """Of all 64 coalitions of six units; also in a part of a response that was cut."""
    pool, _ = scripted(tokens=tokens)
    job = blank(0, f"crack {number}", units=6)
    [row] = np.flatnonzero(numbers(job[1].game.coalitions_Cn) == number)
    message = rf"^prompt 0, sample 0 \(''\), coalition {row}: reward-[01]: OverflowError: it cracks$"
    with pytest.raises(SampleFailed, match=message):
        evaluate(pool, [job])


def test_a_large_response_starts_when_it_is_there_and_small_ones_when_their_neighbours_are(scripted: Pools) -> None:
    pool, [actor] = scripted(actors=1, neighbours=4, tokens=150)
    pool.begin(prompts(4))
    large = blank(3, units=6)  # 64 coalitions
    pool.submit(*blank(0))
    pool.submit(*large)
    until(lambda: bool(pool.spans))
    assert [span.rows for span in pool.spans] == [(3,)]
    pool.submit(*blank(2))
    pool.submit(*blank(1))
    results = pool.results()
    assert np.array_equal(results[3].values_C, numbers(large[1].game.coalitions_Cn))
    assert [span.rows for span in pool.spans] == [(3,), (0, 1, 2)]
    assert ray.get(actor.seen.remote()) == [3, 0, 1, 2]


def test_the_parts_of_a_large_response_go_to_whoever_is_idle(scripted: Pools, tmp_path: Path) -> None:
    pool, _ = scripted(tokens=40)
    response, plan = blank(0, units=6)
    pool.begin(prompts(2))
    pool.submit(*blank(1, f"wait {tmp_path / 'go'}"))
    wait_for(tmp_path / "go.who")
    pool.submit(response, plan)
    parts = len(cut(response, plan, TaskSizes(40)))
    until(lambda: len(pool.spans) == parts)
    (tmp_path / "go").touch()
    assert np.array_equal(pool.results()[0].values_C, numbers(plan.game.coalitions_Cn))
    busy = (tmp_path / "go.who").read_text()
    assert parts > 2
    assert [span.actor for span in pool.spans] == [name for name in NAMES if name != busy] * parts + [busy]
    assert pool.work.asked == 66


def test_equal_responses_are_scored_once_wherever_they_stand(scripted: Pools) -> None:
    pool, [actor] = scripted(actors=1, tokens=7)
    game = blank(0, units=2)
    same = [(replace(game[0], row=row), game[1]) for row in (3, 0, 4)]
    jobs = [*same, (replace(game[0], row=1, token_ids=(1, 3, 0)), game[1]), (replace(game[0], row=2), CreditPlan())]
    pool.begin([game[0].prompt] * 6)
    for job in jobs:
        pool.submit(*job)
    until(lambda: any(0 in span.rows for span in pool.spans))
    pool.submit(replace(game[0], row=5), game[1])  # comes when the answer is there already
    results = pool.results()
    assert [results[row].score for row in (3, 0, 4, 5)] == [0, 0, 0, 0]
    assert results[1].score == 1
    assert set(ray.get(actor.seen.remote())) == {0, 1, 2}
    assert (pool.work.asked, pool.work.repeated) == (5 * 5 + 1, 3 * 5 + 2)
    assert pool.work.asked_tokens == 15 * pool.work.asked


def test_equal_small_responses_of_other_groups_are_scored_once_for_the_first_row_whoever_is_there_first(
    scripted: Pools,
) -> None:
    """Rows 0, 3 and 4 answer the same prompt, 0 and 3 with the same, 4 with the same two words the other way round;
    row 2 says so to a prompt with other data."""
    pool, [actor] = scripted(actors=1, neighbours=2)
    asked = prompts(5)
    asked[2] = replace(asked[0], index=2, data={"year": 1994})
    asked[3], asked[4] = replace(asked[0], index=3), asked[0]
    jobs = [(replace(blank(row, units=2)[0], prompt=asked[row]), blank(row, units=2)[1]) for row in range(5)]
    jobs[4] = (replace(jobs[4][0], token_ids=(2, 1, 0)), jobs[4][1])
    answers = []
    for order in ((0, 1, 2, 3, 4), (3, 2, 4, 1, 0), (4, 2, 3, 0, 1)):
        pool.begin(asked)
        for row in order:
            pool.submit(*jobs[row])
        answers.append(pool.results())
        assert sorted(span.rows for span in pool.spans) == [(0, 3, 1), (2,), (4,)]
        assert (pool.work.asked, pool.work.repeated, pool.work.asked_tokens) == (25, 5 + 3, 375)
    assert [[found[row].score for row in range(5)] for found in answers] == [[0, 1, 2, 0, 4]] * 3
    assert [found[4].values_C.tolist() for found in answers] == [[0, 3, 2, 1]] * 3, "what row 0 was told"
    assert sorted(ray.get(actor.seen.remote())) == sorted([0, 1, 2, 4] * 3)


def samples(tok: PreTrainedTokenizerFast) -> Jobs:
    """Four samples of each of two prompts, all 2^n coalitions of their tokens, and the prefixes of one as an audit."""
    texts = (" not a good film", " not a bad film at all", " good good film", " good film")
    heads = reward_bench.PROMPTS[:2]
    responses = [
        reward_bench.respond(tok, text, head, row=row, cut=5)
        for row, (head, text) in enumerate((head, text) for head in heads for text in texts)
    ]
    assert min(response.n_content for response in responses) > 1
    jobs = [(one, CreditPlan(units := segment(one, "token", 64), shapley(len(units)))) for one in responses]
    audit = replace(responses[2], row=len(responses))
    return [*jobs, (audit, reward_bench.every_prefix(audit))]


@pytest.mark.parametrize(("tokens", "neighbours"), [(16_384, 4), (16_384, 2), (300, 2), (40, 1)])
def test_equal_sequences_of_a_step_are_scored_once_wherever_they_are_asked_for(
    tokens: int, neighbours: int, real: list[Any], tok: PreTrainedTokenizerFast, load_reward: Callable[..., RewardModel]
) -> None:
    """In one task, in several of a prompt, in parts of a response, and by an audit; the same bits in any order."""
    model, jobs = load_reward("llama", batch_tokens=300), samples(tok)
    sizes = TaskSizes(tokens, neighbours, alike=model.alike)
    wanted = [model.encoder.sequences(*job) for job in jobs]
    works, found = [], []
    for actors, order in ((1, 0), (2, 1), (2, 2)):
        arrival = random.Random(order).sample(jobs[:-1], len(jobs) - 1) if order else jobs[:-1]
        pool = RayRewardPool(real[:actors], NAMES[:actors], sizes)
        pool.begin([response.prompt for response, _ in jobs[:-1]], more=1)
        for job in [*arrival, jobs[-1]]:
            pool.submit(*job)
        results = pool.results()
        found.append([results[row] for row in range(len(jobs))])
        works.append(pool.work)
        pool.close()
    assert works[0] == works[1] == works[2]
    assert works[0].unique == len({sequence for sequences in wanted for sequence in sequences})
    assert works[0].asked == sum(map(len, wanted))
    assert works[0].asked_tokens == sum(len(sequence) for sequences in wanted for sequence in sequences)
    assert_equal(found[0], found[1])
    assert_equal(found[0], found[2])
    for evaluation, alone, sequences in zip(found[0], model.evaluate(jobs)[0], wanted, strict=True):
        assert evaluation.score == evaluation.values_C[1] == pytest.approx(alone.score, abs=1e-5)
        assert evaluation.values_C == pytest.approx(alone.values_C, abs=1e-5)
        assert evaluation.lengths_C.tolist() == list(map(len, sequences[1:]))
        assert evaluation.asked_tokens == sum(map(len, sequences))


def test_a_response_waits_for_the_earlier_ones_of_its_prompt_and_fails_with_what_it_repeats(scripted: Pools) -> None:
    pool, [actor] = scripted(actors=1)
    asked = prompts(3)
    asked[0] = asked[2] = replace(asked[0], text="break")
    pool.begin(asked)
    jobs = [(replace(blank(row, units=2)[0], prompt=asked[row]), blank(row, units=2)[1]) for row in range(3)]
    jobs[2] = (jobs[2][0], CreditPlan(Units((2,), (0,)), shapley(1)))  # nothing and all of what row 0 says
    pool.submit(*jobs[2])
    pool.submit(*jobs[1])
    until(lambda: bool(pool.spans))
    assert ray.get(actor.seen.remote()) == [1]
    pool.submit(*jobs[0])
    message = (
        r"^2 of 3 responses could not be scored: prompt 0, sample 0 \(''\): reward-0: RuntimeError: out of order; "
        r"prompt 0, sample 0 \(''\): has coalitions of prompt 0, sample 0 \(''\), which could not be scored$"
    )
    with pytest.raises(SampleFailed, match=message):
        pool.results()


def test_small_responses_do_not_wait_for_earlier_ones_to_other_prompts(scripted: Pools) -> None:
    """What may repeat something of an earlier row waits for it, and its neighbours with it; what cannot does not."""
    pool, _ = scripted(actors=1, neighbours=2)
    asked = prompts(6)
    asked[4] = replace(asked[0], index=4)
    pool.begin(asked, more=1)
    for row in (5, 4, 3, 2, 1):
        pool.submit(replace(blank(row)[0], prompt=asked[row]), CreditPlan())
    until(lambda: bool(pool.spans))
    assert [span.rows for span in pool.spans] == [(2, 3)]
    pool.submit(*blank(0))
    pool.submit(replace(blank(6)[0], prompt=asked[3]), CreditPlan())
    results = pool.results()
    assert [results[row].score for row in range(7)] == [0, 1, 2, 3, 0, 5, 3]
    assert pool.work.repeated == 2


def test_an_actor_holds_one_task_at_a_time_and_the_most_expensive_come_first(scripted: Pools, tmp_path: Path) -> None:
    pool, [actor] = scripted(actors=1)
    pool.begin(prompts(5))
    pool.submit(*blank(4, f"wait {tmp_path / 'go'}"))
    wait_for(tmp_path / "go.who")
    for row, units in ((0, 1), (1, 3), (2, 2), (3, 4)):
        pool.submit(*blank(row, units=units))
    (tmp_path / "go").touch()
    assert pool.results()[0].score == 0
    assert ray.get(actor.seen.remote()) == [4, 3, 1, 2, 0]


def test_an_actor_that_does_not_come_back_is_not_waited_for(scripted: Pools, tmp_path: Path) -> None:
    """It starts again and is not ready within the pool's patience."""
    pool, _ = scripted(actors=1, restarts=1, times={"patience_s": 1.0}, gate=str(tmp_path / "gate"))
    (tmp_path / "gate").touch()
    with pytest.raises(ActorFailed, match=r"^reward-0, the last reward actor, is lost for good: died: "):
        evaluate(pool, [blank(0, "die")])
    (tmp_path / "gate.open").touch()


def test_what_a_step_that_was_given_up_still_brings_is_not_taken_for_the_next_steps(
    scripted: Pools, tmp_path: Path
) -> None:
    """Row 0 of the first step is still being scored when row 0 of the next one is asked for."""
    pool, _ = scripted()
    pool.begin(prompts(2))
    pool.submit(*blank(0, f"wait {tmp_path / 'go'} 100"))
    wait_for(tmp_path / "go.who")
    pool.begin(prompts(2))
    pool.submit(*blank(0, f"wait {tmp_path / 'again'} 7"))
    wait_for(tmp_path / "again.who")
    (tmp_path / "go").touch()
    pool.submit(*blank(1, "7"))
    (tmp_path / "again").touch()
    assert {row: one.score for row, one in pool.results().items()} == {0: 7, 1: 8}
    assert pool.work.asked == 2


def test_a_failed_steps_waiting_tasks_are_dropped(scripted: Pools, tmp_path: Path) -> None:
    pool, [actor] = scripted(actors=1)
    pool.begin(prompts(4))
    for row, text in enumerate((f"wait {tmp_path / 'go'}", "fail it", "", "")):
        pool.submit(*blank(row, text))
    wait_for(tmp_path / "go.who")
    pool.begin(prompts(6))  # the step before is given up without a look at its results
    for row in (5, 4, 3, 2, 1, 0):
        pool.submit(*blank(row, "1"))
    (tmp_path / "go").touch()
    assert {row: one.score for row, one in pool.results().items()} == {row: row + 1 for row in range(6)}
    assert ray.get(actor.seen.remote()) == [0, 5, 4, 3, 2, 1, 0]


def test_results_of_a_step_that_is_not_complete_would_never_come(scripted: Pools) -> None:
    pool, _ = scripted(actors=1)
    pool.begin(prompts(2))
    pool.submit(*blank(0))
    with pytest.raises(AssertionError):
        pool.results()
    with pytest.raises(AssertionError):
        pool.submit(*blank(0))
    with pytest.raises(AssertionError):
        pool.submit(*blank(2))


def test_a_closed_pool_leaves_no_threads_and_says_nothing_of_actors_that_end(
    scripted: Pools, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = threading.active_count()
    pool, actors = scripted()
    started = [thread for thread in threading.enumerate() if "_serve" in thread.name]
    pool.begin(prompts(1))
    pool.submit(*blank(0, f"wait {tmp_path / 'never'}"))
    wait_for(tmp_path / "never.who")
    pool.close()
    for actor in actors:
        ray.kill(actor)
    for thread in started:
        thread.join(10)
    assert threading.active_count() <= before
    assert not caplog.records
