"""The typed, closed configuration: every key, its type, range and default, and what excludes each other.

The models are frozen and forbid unknown keys. Their defaults pre-fill the composed tree, so that every leaf
can be overridden by a dotted name; `scar_ray.config.load` turns violations into one line each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scar_ray.config.callables import load_callable
from scar_ray.config.cluster import ClusterConfig
from scar_ray.config.cluster import LearnerConfig as LearnerConfig
from scar_ray.config.cluster import RewardPoolConfig as RewardPoolConfig
from scar_ray.config.cluster import RolloutPoolConfig as RolloutPoolConfig
from scar_ray.config.combinations import conflicts
from scar_ray.config.evaluation import EvalConfig
from scar_ray.config.models import HEAD_SIZES as HEAD_SIZES
from scar_ray.config.models import ArchitectureConfig as ArchitectureConfig
from scar_ray.config.models import LoraConfig as LoraConfig
from scar_ray.config.models import ModelConfig
from scar_ray.config.models import PolicyConfig as PolicyConfig
from scar_ray.config.models import RewardModelConfig as RewardModelConfig
from scar_ray.config.sampling import Sampling as Sampling
from scar_ray.config.section import Count, Fraction, NonNegative, Positive, Section, Whole
from scar_ray.credit import CandidateRules
from scar_ray.credit.advantages import Scaling, TokenAdvantages
from scar_ray.credit.set_utility import SetUtility, UtilityName
from scar_ray.games import Estimator
from scar_ray.games.contiguous import W_MAX
from scar_ray.objectives.kl import KLEstimator
from scar_ray.parsing import ParserName
from scar_ray.records import Masking as Masking
from scar_ray.text.candidates import ListFormat
from scar_ray.text.units import Unit


class DataSource(Section):
    """Where rows come from: a local JSONL(.gz)/CSV/parquet file, or the name of a data set on the hub."""

    source: str = ""
    split: str = "train"
    folder: str | None = None
    """Folder of the data set on the hub that is wanted; none: the whole."""
    text: str = "text"
    """imdb: column with the text. `task.products`: column, or template over columns, of what is searched."""
    label: str = "label"
    """imdb: column with the class label (0 or 1); used by reward-model training only."""
    prompt: str = "prompt"
    """tldr, hh: column with the prompt, or a template over columns ("TITLE: {title}"); empty: the other columns hold
    whole dialogues, and the prompt is what comes before their last answer. Product search: a template of the prompt
    that holds {query}."""
    completion: str = "completion"
    """tldr, hh: column with the demonstrated completion; used by `scar-ray sft`."""
    chosen: str = "chosen"
    """tldr, hh: column with the better completion of a pair; used by `scar-ray rm`."""
    rejected: str = "rejected"
    """tldr, hh: column with the worse one."""
    query: str = "query"
    """Product search: column with the query of a judgement."""
    product: str = "product_id"
    """Product search: column with the product's id, of a judgement and of the catalogue."""
    gain: str = "gain"
    """Product search: column with the gain of a judgement, a number of at least 0 or an ESCI label."""
    limit: Count | None = None
    """Use only the first so many rows."""


Part = Literal["train", "test", "sft_train", "sft_test", "rm_train", "rm_test", "products"]


class TaskConfig(Section):
    """A task: prompts, data and sampling."""

    name: Literal["demo", "imdb", "tldr", "hh", "product_search", "product_rewrites", "arithmetic"] = "demo"
    data: str = ""
    """Folder with the task's files under the names that its group file gives; empty: its data sets on the hub."""
    train: DataSource = DataSource()
    """Prompts of the training; the texts of imdb, also for `scar-ray sft` and `rm`."""
    test: DataSource = DataSource()
    """The same, held out."""
    sft_train: DataSource | None = None
    """Demonstrations for `scar-ray sft`; none: those of `train`."""
    sft_test: DataSource | None = None
    rm_train: DataSource | None = None
    """Preference pairs for `scar-ray rm`; none: those of `train`."""
    rm_test: DataSource | None = None
    products: DataSource | None = None
    """product_search, product_rewrites: the catalogue; `train` and `test` are judgements of its products."""
    keep_query: bool = False
    """The same: the response is added to the query that is searched, and does not take its place."""
    mistakes: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """arithmetic: share of wrong steps in the demonstrations, for a policy that has something to unlearn."""
    prompt_tokens_min: Count = 4
    """demo, imdb: fewest tokens of a text that make a prompt."""
    prompt_tokens_max: Count = 8
    """demo, imdb: most of them. Other tasks: longest prompt; the post of tldr is shortened, a dialogue of hh or a query
    left out."""
    min_chars: Whole = 200
    """imdb: texts shorter than this give no prompts."""
    sampling: Sampling = Sampling()

    @property
    def has_prompts(self) -> bool:
        """Rows give whole prompts and demonstrated completions, not texts that a prompt is the beginning of."""
        return self.name in ("tldr", "hh", "arithmetic") or self.is_search

    @property
    def is_search(self) -> bool:
        """Prompts are queries with judged products, and the reward is a rule."""
        return self.name in ("product_search", "product_rewrites")

    @property
    def is_generated(self) -> bool:
        """Rows come from the project's own grammar or generator, not from a data set."""
        return self.name in ("demo", "arithmetic")

    def source(self, part: Part) -> tuple[str, DataSource]:
        """Where the rows of `part` come from, and the key that says so."""
        found: DataSource | None = getattr(self, part)
        if found is not None:
            return f"task.{part}", found
        return self.source("test" if part.endswith("test") else "train")

    @model_validator(mode="after")
    def _ordered(self) -> TaskConfig:
        if self.prompt_tokens_min > self.prompt_tokens_max:
            raise ValueError(
                f"prompt_tokens_min={self.prompt_tokens_min} is above "
                f"prompt_tokens_max={self.prompt_tokens_max}; lower it"
            )
        return self


class CandidatesConfig(Section):
    """shape_grpo only: the candidates that one response lists, and what a set of them is worth."""

    form: ListFormat = "numbered"
    """A numbered list, a JSON list of texts, or texts between separators."""
    count: Count = 3
    """Candidates that a response is asked for."""
    separator: str = "\n"
    """separator only."""
    utility: UtilityName = "max"
    """Worth of a set; see `scar_ray.credit.set_utility`."""
    m: Count = 1
    """top_m only: how many of the best count."""
    floor: float | None = None
    """Reward of a missing candidate, and least worth with utility=max_floor; none: the reward of the empty response."""
    aspects: tuple[str, ...] = ()
    """coverage only: words that the candidates should name between them."""
    function: str = ""
    """function only: `package.module:name` or `path/to/file.py:name`; name(texts, rewards) is the worth of any set."""
    scaling: Scaling = "length_exact"
    """How a share becomes what its tokens are judged by without a critic."""

    def rules(self) -> CandidateRules:
        """The same as `scar_ray.credit` takes it. ValueError when the function cannot be had."""
        function = load_callable("credit.candidates.function", self.function) if self.function else None
        utility = SetUtility(self.utility, self.m, self.aspects, function)
        return CandidateRules(self.form, self.count, self.separator, utility, self.floor, self.scaling)


class CreditConfig(Section):
    """How the sequence score is shared out; one group file for each choice of `credit=`."""

    method: Literal["sparse", "uniform", "abc", "prefix", "scar", "ospo", "shape_grpo"] = "scar"
    unit: Unit = "span"
    """What a player is; used by prefix, scar and ospo."""
    estimator: Estimator = "auto"
    """scar only: auto is the exact Owen value where it fits the budget, else an estimate; see `scar_ray.games`."""
    value: Literal["mask", "complete"] = "mask"
    """What a coalition is worth: the reward of the response without the other units, or the mean reward of responses
    in which the policy writes them anew, for rewards that partial answers say nothing to (`trainer.completion`)."""
    completions: Count = 8
    """complete only: responses of which a value is the mean."""
    masking: Masking = "delete"
    """How units are left out of a response: cut out, replaced by blanks, mask or padding tokens, or not attended to."""
    alpha: Fraction = 0.8
    """Share of the dense reward; 1 - alpha stays on the last token. Used by abc, prefix, scar and ospo."""
    budget: Annotated[int, Field(ge=4)] = 128
    """scar and ospo: largest number of coalitions of a response."""
    budget_tokens: Count | None = None
    """scar only: most tokens that the reward model computes for a response, the prompt and every common beginning of
    its coalitions once; none: as many as `budget` coalitions take. Counted in policy tokens; only causal reward
    models compute common beginnings once."""
    max_units: Count = 64
    """prefix, scar and ospo: neighbouring units are merged until no more than this are left."""
    base: Literal["last", "spread", "zero"] = "last"
    """Where v(empty) goes: last token, equal parts on the units, or pinned to zero (the SCAR paper)."""
    parser: ParserName = "heuristic"
    """What finds the phrases: our rules, the parser of `scar-ray parser build`, or one that you have installed."""
    audit_every: Whole = 10
    """prefix, scar, ospo: steps between audits of one response, its exact credits and its hindsight; 0: never."""
    w_max: Count = W_MAX
    """ospo only: units of the widest contiguous coalition."""
    candidates: CandidatesConfig = CandidatesConfig()

    def method_options(self) -> dict[str, Any]:
        """What `scar_ray.credit.build` takes, but for the parser itself."""
        options = self.model_dump(exclude={"parser", "audit_every", "candidates", "value", "completions"})
        return options | {"candidates": self.candidates.rules()}


class KLConfig(Section):
    """Penalty on the divergence from the reference policy."""

    controller: Literal["fixed", "adaptive"] = "fixed"
    coef: NonNegative = 0.05
    place: Literal["reward", "loss"] = "reward"
    """Paid per token in the reward (estimator k1), or a term of the loss."""
    estimator: KLEstimator = "k3"
    """loss only: what is differentiated; see `scar_ray.objectives.ppo.kl_loss` for each one's gradient."""
    target: Positive = 6.0
    """adaptive only: sequence KL (nats) aimed for."""
    horizon: Count = 10_000
    """adaptive only: responses over which the coefficient adapts."""


class ShapingConfig(Section):
    """Changes to the sequence score, made before it is distributed over the tokens."""

    clip: Positive | None = None
    """Scores are clipped to [-clip, clip]; the shares scale with them."""
    missing_eos_penalty: NonNegative = 0.0
    """Taken off a response that does not end with the EOS."""
    over_length_penalty: NonNegative = 0.0
    """Taken off a response of max_new_tokens tokens; grows linearly from over_length_start."""
    over_length_start: Whole | None = None
    """Response length from which the over-length penalty grows; none: only responses of full length pay."""


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    lr: Positive = 1e-5
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    eps: Positive = 1e-5
    weight_decay: NonNegative = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """linear and cosine fall to zero at the last step."""
    warmup_steps: Whole = 0
    """Training steps over which the rate rises from zero."""
    max_grad_norm: Positive = 1.0


class CriticConfig(Section):
    """The value function."""

    kind: Literal["shared", "separate"] = "shared"
    """A value head on the policy's trunk, or a model of its own."""
    init: Literal["policy", "reward"] = "policy"
    """separate only: weights its trunk starts from; reward needs a causal one with the policy's tokenizer."""
    lr: Positive = 1e-4
    """separate only; a shared trunk uses the policy's rate."""
    head_lr: Positive | None = None
    """shared only: learning rate of the value head, which starts from nothing; none: the policy's."""
    coef: NonNegative = 0.1
    """Weight of the value loss beside the policy loss (shared trunk)."""
    clip: Positive | None = 0.2
    """Value clipping range around the old values; none switches it off."""
    warmup_steps: Whole = 0
    """First training steps in which only the critic learns."""


class GroupConfig(Section):
    """grpo, rloo and reinforce: advantages without a critic, from what other responses were paid."""

    tokens: TokenAdvantages = "to_go"
    """How token rewards become token advantages; see `scar_ray.trainer.groups`."""
    std: bool = True
    """Divides the advantages of a group by the standard deviation of its rewards."""
    filter: bool = False
    """Leaves groups out of the update in which all responses were paid the same."""


class BatchConfig(Section):
    """Batch arithmetic of one training step."""

    prompts: Count = 64
    """Prompts of a step."""
    samples: Count = 1
    """Responses to each prompt."""
    minibatch: Count = 64
    """Responses of one optimizer step; divides prompts * samples."""

    @property
    def responses(self) -> int:
        return self.prompts * self.samples


class AlgorithmConfig(Section):
    """PPO with per-token rewards, or the same clipped loss with advantages that need no critic."""

    name: Literal["ppo", "grpo", "rloo", "reinforce"] = "ppo"
    """Where the baseline comes from: a critic, the mean of the prompt's responses, the mean of the prompt's other
    responses, or the mean of all other responses of the step."""
    batch: BatchConfig = BatchConfig()
    epochs: Count = 4
    """Passes over the batch in each step."""
    gamma: Fraction = 1.0
    lam: Fraction = 0.95
    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    clip_high: Positive | None = None
    """Ratios are clipped to [1 - clip, 1 + clip_high]; none: to 1 + clip."""
    length_norm: Literal["token", "response", "constant"] = "token"
    """The policy loss is the mean over the tokens of a mini-batch, the mean over responses of each one's mean, or the
    sum over tokens by responses times max_new_tokens."""
    log_ratio_clamp: Positive = 20.0
    entropy_coef: NonNegative = 0.0
    whiten_advantages: bool = True
    """ppo only."""
    target_kl: Positive | None = None
    """Stops a step's epochs when the mean k3 divergence from the old policy (nats per token) exceeds it."""
    importance_cap: Positive | None = None
    """Truncated importance correction of the engine's log-probabilities: min(pi_learner/pi_engine, cap)."""
    kl: KLConfig = KLConfig()
    shaping: ShapingConfig = ShapingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    critic: CriticConfig = CriticConfig()
    group: GroupConfig = GroupConfig()

    @property
    def has_critic(self) -> bool:
        return self.name == "ppo"

    @property
    def value_head_lr(self) -> float:
        """Learning rate of a value head on the policy's trunk."""
        return self.optimizer.lr if self.critic.head_lr is None else self.critic.head_lr

    @property
    def clip_range(self) -> tuple[float, float]:
        """Smallest and largest ratio of probabilities that the policy loss rewards."""
        return 1.0 - self.clip, 1.0 + (self.clip if self.clip_high is None else self.clip_high)

    @property
    def group_size(self) -> int:
        """Responses, in consecutive rows of a batch, that are each other's baseline."""
        return self.batch.responses if self.name == "reinforce" else self.batch.samples

    @model_validator(mode="after")
    def _divides(self) -> AlgorithmConfig:
        if self.batch.responses % self.batch.minibatch:
            raise ValueError(
                f"batch.minibatch={self.batch.minibatch} does not divide the batch of "
                f"{self.batch.responses} responses (prompts {self.batch.prompts} * "
                f"samples {self.batch.samples})"
            )
        return self


class TrainerConfig(Section):
    """The run."""

    steps: Count = 200
    checkpoint_every: Count = 50
    keep_checkpoints: Count = 2
    """The newest ones; that of the best evaluation is kept besides."""
    sample_every: Count = 10
    """Steps between sample responses written with their credits."""
    samples_kept: Count = 8
    """Responses of such a step."""
    tensorboard: bool = True
    wandb: bool = False


SupervisedCommand = Literal["sft", "rm"]


class SupervisedConfig(Section):
    """`scar-ray sft` and `scar-ray rm`."""

    epochs: Count = 1
    batch: Count = 32
    """Rows of an optimizer step: texts, prompts with their completions, or pairs."""
    micro_batch: Count | None = None
    """Rows of one forward and backward pass; gradients accumulate up to the batch. None: the whole batch."""
    lr: Positive = 5e-4
    max_tokens: Count = 128
    """Longest sequence; texts and completions are cut."""
    warmup_fraction: Fraction = 0.05
    weight_decay: NonNegative = 0.01
    crop: bool = False
    """rm: also train on random crops of the texts, so that short and partial texts get meaningful scores. Both
    completions of a pair are cut at the same fraction."""
    prompt_weight: Fraction = 0.0
    """sft on demonstrations: weight of a prompt token in the loss beside 1 of a completion token."""
    from_policy: bool = False
    """rm: starts from the weights of `model.policy.path` with a new head, not from `model.reward.path` or scratch."""
    centre: bool = False
    """rm on pairs: the mean reward of the demonstrations in `task.sft_train` becomes zero."""
    centre_rows: Count = 1000
    """Demonstrations of which the mean is taken."""
    checkpoint_every: Count = 200
    """Steps between checkpoints; after a stop the same command goes on from the last one."""


class Config(Section):
    """The whole configuration of one run."""

    seed: Whole = 0
    name: str | None = None
    """Name of the run folder; none: made of task, credit, seed and time."""
    runs: Path = Path("runs")
    """Folder in which run folders are made."""
    task: TaskConfig = TaskConfig()
    credit: CreditConfig = CreditConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    model: ModelConfig = ModelConfig()
    cluster: ClusterConfig = ClusterConfig()
    trainer: TrainerConfig = TrainerConfig()
    eval: EvalConfig = EvalConfig()
    sft: SupervisedConfig = SupervisedConfig()
    rm: SupervisedConfig = SupervisedConfig()

    @model_validator(mode="after")
    def _combinations(self) -> Config:
        problems = conflicts(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self
