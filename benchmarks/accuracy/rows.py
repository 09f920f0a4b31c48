"""The rows of the experiment: networks, their recipes, and the tables that list them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from nnunetv2_s2ca.core.errors import UserError

Table = Literal["sweep", "final", "long"]
TABLES: tuple[Table, ...] = ("sweep", "final", "long")
FULLRES, LOWRES, CASCADE = "3d_fullres", "3d_lowres", "3d_cascade_fullres"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the named trainer decides on everything that is None.

    Attributes:
        trainer: nnU-Net's or our trainer, which builds the network.
        optimiser: "sgd" (Nesterov, momentum 0.99), "adam" or "adamw".
        rate: highest learning rate.
        wide_rate: rate of the 2D layers of LGSM and MCA in relation to `rate`.
        decay: weight decay of the optimiser.
        schedule: "poly" (nnU-Net's), "cosine" (to zero), or "paper" (plateau until 55/400, then
            cosine), each per step.
        warmup: share of the steps in which the rate rises linearly to the highest.
        betas: Adam's.
        clip: largest norm of the gradient; nnU-Net clips at 12 in any case.
        ema: decay of the average over the weights that validation and prediction use.
        layer_scale: the value that the layer scales of the global branches start from.
        initialisation: "he" for nnU-Net's initialisation of all convolutions, "baseline" for an
            S2CA-Net that starts as its residual blocks alone.
        prior: share of foreground that the heads' biases start from.
        gate_norm: "instance" for instance norm in place of batch norm in the gates; another
            function of the network, for comparison only.
        output_weights: "nnunet" for nnU-Net's weights of deep supervision.
    """

    trainer: str
    optimiser: str | None = None
    rate: float | None = None
    wide_rate: float | None = None
    decay: float = 1e-5
    schedule: str | None = None
    warmup: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = None
    ema: float | None = None
    layer_scale: float | None = None
    initialisation: str | None = None
    prior: float | None = None
    gate_norm: str | None = None
    output_weights: str | None = None


@dataclass(frozen=True)
class Row:
    """A recipe on a data set, trained with several seeds.

    Attributes:
        name: letters, digits and hyphens.
        recipe: how it is trained.
        steps: Number of steps; the experiment's if None.
        tables: Tables that list the row.
        changes: The row that it changes in one thing.
        data: "first" or "second" hospital.
        start_from: The row with the initial weights, of the same seed.
        seconds_of: The row whose processor seconds determine the number of steps.
        configuration: nnU-Net's.
        previous_stage: The row whose predictions are further channels of the input.
    """

    name: str
    recipe: Recipe
    steps: int | None = None
    tables: tuple[Table, ...] = ("sweep",)
    changes: str | None = None
    data: Literal["first", "second"] = "first"
    start_from: str | None = None
    seconds_of: str | None = None
    configuration: str = FULLRES
    previous_stage: str | None = None

    @property
    def trainer(self) -> str:
        """Name of the trainer's class, the same for both stages of a cascade, as in nnU-Net."""
        return f"Accuracy_{(self.previous_stage or self.name).replace('-', '_')}"

    @property
    def network(self) -> str:
        """Name of the network: nnU-Net or S2CA-Net."""
        return "nnU-Net" if self.recipe.trainer == NNUNET else "S2CA-Net"

    def as_json(self) -> dict[str, Any]:
        """Everything that affects the row's outcome, for its record."""
        content = asdict(self)
        del content["tables"], content["changes"]
        return content


NNUNET, S2CA = "nnUNetTrainer", "nnUNetTrainerS2CA"
# short runs: warm-up for a tenth of the steps, then half a cosine
SHORT: dict[str, Any] = {"optimiser": "adam", "schedule": "cosine", "warmup": 0.1}
REFERENCE_S2CA = Recipe(S2CA, rate=3e-3, **SHORT)
REFERENCE_NNUNET = Recipe(NNUNET, rate=3e-3, **SHORT)
PRIOR, WIDE_RATE = 0.02, 0.1
# one change each: first to the reference, then to the prior that won
FIRST_CHANGES: dict[str, dict[str, Any]] = {
    "ema": {"ema": 0.98},
    "layer-scale": {"layer_scale": 0.1},
    "he": {"initialisation": "he"},
    "prior": {"prior": PRIOR},
}
SECOND_CHANGES: dict[str, dict[str, Any]] = {
    "baseline": {"initialisation": "baseline"},
    "wide-rate": {"wide_rate": WIDE_RATE},
    "no-warmup": {"warmup": 0.0},
    "paper-schedule": {"schedule": "paper", "warmup": 5 / 400},
    "poly": {"schedule": "poly"},
    "clip": {"clip": 1.0},
    "adamw": {"optimiser": "adamw", "decay": 1e-2},
    "beta2": {"betas": (0.9, 0.99)},
    "gate-instance-norm": {"gate_norm": "instance"},
}
# the best of the sweep on validation patients
BEST_S2CA, BEST_NNUNET = "no-wds-best", "nnunet-prior"
FINALISTS = (
    *("nnunet-default", "s2ca-paper", "s2ca-adam-3e-3", "nnunet-adam-3e-3", "s2ca-prior"),
    *("s2ca-wide-rate", BEST_S2CA, BEST_NNUNET),
)
LONG_STEPS = 2000


def _sweep() -> list[Row]:
    """Rows with one change each, judged on validation patients only."""
    rows = [Row("nnunet-default", Recipe(NNUNET)), Row("s2ca-paper", Recipe(S2CA))]
    for network, reference in (("s2ca", REFERENCE_S2CA), ("nnunet", REFERENCE_NNUNET)):
        first = f"{network}-adam-3e-3"
        rows.append(Row(first, reference))
        rows += [
            Row(f"{network}-adam-{_text(rate)}", replace(reference, rate=rate), changes=first)
            for rate in (1e-3, 1e-2)
        ]
    for rate in (3e-3, 3e-2):
        recipe = Recipe(NNUNET, "sgd", rate, decay=3e-5, schedule="poly")
        rows.append(Row(f"nnunet-sgd-{_text(rate)}", recipe, changes="nnunet-default"))
    rows += [
        Row(f"s2ca-{name}", replace(REFERENCE_S2CA, **change), changes="s2ca-adam-3e-3")
        for name, change in FIRST_CHANGES.items()
    ]
    nnunet_with_prior = replace(REFERENCE_NNUNET, prior=PRIOR)
    rows.append(Row("nnunet-prior", nnunet_with_prior, changes="nnunet-adam-3e-3"))
    with_prior = replace(REFERENCE_S2CA, prior=PRIOR)
    rows += [
        Row(f"s2ca-{name}", replace(with_prior, **change), changes="s2ca-prior")
        for name, change in SECOND_CHANGES.items()
    ]
    # then nnU-Net's output weights, as in the paper's rows before WDS
    both = replace(with_prior, wide_rate=WIDE_RATE, trainer="nnUNetTrainerS2CA_noWDS")
    rows.append(Row("no-wds-best", both, changes="s2ca-wide-rate"))
    return [
        replace(row, tables=("sweep", "final")) if row.name in FINALISTS else row for row in rows
    ]


def _with_best_recipes(s2ca: Recipe, nnunet: Recipe) -> list[Row]:
    """The rows that use the best recipes of the sweep."""
    ablation = {
        "b-lgsm": "nnUNetTrainerS2CA_B_LGSM",
        "b-lgsm-mca": "nnUNetTrainerS2CA_B_LGSM_MCA",
    }
    half = replace(s2ca, trainer="nnUNetTrainerS2CA_S", output_weights="nnunet")
    final: tuple[Table, ...] = ("final",)
    return [
        # B has none of the layers with another rate
        Row("b-best", replace(s2ca, trainer="nnUNetTrainerS2CA_B", wide_rate=None), tables=final),
        *(
            Row(f"{name}-best", replace(s2ca, trainer=trainer), tables=final)
            for name, trainer in ablation.items()
        ),
        Row("s-best", half, tables=final),
        Row("nnunet-same-seconds", nnunet, tables=final, seconds_of=BEST_S2CA),
        Row("from-scratch", s2ca, tables=final, data="second"),
        Row("fine-tuned", s2ca, tables=final, data="second", start_from=BEST_S2CA),
        Row("lowres", s2ca, tables=final, configuration=LOWRES),
        Row("cascade", s2ca, tables=final, configuration=CASCADE, previous_stage="lowres"),
        Row("nnunet-best-long", nnunet, LONG_STEPS, ("long",)),
        Row("s2ca-best-long", s2ca, LONG_STEPS, ("long",)),
    ]


def _all_rows() -> dict[str, Row]:
    rows = {row.name: row for row in _sweep()}
    later = _with_best_recipes(rows[BEST_S2CA].recipe, rows[BEST_NNUNET].recipe)
    return rows | {row.name: row for row in later}


def _text(rate: float) -> str:
    return re.sub(r"e-0", "e-", f"{rate:.0e}")


ROWS = _all_rows()


def chosen_rows(names: list[str] | None, table: Table | None) -> list[Row]:
    """The rows of these names, or of a table, or all.

    Raises:
        UserError: No row has such a name.
    """
    unknown = [name for name in names or () if name not in ROWS]
    if unknown:
        raise UserError(f"no row is called {', '.join(unknown)}; --list shows the rows")
    return [
        row
        for row in ROWS.values()
        if (names is None or row.name in names) and (table is None or table in row.tables)
    ]
