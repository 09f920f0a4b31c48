"""The report of the accuracy experiment: README.md and pictures from the records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.accuracy import report_tables as tables
from benchmarks.accuracy.curves import draw_curves
from benchmarks.accuracy.experiment import FINE_TUNING, Settings
from benchmarks.accuracy.patient_pictures import draw_test_patients
from benchmarks.accuracy.real_patients import REAL_FILE
from benchmarks.accuracy.records import Records
from benchmarks.accuracy.results import REGIONS, Part, RowResult, read_results
from benchmarks.accuracy.rows import BEST_NNUNET, BEST_S2CA, LONG_STEPS, ROWS
from nnunetv2_s2ca.core.files import read_json, write_text
from nnunetv2_s2ca.reporting.markdown import markdown_table

REPORT_FILE = "README.md"
CURVES_FILE, LONG_CURVES_FILE, SLICES_FILE = "curves.png", "curves_long.png", "slices.png"
SAME_SECONDS = "nnunet-same-seconds"
LONG_NNUNET, LONG_S2CA = "nnunet-best-long", "s2ca-best-long"
SCRATCH, FINE_TUNED = "from-scratch", "fine-tuned"
LOW_RESOLUTION, CASCADE = "lowres", "cascade"
ABLATION = {
    "B": "b-best",
    "+ LGSM": "b-lgsm-best",
    "+ MCA": "b-lgsm-mca-best",
    "+ MS-ADC": "no-wds-best",
    "+ WDS": "s2ca-wide-rate",
}
CURVES = {
    "S2CA-Net, best recipe": BEST_S2CA,
    "S2CA-Net, the paper's recipe": "s2ca-paper",
    "nnU-Net, best recipe": BEST_NNUNET,
    "nnU-Net, best recipe, S2CA-Net's seconds": SAME_SECONDS,
    "nnU-Net, default": "nnunet-default",
    "B, best recipe": ABLATION["B"],
}
LONG_CURVES = {"S2CA-Net, best recipe": LONG_S2CA, "nnU-Net, best recipe": LONG_NNUNET}
PAIRS = (
    ("equal steps", BEST_NNUNET, BEST_S2CA),
    ("equal processor seconds", SAME_SECONDS, BEST_S2CA),
    ("longer runs, equal steps", LONG_NNUNET, LONG_S2CA),
    ("against nnU-Net as it comes", "nnunet-default", BEST_S2CA),
    ("against the paper's recipe", "s2ca-paper", BEST_S2CA),
    ("nnU-Net: its best recipe against its own", "nnunet-default", BEST_NNUNET),
    ("the prior, for S2CA-Net", "s2ca-adam-3e-3", "s2ca-prior"),
    ("the prior, for nnU-Net", "nnunet-adam-3e-3", "nnunet-prior"),
    ("a lower rate for wide layers", "s2ca-prior", "s2ca-wide-rate"),
    ("nnU-Net's output weights, not WDS", "s2ca-wide-rate", "no-wds-best"),
    ("half the channels", BEST_S2CA, "s-best"),
    ("B alone against nnU-Net", BEST_NNUNET, ABLATION["B"]),
)
REASONS = """## What the recipe is, and why

Adam with a rate of 3e-3, a tenth of the steps as warm-up, then half a cosine; and three changes:

- **Heads that start from a prior.** The heads' biases start at log(0.02 / 0.98), so that an
  untrained network predicts 2 % foreground (`start_from_prior`). Without it, S2CA-Net's Dice
  of ET was below 0.01 at steps 50 and 100, with all three seeds of `s2ca-adam-3e-3`. The
  prior helps nnU-Net's network as much.
- **A tenth of the rate for wide layers.** The 2D layers of LGSM and MCA have up to thousands of
  inputs, and Adam's step does not know (`wide_layers_apart`).
- **nnU-Net's output weights.** They halve from one output to the next and leave out the coarsest;
  the paper's WDS (0.8, 0.6, 0.3, 0.2) gives the coarse outputs more. The paper's own recipe keeps
  WDS, for runs hundreds of times as long.

The trainer `nnUNetTrainerS2CA_short` has this recipe. What else was tried changed little
or cost accuracy: an average of weights (EMA), nnU-Net's initialisation, a larger layer scale, a
start from the residual blocks alone, no warm-up, other schedules, tighter clipping, AdamW, another
beta, and instance norm in the gates. All are in the sweep below."""
LIMITS = """## What this says, and what it does not

- The patients are synthetic, small (5 mm voxels) and few. An order of networks on them is no
  evidence for an order on real gliomas at 1 mm; the paper's figures are the authors', and nothing
  here confirms or refutes them.
- Runs are short, and the lead shrinks with their length. Which recipe wins depends on it, too: the
  paper's rate is for runs hundreds of times as long.
- The intervals are over patients, for the models of these seeds. How much a training varies from
  seed to seed is in the last column of the tables, and few seeds say little about it. A region
  that stays empty with one seed is a failure of the recipe, even if the mean is good.
- Both networks got three rates of Adam and the prior, nnU-Net's also two more rates of SGD. Further
  changes were tried for S2CA-Net alone, so its recipe is the better tuned one.
- nnU-Net's output weights were chosen on validation patients, where they won with every seed, but
  after both rows' test patients had been scored for the ablation. Against `nnunet-prior`, the row
  with WDS (`s2ca-wide-rate`) leads by less: see its Dice above.
- p is not corrected for the number of comparisons. Recipes were chosen on validation patients,
  which makes the best one look a little too good there; test patients had no part in the choice.
- Seconds are processor seconds of one thread, training steps alone. A GPU has other ratios."""

Results = Mapping[str, RowResult]


def write_report(folder: Path, work: Path) -> Path:
    """Write the report from the records in a folder; it names rows that were not run.

    Args:
        folder: Folder with `rows/*.json`, to which the report is written.
        work: The experiment's folder. Without the predictions of test patients there, their
            picture is not drawn again.

    Returns:
        The report.

    Raises:
        UserError: The records are of different patients, or a file cannot be written.
    """
    results = read_results(Records(folder / "rows"))
    folder.mkdir(parents=True, exist_ok=True)
    for names, file in ((CURVES, CURVES_FILE), (LONG_CURVES, LONG_CURVES_FILE)):
        draw_curves({label: results[name] for label, name in names.items()}, folder / file)
    best = {"S2CA-Net": results[BEST_S2CA], "nnU-Net": results[BEST_NNUNET]}
    draw_test_patients(best, work, folder / SLICES_FILE)
    write_text(folder / REPORT_FILE, _text(results, folder))
    return folder / REPORT_FILE


def _text(results: Results, folder: Path) -> str:
    sections = [
        _introduction(results),
        _comparisons(results),
        REASONS,
        *_pictures(folder, CURVES_FILE, LONG_CURVES_FILE),
        _ablation(results),
        _further_uses(results),
        *_pictures(folder, SLICES_FILE),
        *_real_patients(folder),
        "## All rows",
        _scores(results, "test"),
        _scores(results, "validation"),
        _sweep(results),
        LIMITS,
        "## Commands\n\n" + tables.commands_table(results.values()),
    ]
    return "\n\n".join(sections) + "\n"


def _introduction(results: Results) -> str:
    records = [record for row in results.values() for record in row.records.values()]
    patients = Settings().patients_as_json()
    machines = ""
    if records:
        patients = records[0]["conditions"]["patients"]
        machines = "; ".join(dict.fromkeys(record["machine"] for record in records))
        machines = f" Measured on {machines}."
    shape = "×".join(map(str, patients["shape"]))
    return f"""# Accuracy on hard synthetic patients

`python -m benchmarks.accuracy --report` writes this page from the records in `rows/`. All rows
train through nnU-Net's own commands on the same {patients["patients"]} synthetic patients ({shape}
voxels of {patients["spacing"]:g} mm) with the same augmentation, patch and batch; a seed is also
the fold that validates. Recipes were chosen on validation patients alone; the {patients["test"]}
test patients were predicted only by the rows of the tables "final" and "long".{machines}

Dice is the mean over patients, averaged over seeds, with its 95 % bootstrap interval over patients;
"{tables.MEAN}" is the mean of WT, TC and ET. Differences are paired by patient, with the bootstrap
interval and Wilcoxon test of `s2ca compare`."""


def _comparisons(results: Results) -> str:
    best, rival, timed = results[BEST_S2CA], results[BEST_NNUNET], results[SAME_SECONDS]
    longer = results[LONG_NNUNET], results[LONG_S2CA]
    pairs = [
        (title, results[first], results[second])
        for title, first, second in PAIRS
        if first != second
    ]
    return f"""## Is S2CA-Net better than nnU-Net?

- At equal steps: {tables.sentence(rival, best, "test")}
- At equal processor seconds: {tables.sentence(timed, best, "test")}
- After {LONG_STEPS:,} steps: {tables.sentence(*longer, "test")}

{tables.differences_table(pairs, "test")}"""


def _ablation(results: Results) -> str:
    steps = [(title, results[name]) for title, name in ABLATION.items()]
    return f"""## What each part of the network brings

Each row adds one part to the row above, all under the best recipe for S2CA-Net; test patients. The
paper adds its output weights (WDS) last; the best recipe goes without them.

{tables.ablation_table(steps)}"""


def _further_uses(results: Results) -> str:
    scratch, tuned = results[SCRATCH], results[FINE_TUNED]
    pair = ("fine-tuning against training from scratch", scratch, tuned)
    stages = [
        ("the cascade against one stage", results[BEST_S2CA], results[CASCADE]),
        ("half the resolution alone", results[BEST_S2CA], results[LOW_RESOLUTION]),
    ]
    return f"""## Fine-tuning

{FINE_TUNING} patients of a second hospital with flatter contrast and more noise: training from
scratch, and from the weights of `{BEST_S2CA}` (`-pretrained_weights`). Tested on patients of the
second hospital.

{tables.differences_table([pair], "test")}

## Cascade

nnU-Net's cascade, `3d_lowres` at half the resolution, then `3d_cascade_fullres`, with S2CA-Net in
both stages. A patch holds a whole image here, so nnU-Net itself would plan no cascade.

{tables.differences_table(stages, "test")}"""


def _real_patients(folder: Path) -> list[str]:
    """The sanity check on real patients, if recorded."""
    if not (folder / REAL_FILE).exists():
        return []
    content = read_json(folder / REAL_FILE)
    rows = [
        [f"`{case}`", *(f"{scores[region]['dice']:.3f}" for region in REGIONS)]
        for case, scores in content["scores"].items()
    ]
    table = markdown_table(["patient", *REGIONS], rows)
    seeds = ", ".join(map(str, content["seeds"]))
    return [
        f"""## Real patients: a sanity check

`python -m benchmarks.accuracy --real FOLDER`: {len(rows)} real patients of BraTS 2019, resampled to
the synthetic patients' spacing by nnU-Net's own preprocessing, predicted by `{content["row"]}` (the
folds {seeds} together). The model has seen synthetic patients alone. So few patients say nothing
about accuracy, only whether what was learnt from drawings is there in real images, too.

{table}"""
    ]


def _scores(results: Results, part: Part) -> str:
    rows = [
        result
        for name, result in results.items()
        if part == "validation" or name not in ROWS or set(ROWS[name].tables) & {"final", "long"}
    ]
    return f"### {part.capitalize()} patients\n\n{tables.scores_table(rows, part)}"


def _sweep(results: Results) -> str:
    changed = [
        (row.network, results[row.changes], results[row.name])
        for row in ROWS.values()
        if row.changes is not None
    ]
    return f"""## The sweep

One change at a time, on validation patients: B is A with one change. For S2CA-Net, first the rate,
then changes to `s2ca-adam-3e-3`, then to `s2ca-prior`, which had won.

{tables.differences_table(changed, "validation")}"""


def _pictures(folder: Path, *names: str) -> list[str]:
    """Those of the pictures that exist."""
    titles = {
        CURVES_FILE: "learning curves",
        LONG_CURVES_FILE: "learning curves of the longer runs",
        SLICES_FILE: "the best, the median and the worst test patient by S2CA-Net's mean Dice",
    }
    return [f"![{titles[name]}]({name})" for name in names if (folder / name).exists()]
