"""Every mistake in the configuration is one line: the key, the rule, the value got, what to use instead."""

import pytest

from scar_ray.config.errors import ConfigError
from scar_ray.config.load import load

CREDITS = (
    "abc, ospo, prefix, prefix_complete, scar_auto, scar_paragraph, scar_sentence, scar_span, scar_token, scar_word, "
    "shape_aspects, shape_grpo, sparse, uniform"
)

ALGORITHMS = "demo, grpo, ospo, paper, ppo, reinforce, rloo, shape_grpo, tiny"

UNKNOWN_NAMES = {
    "credit.unti=token": "unknown key credit.unti; did you mean credit.unit?",
    "algorithm.optimizr.lr=3": "unknown key algorithm.optimizr.lr; did you mean algorithm.optimizer.lr?",
    "algorithm.optimizer.learning_rate=3": (
        "unknown key algorithm.optimizer.learning_rate; the keys of algorithm.optimizer are "
        "lr, beta1, beta2, eps, weight_decay, schedule, warmup_steps, max_grad_norm"
    ),
    "kl.coef=0.1": "unknown key kl.coef; did you mean algorithm.kl.coef?",
    "temperature=0.7": "unknown key temperature; did you mean task.sampling.temperature or eval.temperature?",
    "lr=1e-4": ("unknown key lr; did you mean algorithm.optimizer.lr or algorithm.critic.lr or sft.lr or rm.lr?"),
    "trainer.model.polcy=x": "unknown key trainer.model.polcy; did you mean model.policy?",
    "sede=1": "unknown key sede; did you mean seed?",
    "credits=abc": "unknown key credits; did you mean credit?",
    "seed.x=3": "unknown key seed.x; seed is a single value, write seed=VALUE",
    "credit.qqqq=1": (
        "unknown key credit.qqqq; the keys of credit are method, unit, estimator, value, completions, masking, "
        "alpha, budget, budget_tokens, max_units, base, parser, audit_every, w_max, candidates"
    ),
    "hydra.run.dir=x": (
        "unknown key hydra.run.dir; the keys here are seed, name, runs, task, credit, algorithm, "
        "model, cluster, "
        "trainer, eval, sft, rm"
    ),
    "credit={alhpa: 0.5}": "unknown key credit.alhpa; did you mean credit.alpha?",
}

BAD_CHOICES = {
    "credit=scar_spam": f'credit: must be one of {CREDITS}, got "scar_spam"; did you mean scar_span?',
    "credit=3": f"credit: must be one of {CREDITS}, got 3",
    "credit=null": f"credit: must be one of {CREDITS}, got null",
    "task=imbd": (
        "task: must be one of arithmetic, demo, hh, imdb, product_rewrites, product_search, tldr, "
        'got "imbd"; did you mean imdb?'
    ),
    "model=huge": 'model: must be one of demo, paper, tiny, got "huge"',
    "cluster=gpu": 'cluster: must be one of cpu, gpu8, gpu_shared, nodes2x8, got "gpu"; did you mean gpu8?',
    "algorithm=pop": f'algorithm: must be one of {ALGORITHMS}, got "pop"; did you mean ppo?',
    "credit.unit=sentance": (
        "credit.unit: must be one of token, word, chunk, span, sentence, paragraph, auto, "
        'got "sentance"; did you mean sentence?'
    ),
    "cluster.learner.zero_stage=4": "cluster.learner.zero_stage: must be one of 0, 1, 2, 3, got 4",
    "model.policy.dtype=bf16": (
        'model.policy.dtype: must be one of float32, bfloat16, got "bf16"; did you mean bfloat16?'
    ),
}

OUT_OF_RANGE = {
    "credit.alpha=-1": "credit.alpha: must be a number from 0 to 1, got -1",
    "credit.alpha=nan": "credit.alpha: must be a number from 0 to 1, got NaN",
    "trainer.steps=0": "trainer.steps: must be a whole number of at least 1, got 0",
    "seed=-3": "seed: must be a whole number of at least 0, got -3",
    "algorithm.clip=1": "algorithm.clip: must be a number above 0 and below 1, got 1",
    "algorithm.optimizer.beta1=1": ("algorithm.optimizer.beta1: must be a number of at least 0 and below 1, got 1"),
    "task.sampling.top_p=0": "task.sampling.top_p: must be a number above 0 and of at most 1, got 0",
    "algorithm.shaping.clip=0": "algorithm.shaping.clip: must be a number above 0 or null, got 0",
    "task.train.limit=0": "task.train.limit: must be a whole number of at least 1 or null, got 0",
    "algorithm.kl.coef=inf": "algorithm.kl.coef: must be a number of at least 0, got Infinity",
    "model.scratch.vocab_size=10": "model.scratch.vocab_size: must be a whole number of at least 300, got 10",
}

WRONG_TYPES = {
    "seed=x": 'seed: must be a whole number of at least 0, got "x"',
    "seed=1.5": "seed: must be a whole number of at least 0, got 1.5",
    "seed=true": "seed: must be a whole number of at least 0, got true",
    "credit.alpha=high": 'credit.alpha: must be a number from 0 to 1, got "high"',
    "trainer.wandb=maybe": 'trainer.wandb: must be true or false, got "maybe"',
    "trainer.tensorboard=1": "trainer.tensorboard: must be true or false, got 1",
    "name=2024": "name: must be text or null, got 2024; quote it: name='\"2024\"'",
    "runs=3": "runs: must be a path, got 3",
    "model.policy.path=[a]": 'model.policy.path: must be text, got ["a"]',
    "model.policy.lora.target_modules=[1]": "model.policy.lora.target_modules: must be a list of text, got 1",
    "model.policy.lora.target_modules=q_proj": (
        'model.policy.lora.target_modules: must be a list of text, got "q_proj"'
    ),
    "model.reward.options=5": ("model.reward.options: must be options by name, such as {threshold: 0.5}, got 5"),
    "model.scratch=5": ("model.scratch: is a section, got 5; set its keys, such as model.scratch.vocab_size"),
}

UNREADABLE = {
    "seed": "seed: an override needs a value, write seed=VALUE",
    "=3": "=3: '' is no key; write KEY=VALUE, for example trainer.steps=100",
    "a b=2": "a b=2: 'a b' is no key; write KEY=VALUE, for example trainer.steps=100",
    "~seed": "~seed: a key cannot be removed; set it to null or leave it out",
    "credit@x=abc": "credit@x=abc: '@' is not understood here; write credit=VALUE",
    "seed=1,2": "seed=1,2: several values need --multirun; for one value with commas write seed='\"...\"'",
    "seed=glob(*)": "seed=glob(*): glob() is not understood here; list the values, separated by commas",
    "model.reward.template={prompt}{response}": (
        "model.reward.template={prompt}{response}: the value cannot be read; "
        "quote it: model.reward.template='\"{prompt}{response}\"'"
    ),
    "model.policy.path=${no.such}": (
        "the configuration cannot be resolved: Interpolation key 'no.such' not found "
        "full_key: model.policy.path object_type=dict"
    ),
}

IMPOSSIBLE = {
    "algorithm.batch.minibatch=48": (
        "algorithm.batch.minibatch=48 does not divide the batch of 64 responses (prompts 64 * samples 1)"
    ),
    "task.sampling.min_new_tokens=40": ("task.sampling.min_new_tokens=40 is above max_new_tokens=24; lower it"),
    "model.scratch.heads=3": "model.scratch.hidden_size=128 is not a multiple of heads=3",
    "model.reward.template=plain": ("model.reward.template must contain {prompt} exactly once, got 'plain'"),
    "cluster.learner.ranks=3": (
        "algorithm.batch.minibatch=32 must be a multiple of cluster.learner.ranks * "
        "cluster.learner.micro_batch "
        "= 3 * 8 = 24"
    ),
    "cluster.placement=shared": (
        "cluster.placement=shared is about GPUs; with cluster.device=cpu use placement=separate"
    ),
    "model.policy.dtype=bfloat16": (
        "cluster.learner.zero_stage=0 makes DeepSpeed's first bfloat16 update wrong; use 1, 2 or 3"
    ),
    "model.reward.function=score": (
        "model.reward.function=score: names no function; write package.module:name, path/to/file.py:name or http"
    ),
    "model.reward.options={minimum: 3}": (
        "model.reward.options are those of model.reward.function, which is not set; leave them out"
    ),
    "algorithm.critic.init=reward": "algorithm.critic.init=reward needs algorithm.critic.kind=separate",
    "algorithm.critic={kind: separate, head_lr: 0.01}": (
        "algorithm.critic.head_lr is about a shared trunk; use algorithm.critic.lr for algorithm.critic.kind=separate"
    ),
    "algorithm.group.std=false": (
        "algorithm.group is about algorithms without a critic; algorithm.name=ppo has one, leave its keys out or use "
        "algorithm=grpo"
    ),
    "algorithm.name=grpo": (
        "algorithm.name=grpo needs other responses as a baseline; use algorithm.batch.samples of at least 2, got 1"
    ),
    "algorithm.shaping.over_length_start=24": (
        "algorithm.shaping.over_length_start=24 must be below task.sampling.max_new_tokens=24"
    ),
    "credit.value=complete": (
        "credit.value=complete: the coalitions of credit=scar are no beginnings of the response, which the policy "
        "could go on from; use credit=prefix, or set model.policy.infill for a policy that can fill gaps"
    ),
    'model.policy.infill="{prompt}{before}"': (
        "model.policy.infill='{prompt}{before}' must hold {prompt}, {before} and {after} once each and nothing else in "
        "braces; double the braces that are meant as such"
    ),
    "credit.estimator=shapley": (
        "credit.estimator=shapley can need 2^n coalitions for up to n=24 units (the smaller of "
        "credit.max_units "
        "and task.sampling.max_new_tokens), over credit.budget=128; use credit.max_units=7 or "
        "credit.estimator=auto"
    ),
    "credit.estimator=owen": (
        "credit.estimator=owen can need 2^n coalitions for up to n=24 units (the smaller of "
        "credit.max_units "
        "and task.sampling.max_new_tokens), over credit.budget=128; use credit.max_units=7 or "
        "credit.estimator=auto"
    ),
    "eval.select=gold": ("eval.select=gold needs a second reward model; set eval.gold.path, or eval.select=reward"),
    "eval.gold.label=0": "eval.gold.path is empty; name the second reward model, or set eval.gold=null",
    "eval.max_new_tokens=2000": (
        "task.prompt_tokens_max + eval.max_new_tokens = 4 + 2000 exceeds cluster.rollout.max_model_len=1024; raise it"
    ),
}

TABLE = UNKNOWN_NAMES | BAD_CHOICES | OUT_OF_RANGE | WRONG_TYPES | UNREADABLE | IMPOSSIBLE


@pytest.mark.parametrize(("override", "line"), TABLE.items(), ids=TABLE)
def test_a_mistake_in_an_override_is_exactly_this_line(override: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([override])
    assert str(caught.value) == line
    assert "\n" not in line


COMBINED = {
    ("credit=sparse", "credit.value=complete"): (
        "credit.value=complete is for credits with coalitions of a response's units, credit=sparse has none; use one "
        "of credit=prefix, credit=scar, credit=ospo, or credit.value=mask"
    ),
    ("credit=prefix_complete", "credit.masking=blank"): (
        "credit.masking=blank: credit.value=complete leaves nothing out; leave it out"
    ),
    ("task=imdb", "credit.budget_tokens=34"): (
        "credit.budget_tokens=34 does not pay for the longest prompt and response, task.prompt_tokens_max + "
        "task.sampling.max_new_tokens and 3 special tokens = 35; raise it"
    ),
    ("credit.estimator=owen", "credit.budget_tokens=500", "credit.max_units=7"): (
        "credit.estimator=owen is exact and cannot be cut to credit.budget_tokens=500; "
        "use credit.estimator=auto, which is exact where that is paid for"
    ),
    ("task.prompt_tokens_max=8", "task.prompt_tokens_min=9"): (
        "task.prompt_tokens_min=9 is above prompt_tokens_max=8; lower it"
    ),
    (
        "algorithm=reinforce",
        "algorithm.batch.prompts=1",
        "algorithm.batch.minibatch=1",
        "cluster.learner.micro_batch=1",
    ): (
        "algorithm.name=reinforce needs other responses as a baseline; use algorithm.batch.prompts of at least 2, got 1"
    ),
    ("algorithm=grpo", "algorithm.critic.coef=0.5"): (
        "algorithm.critic is unused: algorithm.name=grpo has no critic; leave its keys out or use algorithm=ppo"
    ),
    ("credit=shape_grpo", "credit.masking=blank"): (
        "credit.masking=blank: candidates are scored as responses of their own; use delete"
    ),
    ("credit=shape_grpo", "credit.candidates.utility=coverage"): (
        "credit.candidates.utility=coverage needs credit.candidates.aspects, such as [music,acting,story]"
    ),
    ("credit=shape_grpo", "credit.candidates.function=mine:worth"): (
        "credit.candidates.utility=function and credit.candidates.function=MODULE:NAME go together, got "
        "utility=max and function='mine:worth'"
    ),
    (
        *("credit=shape_grpo", "credit.candidates.utility=function", "credit.candidates.function=mine:worth"),
        "credit.candidates.count=13",
    ): "credit.candidates.count=13: utility=function is computed for all 2^count sets; use at most 12",
    ("credit=shape_grpo", "credit.candidates.form=separator", "credit.candidates.separator=''"): (
        "credit.candidates.separator is empty; say what stands between candidates, or use form=numbered"
    ),
    ("algorithm=grpo", "algorithm.gamma=0.9"): "algorithm.gamma=0.9: algorithm.name=grpo does not discount; use 1",
    ("algorithm=rloo", "algorithm.group.tokens=ordered"): (
        "algorithm.group.tokens=ordered shares out the score alone; use algorithm.kl.place=loss, or algorithm.kl.coef=0"
    ),
    ("task.prompt_tokens_max=8", "task.sampling.max_new_tokens=2000"): (
        "task.prompt_tokens_max + task.sampling.max_new_tokens = 8 + 2000 exceeds "
        "cluster.rollout.max_model_len=1024; raise it"
    ),
    ("task=imdb", "model=demo"): (
        "task=imdb needs model.policy.path and model.reward.path, only task=demo makes its own; "
        "use model=tiny or set it"
    ),
    ("model.reward.function=mine:score", "model.reward.path=models/mine"): (
        "model.reward.function=mine:score takes the place of path=models/mine; leave one of them out "
        "(model.reward.path='')"
    ),
    ("model.reward.function=mine:score", "credit=abc"): (
        "credit=abc needs a model's attention, model.reward.function=mine:score has none; use another credit"
    ),
    ("model.reward.function=mine:score", "credit.masking=mask"): (
        "credit.masking=mask is about a model's tokens, model.reward.function=mine:score reads text; "
        "use delete or blank"
    ),
    ("model.reward.function=http", "cluster.reward.engine=trie"): (
        "cluster.reward.engine=trie is about models, not model.reward.function=http; leave it out"
    ),
    ("model.reward.function=mine:score", "algorithm.critic.kind=separate", "algorithm.critic.init=reward"): (
        "algorithm.critic.init=reward needs a reward model, model.reward.function=mine:score is none; use policy"
    ),
    ("cluster.reward.engine=trie", "cluster.reward.tensor_parallel=2"): (
        "cluster.reward.engine=trie runs on one GPU, cluster.reward.tensor_parallel=2 is for vllm; use one or the other"
    ),
    ("cluster.reward.engine=vllm", "credit=abc"): (
        "credit=abc needs attention, which cluster.reward.engine=vllm does not give; use another engine"
    ),
    ("cluster.reward.engine=fastest", "credit=abc"): (
        "credit=abc needs attention, which cluster.reward.engine=fastest does not give; use another engine"
    ),
    ("cluster.reward.tensor_parallel=2", "credit.masking=attention"): (
        "credit.masking=attention hides tokens, which cluster.reward.engine=vllm cannot; use another masking or engine"
    ),
    ("cluster=gpu_shared", "cluster.reward.tensor_parallel=2", "cluster.reward.gpus_per_actor=0.1"): (
        "cluster.reward.tensor_parallel=2 needs as many GPUs, cluster.placement=shared has 1; lower it"
    ),
    ("cluster=gpu8", "cluster.reward.gpus_per_actor=0"): (
        "cluster.reward.gpus_per_actor=0 is for model.reward.function; a reward model needs a share of a GPU"
    ),
    ("cluster=gpu_shared", "cluster.learner.ranks=2"): (
        "cluster.placement=shared gives each engine's GPU one learner rank: "
        "cluster.learner.ranks=2 must equal "
        "cluster.rollout.engines * tensor_parallel = 1"
    ),
    ("cluster=gpu_shared", "cluster.reward.actors=5"): (
        "cluster.reward.gpus_per_actor=0.2 leaves nothing of a GPU shared with 5 reward actors; lower it to 0.08"
    ),
    ("credit.estimator=shapley", "credit.budget=1000000", "task.sampling.max_new_tokens=17"): (
        "credit.estimator=shapley can need 2^n coalitions for up to n=17 units (the smaller of "
        "credit.max_units "
        "and task.sampling.max_new_tokens), over credit.budget=1000000; "
        "use credit.max_units=16 or credit.estimator=auto"
    ),
}


@pytest.mark.parametrize(("overrides", "line"), COMBINED.items(), ids=" ".join)
def test_a_combination_that_cannot_work_is_exactly_this_line(overrides: tuple[str, ...], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(overrides)
    assert str(caught.value) == line


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(["credit=abd", "lr", "seeed=1", "trainer.steps=0", "credit.alpha=2"])
    assert caught.value.lines == (
        "lr: an override needs a value, write lr=VALUE",
        f'credit: must be one of {CREDITS}, got "abd"; did you mean abc?',
        "unknown key seeed; did you mean seed?",
        "credit.alpha: must be a number from 0 to 1, got 2",
        "trainer.steps: must be a whole number of at least 1, got 0",
    )


def test_all_impossible_combinations_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(["cluster.placement=shared", "algorithm.critic.init=reward"])
    assert caught.value.lines == (
        "algorithm.critic.init=reward needs algorithm.critic.kind=separate",
        "cluster.placement=shared is about GPUs; with cluster.device=cpu use placement=separate",
    )


def test_combinations_are_left_alone_while_single_keys_are_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        load(["task=imbd", "cluster.learner.ranks=3"])
    assert caught.value.lines == (BAD_CHOICES["task=imbd"],)


def test_a_long_value_is_cut_in_the_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load(["credit.unit=" + "x" * 500])
    assert (
        str(caught.value)
        == 'credit.unit: must be one of token, word, chunk, span, sentence, paragraph, auto, got "' + "x" * 76 + "..."
    )
