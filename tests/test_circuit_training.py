"""Training on a circuit changes what it should and nothing else, for the losses that a slow training loop works out."""

import math
from dataclasses import replace

import pytest
import torch
from checkpoints import VOCABULARY, random_model, random_prompts
from slow_loops import BLOCKS, OUTPUT_PROJECTION
from torch.nn.functional import cross_entropy, kl_div

from distilled_circuits.distillation.cka import biased_cka, debiased_cka
from distilled_circuits.distillation.losses import projection_maps
from distilled_circuits.distillation.objective import AlignedPairs, Answers, Objective, batch_losses
from distilled_circuits.distillation.reading import read_heads, read_in_batches
from distilled_circuits.distillation.trainable import head_masks, trainable, trained_parameters
from distilled_circuits.distillation.training import Schedule, train_on_circuit
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

MODELS = ("gpt2", "llama")
HEADS = (Component(0, 1), Component(2, 3))
SITES = ("z", "write", "pattern")
PROMPTS = random_prompts(24)
SCHEDULE = Schedule(steps=3, batch_size=8, learning_rate=0.01, warmup=1)
LONGER = Schedule(steps=20, batch_size=20, learning_rate=0.005, warmup=5)


@pytest.fixture(params=MODELS)
def lens(request) -> HookLens:
    """A student to train: GPT-2's fused projection, and grouped queries."""
    return HookLens(random_model(request.param))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pairs_for(heads=HEADS, positions=None, weights=None) -> AlignedPairs:
    """Return targets of random geometry, of another width than the student's, on all prompts."""
    number, prompts, length = len(heads), *PROMPTS.ids.shape
    targets = {
        "z": noise(number, prompts, 7, seed=1),
        "write": noise(number, prompts, 11, seed=2),
        "pattern": noise(number, prompts, length, seed=3).softmax(-1),
    }
    return AlignedPairs(heads, targets, positions, weights)


ANSWERS = Answers(PROMPTS.answers, PROMPTS.distractors, noise(24, VOCABULARY, seed=9))
CKA = Objective(0.0, alignment="cka", weight=1.0)
BOTH = Objective(1.0, alignment="cka", weight=0.7)


def trained(lens, objective, pairs=None, heads=HEADS, seed=0, schedule=SCHEDULE, kv="any", ids=PROMPTS.ids):
    """Train on random prompts towards random targets."""
    pairs = pairs_for() if pairs is None else pairs
    return train_on_circuit(lens, ids, ANSWERS, pairs, objective, schedule, heads, seed, "test", kv)


def slow_reading(model, ids: torch.Tensor, heads, positions: torch.Tensor):
    """Return logits and what heads do, from a plain pass with one hook a layer and the model's own attentions."""
    inputs: list[torch.Tensor] = []
    projections = [
        OUTPUT_PROJECTION[model.config.model_type](block)[0] for block in BLOCKS[model.config.model_type](model)
    ]
    hooks = [one.register_forward_pre_hook(lambda _m, args: inputs.append(args[0])) for one in projections]
    out = model(ids, output_attentions=True)
    for hook in hooks:
        hook.remove()
    width = inputs[0].shape[-1] // model.config.num_attention_heads
    rows = torch.arange(len(ids))
    found: dict[str, list[torch.Tensor]] = {site: [] for site in SITES}
    for head, places in zip(heads, positions, strict=True):
        own = slice(head.head * width, (head.head + 1) * width)
        z = inputs[head.layer][rows, places, own]
        weight = projections[head.layer].weight
        found["z"].append(z)
        found["write"].append(z @ (weight[own] if model.config.model_type == "gpt2" else weight[:, own].T))
        found["pattern"].append(out.attentions[head.layer][rows, head.head, places])
    return out.logits[:, -1], {site: torch.stack(values) for site, values in found.items()}


@pytest.mark.parametrize("where", ["last", "role"])
def test_a_reading_is_that_of_the_model(lens, where):
    """Logits, z, writes and patterns equal those of a plain pass, at the last position or at one for each prompt."""
    heads = (Component(2, 3), Component(0, 1), Component(1, 4), Component(1, 0), Component(2, 3))
    positions = torch.full((5, 24), 5)
    if where == "role":
        positions = torch.randint(0, 6, (5, 24), generator=torch.Generator().manual_seed(0))
    logits, found = read_heads(lens, PROMPTS.ids, heads, SITES, positions if where == "role" else None)
    expected, reading = slow_reading(lens.model, PROMPTS.ids, heads, positions)
    assert torch.allclose(logits, expected, atol=1e-4)
    batched_logits, batched = read_in_batches(lens, PROMPTS.ids, heads, SITES, 7, positions)
    assert torch.allclose(batched_logits, logits, atol=1e-5)
    for site in SITES:
        assert torch.allclose(found[site], reading[site], atol=1e-4), site
        assert torch.allclose(batched[site], found[site], atol=1e-5), site


def test_a_reading_without_heads_has_logits_alone(lens):
    """What is not asked for is not there."""
    logits, found = read_heads(lens, PROMPTS.ids, (), ["z"])
    assert torch.allclose(logits, lens.run(PROMPTS.ids), atol=1e-4)
    assert found == {}


def slices(model, head: Component) -> dict[str, tuple[str, tuple]]:
    """Return where each matrix and bias of a head lies, by letter: parameter and index, worked out by hand."""
    own = slice(4 * head.head, 4 * head.head + 4)
    if model.config.model_type == "gpt2":
        path, found = f"transformer.h.{head.layer}.attn", {}
        for number, letter in enumerate("qkv"):
            columns = slice(20 * number + own.start, 20 * number + own.stop)
            found[letter] = (f"{path}.c_attn.weight", (slice(None), columns))
            found[f"bias {letter}"] = (f"{path}.c_attn.bias", (columns,))
        return {**found, "o": (f"{path}.c_proj.weight", (own,))}
    path, group = f"model.layers.{head.layer}.self_attn", 4 * (head.head // 3)
    shared = slice(group, group + 4)
    rows = {"q": own, "k": shared, "v": shared}
    found = {letter: (f"{path}.{letter}_proj.weight", (place,)) for letter, place in rows.items()}
    return {**found, "o": (f"{path}.o_proj.weight", (slice(None), own))}


def owned(lens: HookLens, heads, kv="any") -> dict[str, torch.Tensor]:
    """Return for each parameter of the model which of its numbers belong to heads."""
    masks = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in lens.model.named_parameters()}
    for head in heads:
        for letter, (name, index) in slices(lens.model, head).items():
            masks[name][index] |= kv == "any" or letter[-1] in "qo"
    return masks


@pytest.mark.parametrize("kv", ["any", "none"])
def test_masks_are_the_slices_of_the_heads(lens, kv):
    """W_Q, W_K, W_V with biases and W_O; a shared key-value block once, if any of its heads is chosen, or never."""
    heads = [Component(0, 1), Component(0, 2), Component(0, 3), Component(2, 3)]
    expected = owned(lens, heads, kv)
    names = {id(value): name for name, value in lens.model.named_parameters()}
    found = {names[id(parameter)]: mask for parameter, mask in head_masks(lens, heads, kv)}
    assert set(found) == {name for name, mask in expected.items() if mask.any()}
    for name, mask in found.items():
        assert torch.equal(mask, expected[name]), name
    assert trained_parameters(lens, heads, kv) == sum(int(mask.sum()) for mask in expected.values())
    assert trained_parameters(lens, None) == sum(value.numel() for value in lens.model.parameters())


@pytest.mark.parametrize(
    ("objective", "moves_last_output"),
    [
        (Objective(1.0), True),
        (CKA, False),
        (replace(CKA, site="write"), True),
        (replace(CKA, alignment="projection", site="write"), True),
        (replace(CKA, alignment="attention_kl"), False),
        (BOTH, True),
    ],
)
def test_training_moves_the_circuit_and_nothing_else(lens, objective, moves_last_output):
    """Outside the heads' slices weights stay bit-equal, with momentum and clipped gradients; inside they move.

    z of the last layer stands before its W_O: CKA of z gives that no gradient; CKA of what the head writes does.
    """
    before = {name: value.clone() for name, value in lens.model.named_parameters()}
    log = trained(lens, objective, schedule=replace(SCHEDULE, clip=0.5))
    assert [step.step for step in log] == [1, 2, 3]
    still = set()
    for name, mask in owned(lens, HEADS).items():
        value = lens.model.get_parameter(name)
        assert torch.equal(value[~mask], before[name][~mask]), name
        if mask.any() and torch.equal(value[mask], before[name][mask]):
            still.add(name)
    attention = objective.alignment == "attention_kl"
    last = {"gpt2": "transformer.h.2.attn.c_proj.weight", "llama": "model.layers.2.self_attn.o_proj.weight"}
    expected = set() if moves_last_output else {last[lens.architecture.model_type]}
    if attention and not lens.architecture.fused_qkv:
        # What a head looks at does not depend on its values; GPT-2 has them in one tensor with queries and keys.
        expected.add("model.layers.2.self_attn.v_proj.weight")
    assert still == expected
    assert not any(parameter.requires_grad for parameter in lens.model.parameters())


@pytest.mark.parametrize("site", ["z", "write"])
def test_the_gradient_of_cka_reaches_queries_keys_and_values_of_each_head(lens, site):
    """Non-zero for W_Q, W_K and W_V of every circuit head, exactly zero elsewhere; W_O of the last layer by site."""
    with trainable(lens, HEADS):
        objective = replace(CKA, site=site)
        batch_losses(lens, PROMPTS.ids, ANSWERS, pairs_for(), objective, None, torch.arange(24)).loss.backward()
    gradients = {
        name: torch.zeros_like(value) if value.grad is None else value.grad
        for name, value in lens.model.named_parameters()
    }
    for head in HEADS:
        for letter in "qkvo":
            name, index = slices(lens.model, head)[letter]
            reached = bool(gradients[name][index].abs().max() > 1e-6)
            assert reached == (letter != "o" or head.layer < 2 or site == "write"), (head, letter)
    for name, mask in owned(lens, HEADS).items():
        assert not gradients[name][~mask].any(), name


def test_training_everything_moves_everything(lens):
    """Without a circuit every weight takes part."""
    before = {name: value.clone() for name, value in lens.model.named_parameters()}
    trained(lens, Objective(1.0), AlignedPairs(), heads=None)
    assert [name for name, value in lens.model.named_parameters() if torch.equal(value, before[name])] == []


def slow_losses(model, rows, objective: Objective, pairs: AlignedPairs, maps):
    """Return task loss and alignment loss of a batch in plain torch, pair by pair."""
    positions = torch.full((len(pairs.students), 24), 5) if pairs.positions is None else pairs.positions
    logits, own = slow_reading(model, PROMPTS.ids[rows], pairs.students, positions[:, rows])
    if objective.labels == "soft":
        t = objective.temperature
        target = (ANSWERS.logits[rows] / t).softmax(-1)
        task = t**2 * kl_div((logits / t).log_softmax(-1), target, reduction="batchmean")
    else:
        task = cross_entropy(logits, (ANSWERS.gold if objective.labels == "gold" else ANSWERS.teacher)[rows])
    terms = []
    for n in range(len(pairs.students)):
        x, y = (side[objective.aligned_site][n] for side in (own, pairs.targets))
        y = y[rows]
        if objective.shuffled_rows:
            y = torch.stack([y[row - 1] for row in range(len(rows))])
        if objective.alignment == "projection":
            x, y = (side - side.mean(0) for side in (x, y))
            error = x / x.square().mean().sqrt() @ maps[n] - y / y.square().mean().sqrt()
            terms.append(error.square().mean())
        elif objective.alignment == "attention_kl":
            terms.append(kl_div(x.clamp_min(1e-20).log(), y, reduction="batchmean"))
        else:
            terms.append(1 - {"cka": biased_cka, "cka_debiased": debiased_cka}[objective.alignment](x, y))
    weights = torch.full((len(terms),), 1 / len(terms)) if pairs.weights is None else pairs.weights
    return task, sum(weight * term for weight, term in zip(weights, terms, strict=True))


def slow_training(model, objective, pairs, log, masks, order) -> list[tuple[float, float]]:
    """Train with AdamW's defaults on whole matrices, copying back what is frozen after each step."""
    parameters = dict(model.named_parameters())
    frozen = {name: value.detach().clone() for name, value in parameters.items()}
    model.requires_grad_(requires_grad=True)
    maps = projection_maps(2, 4 if objective.site == "z" else model.config.hidden_size, 7, 0)
    maps.requires_grad_(requires_grad=True)
    optimiser = torch.optim.AdamW([*parameters.values(), maps], lr=0.01, weight_decay=0.0)
    found = []
    for rows in order[: len(log)]:
        task, alignment = slow_losses(model, rows, objective, pairs, maps)
        found.append((task.item(), alignment.item()))
        optimiser.zero_grad()
        (objective.cross_entropy * task + objective.weight * alignment).backward()
        optimiser.step()
        with torch.no_grad():
            for name, value in parameters.items():
                value.copy_(torch.where(masks[name], value, frozen[name]))
    return found


ROLES = torch.randint(0, 6, (2, 24), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        (BOTH, {}),
        (replace(BOTH, site="write", labels="gold"), {"weights": torch.tensor([0.8, 0.2])}),
        (replace(BOTH, alignment="cka_debiased", labels="soft", temperature=2.0), {"positions": ROLES}),
        (replace(BOTH, alignment="projection"), {}),
        (replace(BOTH, alignment="attention_kl", weight=0.1), {"positions": ROLES.clamp_min(2)}),
        (replace(BOTH, shuffled_rows=True), {}),
    ],
)
def test_training_is_that_of_a_slow_loop(lens, monkeypatch, objective, options):
    """Losses of each step and the final weights equal those of a loop in plain torch, on the same batches."""
    order = [torch.tensor(rows) for rows in ([3, 1, 4, 15, 9, 2, 6, 5], [0, 7, 8, 10, 23, 12, 13, 14])]
    monkeypatch.setattr("distilled_circuits.distillation.training._batches", lambda *_: iter(order))
    pairs = pairs_for(**options)
    if objective.alignment == "attention_kl":
        # A real pattern looks at nothing behind its query.
        pattern = read_in_batches(
            HookLens(random_model("gpt2", seed=3)), PROMPTS.ids, HEADS, ["pattern"], 24, pairs.positions
        )
        pairs = replace(pairs, targets={**pairs.targets, **pattern[1]})
    other = random_model(lens.architecture.model_type)
    log = trained(lens, objective, pairs)
    expected = slow_training(other, objective, pairs, log, owned(lens, HEADS), order)
    for step, (task, alignment) in zip(log, expected, strict=True):
        assert step.loss == pytest.approx(task + objective.weight * alignment, abs=2e-4)
        assert step.alignment == pytest.approx(alignment, abs=2e-4)
        assert objective.labels != "teacher" or step.cross_entropy == pytest.approx(task, abs=2e-4)
    for name, value in lens.model.named_parameters():
        close = torch.isclose(value, other.get_parameter(name), atol=2e-4)
        if name.endswith("c_attn.bias"):
            # A constant added to all keys changes no attention: Adam follows the rounding errors of a gradient of zero.
            close[20:40] = True
        assert close.all(), name


def test_losses_fall_and_runs_repeat(lens):
    """Cross entropy and CKA distance fall over training; the same seed gives the same bytes, another one others."""
    name = lens.architecture.model_type
    again, different = (HookLens(random_model(name)) for _ in range(2))
    log = trained(lens, BOTH, schedule=LONGER)
    assert log[-1].cross_entropy < log[0].cross_entropy
    assert log[-1].cka > log[0].cka
    assert trained(again, BOTH, schedule=LONGER) == log
    assert trained(different, BOTH, schedule=LONGER, seed=1) != log
    for path, value in lens.model.named_parameters():
        assert torch.equal(value, again.model.get_parameter(path)), path


@pytest.mark.parametrize("alignment", ["cka_debiased", "projection", "attention_kl"])
def test_rival_losses_fall_too(lens, alignment):
    """Each alignment loss alone goes down when it is all that is minimised."""
    log = trained(lens, replace(CKA, alignment=alignment), schedule=LONGER)
    assert log[-1].alignment < log[0].alignment - 0.01


def test_the_log_compares_across_objectives(lens):
    """The first step's cross entropy is that of the teacher's labels for all; CKA is that of z for all with pairs."""
    name = lens.architecture.model_type
    objectives = [
        Objective(1.0),
        Objective(0.5, labels="gold"),
        Objective(1.0, labels="soft", temperature=2.0),
        CKA,
        replace(BOTH, site="write", shuffled_rows=True),
        replace(BOTH, alignment="attention_kl"),
    ]
    first = [trained(HookLens(random_model(name)), objective)[0] for objective in objectives]
    for step, objective in zip(first, objectives, strict=True):
        assert step.cross_entropy == pytest.approx(first[0].cross_entropy, abs=1e-6)
        assert (step.cka, step.debiased_cka) == pytest.approx((first[0].cka, first[0].debiased_cka), abs=1e-6)
        assert math.isnan(step.alignment) == (objective.alignment == "none")
    assert first[3].loss == pytest.approx(1 - first[3].cka, abs=1e-6)
    alone = trained(HookLens(random_model(name)), Objective(1.0), AlignedPairs())[0]
    assert math.isnan(alone.cka) and math.isnan(alone.debiased_cka) and alone.skipped == 0
    assert alone.loss == first[0].loss


def test_constant_heads_are_counted_in_the_log(lens):
    """A teacher head that always says the same is left out of loss and CKA, and the log says so."""
    pairs = pairs_for()
    pairs.targets["z"][1] = 1
    step = trained(lens, CKA, pairs)[0]
    only = AlignedPairs(HEADS[:1], {"z": pairs.targets["z"][:1]})
    expected = trained(HookLens(random_model(lens.architecture.model_type)), CKA, only)[0]
    assert (step.skipped, expected.skipped) == (1, 0)
    assert (step.loss, step.cka) == pytest.approx((expected.loss, expected.cka), abs=1e-6)


def test_batches_see_every_prompt_before_any_again(lens):
    """Twenty-four prompts make three batches of eight; of twenty the last four are dropped and all is shuffled anew."""
    seen: list[torch.Tensor] = []
    lens.model.get_input_embeddings().register_forward_pre_hook(lambda _m, args: seen.append(args[0].clone()))
    ids = torch.arange(24)[:, None].expand(24, 6)
    trained(lens, Objective(1.0), AlignedPairs(), ids=ids, schedule=replace(SCHEDULE, steps=6))
    first, second = (torch.cat(seen[n : n + 3])[:, 0] for n in (0, 3))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(24))
    assert first.tolist() != second.tolist()
    seen.clear()
    trained(lens, Objective(1.0), AlignedPairs(), ids=ids[:20], schedule=replace(SCHEDULE, steps=4))
    assert all(len(set(torch.cat(seen[n : n + 2])[:, 0].tolist())) == 16 for n in (0, 2))


def test_warm_up_starts_slowly_and_clipping_bounds_the_gradient(lens, monkeypatch):
    """The rate rises to its full value over `warmup` steps; gradients have at most the norm `clip`."""
    rates, norms = [], []
    real = torch.optim.AdamW.step

    def step(self, *args):
        rates.append(self.param_groups[0]["lr"])
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(torch.cat(gradients).norm().item())
        return real(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    trained(lens, Objective(1.0), schedule=Schedule(4, 8, 0.1, warmup=2, clip=0.01))
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.1])
    assert norms == pytest.approx([0.01] * 4, rel=1e-3)


def test_a_loss_that_is_no_number_stops_with_its_name_seed_and_step(lens):
    """Half a run is never recorded: the message names condition, seed and step; all weights are frozen again."""
    lens.model.get_input_embeddings().weight.data[:] = math.nan
    with pytest.raises(UserError, match=r"^test, seed 4: the loss is nan at step 1: lower its learning rate"):
        trained(lens, BOTH, seed=4)
    assert not any(parameter.requires_grad for parameter in lens.model.parameters())


@pytest.mark.parametrize(
    ("objective", "pairs", "schedule", "message"),
    [
        (BOTH, None, replace(SCHEDULE, batch_size=25), "batches of 25 prompts, of 24 to train on"),
        (BOTH, None, replace(SCHEDULE, batch_size=3), "batch size must lie between 4"),
        (replace(BOTH, cross_entropy=0.0, weight=0.0), None, SCHEDULE, "nothing would be trained"),
        (BOTH, AlignedPairs(), SCHEDULE, "test: alignment by cka needs pairs of heads"),
    ],
)
def test_what_cannot_be_trained_is_refused(lens, objective, pairs, schedule, message):
    """One line names the condition and what is wrong with it."""
    with pytest.raises(UserError, match=message):
        trained(lens, objective, pairs, schedule=schedule)


def test_labels_that_were_not_given_are_a_mistake(lens):
    """Gold or soft labels without their tensors are a mistake of the caller."""
    for labels in ("gold", "soft"):
        with pytest.raises(ValueError, match="the objective's labels need answers"):
            train_on_circuit(
                lens, PROMPTS.ids, Answers(PROMPTS.answers), AlignedPairs(), Objective(1.0, labels=labels), SCHEDULE,
                HEADS, 0, "test",
            )  # fmt: skip
