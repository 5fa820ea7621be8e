"""Values by completion for one response, in this process: a policy of Transformers writes, the reward model scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from scar_ray.analysis.loading import check_device, located
from scar_ray.config.errors import UserError
from scar_ray.config.schema import Config, Sampling
from scar_ray.records import CreditPlan, Evaluation, Prompt, Request, Response
from scar_ray.text.writing import Writing

if TYPE_CHECKING:
    from torch import Tensor

    from scar_ray.scoring import FunctionReward, RewardModel, Workload


class LocalPolicy:
    """A rollout pool of one model. Samples one response after another, each by its request's seed alone."""

    def __init__(self, path: str, config: Config, device: str) -> None:
        """UserError where there is no such model or device."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        check_device(device)
        where, remote = located(path), config.model.trust_remote_code
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(where, trust_remote_code=remote)
            model = AutoModelForCausalLM.from_pretrained(
                where, dtype=config.model.policy.dtype, trust_remote_code=remote
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"policy {path}: {reason}; give a folder, or a name that the hub has") from error
        self._model, self._sampling = model.to(device).eval(), config.task.sampling
        self._writing = Writing(self.tokenizer, config.model.policy.infill)

    def generate(self, requests: Sequence[Request], sampling: Sampling | None = None) -> Iterator[Response]:
        """Yields the response to each request, in their order."""
        sampling = sampling or self._sampling
        for request in requests:
            written = self._written(request, sampling)
            ended = written[-1:] == [self.tokenizer.eos_token_id]
            unknown = [float("nan")] * len(written)
            yield self._writing.response(request, written, unknown, ended=ended, policy_version=0, engine="policy")

    def _written(self, request: Request, sampling: Sampling) -> list[int]:
        """What the policy writes, its EOS included."""
        import torch

        most = request.most(sampling.max_new_tokens)
        if most < 1:
            return []
        given = torch.tensor([self._writing.read(request)], device=self._model.device)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(request.seed)
            least, eos = request.least(sampling.min_new_tokens), self.tokenizer.eos_token_id
            output = sampled(self._model, given, sampling, eos, least, most)
        written: list[int] = output[0, given.shape[1] :].tolist()
        return written


def sampled(model: Any, given_BL: Tensor, sampling: Sampling, eos: int, least: int, most: int) -> Tensor:
    """What is given, all of one length, and what the model writes: `least` to `most` tokens, the EOS included."""
    ids_BL: Tensor = model.generate(
        given_BL,
        attention_mask=given_BL.new_ones(given_BL.shape),
        do_sample=True,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=0,
        min_new_tokens=least,
        max_new_tokens=most,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    return ids_BL


class LocalScores:
    """A reward pool over one reward, which scores all that it was given at once."""

    def __init__(self, model: RewardModel | FunctionReward) -> None:
        self._model = model
        self.work: Workload
        """What the scores of the last step took."""
        self.begin([])

    def begin(self, prompts: Sequence[Prompt], more: int = 0) -> None:
        del prompts, more  # everything is there before it is scored
        self._jobs: list[tuple[Response, CreditPlan]] = []

    def submit(self, response: Response, plan: CreditPlan) -> None:
        self._jobs.append((response, plan))

    def results(self) -> dict[int, Evaluation]:
        """Evaluations by row. SampleFailed where the model cannot score a response."""
        evaluations, self.work = self._model.evaluate(self._jobs)
        rows = [response.row for response, _ in self._jobs]
        return dict(zip(rows, evaluations, strict=True))
