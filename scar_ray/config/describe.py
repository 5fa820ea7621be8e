"""What `scar-ray train --dry-run` prints: configuration, placement plan, batch arithmetic, evaluations."""

from __future__ import annotations

from omegaconf import OmegaConf

from scar_ray.config.arithmetic import batch_arithmetic, evaluations
from scar_ray.config.placement import placement
from scar_ray.config.schema import Config


def describe(config: Config) -> str:
    """The whole plan of a run as text."""
    return "\n\n".join((_resolved(config), _placement(config), _batch(config), _evaluations(config)))


def _resolved(config: Config) -> str:
    return "Configuration\n" + _indented(OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json"))))


def _placement(config: Config) -> str:
    cluster = config.cluster
    plan = placement(cluster)
    where = "CPU only" if cluster.device == "cpu" else f"{cluster.placement} GPUs"
    lines = [f"{'role':<10}{'actors':>8}{'CPUs each':>12}{'GPUs each':>12}  bundles"]
    for role in plan.roles:
        width = len(role.bundles[0])
        lines.append(
            f"{role.name:<10}{role.actors:>8}{role.cpus * width:>12g}{role.gpus * width:>12g}  "
            + _ranges(sorted({bundle for owned in role.bundles for bundle in owned}))
        )
    lines.append(f"in all: {len(plan.bundles)} bundles, {plan.cpus:g} CPUs, {plan.gpus:g} GPUs")
    return f"Placement ({where})\n" + _indented("\n".join(lines))


def _batch(config: Config) -> str:
    batch, cluster, arithmetic = config.algorithm.batch, config.cluster, batch_arithmetic(config)
    lines = (
        f"responses: {batch.prompts} prompts x {batch.samples} samples = {arithmetic.responses}, "
        f"at most {arithmetic.new_tokens:,} new tokens",
        f"optimizer steps: {config.algorithm.epochs} epochs x {arithmetic.minibatches} mini-batches of "
        f"{batch.minibatch} = {arithmetic.optimizer_steps}",
        f"each optimizer step: {cluster.learner.ranks} ranks x {arithmetic.micro_batches} micro-batches of "
        f"{cluster.learner.micro_batch}",
        _held_out(config),
        f"the run: {config.trainer.steps:,} steps, {arithmetic.total_responses:,} responses, "
        f"{arithmetic.total_optimizer_steps:,} optimizer steps",
    )
    return "Batch of a step\n" + _indented("\n".join(lines))


def _held_out(config: Config) -> str:
    held_out = config.eval
    if not held_out.every:
        return "held-out prompts: none (eval.every=0)"
    return (
        f"held-out prompts: up to {held_out.prompts:,} x {held_out.samples} samples before the first step, every "
        f"{held_out.every:,} steps and after the last"
    )


def _evaluations(config: Config) -> str:
    counts = evaluations(config)
    responses = config.algorithm.batch.responses
    if not counts.units:
        what = "plain score and attention" if config.credit.method == "abc" else "plain score"
        lines = [f"per response: 1 ({what})", f"per step: {responses:,}"]
    else:
        kind = "candidate" if config.credit.method == "shape_grpo" else f"{config.credit.unit} unit"
        units = f"{counts.units} {kind}{'s' if counts.units > 1 else ''}"
        lines = [
            f"per response: about {counts.typical:,} (full length, {units}), {counts.tokens:,} reward-model tokens, "
            f"{counts.computed:,} with common beginnings computed once; at most {counts.most:,}",
            f"per step: about {responses * counts.typical:,}, {responses * counts.tokens:,} tokens, "
            f"{responses * counts.computed:,} computed; at most {responses * counts.most:,}",
        ]
    if config.credit.value == "complete":
        lines.append(
            f"values by {config.credit.completions} completions each: at most {counts.generated:,} more generated "
            f"tokens per response, {responses * counts.generated:,} per step; what responses share is written once"
        )
    return "Coalition evaluations of the reward model, plain scores included\n" + _indented("\n".join(lines))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())


def _ranges(numbers: list[int]) -> str:
    return f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
