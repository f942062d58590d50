"""The command line: a table of verbs over Hydra. Nothing heavy is imported before a verb is known."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from braindistill.errors import UserError, nearest

#: verb → (what it does, reads, writes, its groups, examples)
VERBS: dict[str, tuple[str, str, str, tuple[str, ...], tuple[str, ...]]] = {
    "prepare": (
        "read an fMRI data set and the student's images, join and check them",
        "the data set's own files (fmri=), image files (images=)",
        "prepare/KEY: responses, ROIs, stimuli; images/KEY: the student's pictures",
        ("fmri", "images"),
        ("prepare fmri=digits69", "prepare fmri=arrays fmri.path=subject1.npz", "prepare fmri=bids fmri.root=sub-01"),
    ),
    "train-teacher": (
        "fit a teacher and score it out of fold",
        "prepare/KEY and, for labels=student and cnn, images/KEY",
        "train-teacher/KEY: the teacher and scores.json",
        ("fmri", "teacher", "images", "train"),
        ("train-teacher fmri=digits69 teacher=encoder", "train-teacher -m teacher.roi=early,category"),
    ),
    "export": (
        "ask a teacher about the student's training images",
        "train-teacher/KEY, images/KEY",
        "export/KEY: soft labels by image id, with their provenance",
        ("teacher", "target", "images"),
        ("export experiment=digits69", "export experiment=digits69 teacher=features"),
    ),
    "distill": (
        "train a student on labels and a teacher's target",
        "images/KEY and, where the method uses a target, export/KEY",
        "distill/KEY: student.safetensors, metrics.jsonl, TensorBoard events",
        ("student", "method", "train", "teacher", "target", "images"),
        ("distill seed=3", "distill method=none", "distill -m method.temperature=1,2,4"),
    ),
    "eval": (
        "train arms × seeds and say with statistics whether the brain helped",
        "what the arms need; whatever is missing is built first",
        "eval/KEY: results.json, report.html, tables (.csv, .md, .tex) and figures/ (SVG, PDF, CSV); prints the table",
        ("experiment", "eval", "fmri", "images", "teacher", "target", "student", "method", "train"),
        ("eval experiment=demo", "eval experiment=digits69 eval.seeds=20", "eval eval.arms=[baseline,kd,brain]"),
    ),
    "report": (
        "rebuild the page of a finished evaluation, or merge several: report KEY… [--out FOLDER] [--format html|markdown|latex] "
        "[--log tensorboard|wandb|mlflow]",
        "eval/KEY, and what lies behind it in runtime.cache",
        "./report-KEY/ or FOLDER: report.html, tables and figures; with --format markdown or latex it prints tables only; "
        "--log writes arms as runs with hyperparameters",
        (),
        ("report 3f2a", "report 3f2a 77b0 --out subjects", "report 3f2a --format latex"),
    ),
    "info": (
        "print versions, device, folders and the checked config; with fmri=NAME what is in the data set, "
        "with student=NAME its layers and cost",
        "nothing",
        "nothing",
        (),
        ("info", "info experiment=digits69", "info student=resnet20"),
    ),
    "cache": (
        "list, show, verify and clean the artifacts: cache ls | show KEY | verify | gc [--older-than DAYS] [--dry-run]",
        "runtime.cache",
        "nothing; gc removes unfinished and damaged folders, and with --older-than artifacts unused for so long",
        (),
        ("cache ls", "cache show 3f2a", "cache gc --dry-run"),
    ),
}
_EXAMPLES = (
    ("braindistill eval", "the demo: a simulated brain, ten arms, a verdict in two minutes"),
    ("braindistill eval experiment=digits69", "real fMRI: does this brain help at equal labels?"),
    ("braindistill train-teacher fmri=arrays fmri.path=FILE.npz teacher=encoder", "your own data"),
)
#: Hydra's flags: None where a value follows, else the values that may follow
_FLAGS: dict[str, tuple[str, ...] | None] = {
    **dict.fromkeys(("--multirun", "-m", "--run", "-r", "--resolve", "--hydra-help"), ()),
    **dict.fromkeys(("--info", "-i"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")),
    **dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all")),
    **dict.fromkeys(("--config-dir", "-cd", "--package", "-p")),
}
#: verbs that take words of their own beside key=value → their flags
_PLAIN: dict[str, dict[str, tuple[str, ...] | None]] = {
    "cache": {"--older-than": None, "--dry-run": ()},
    "report": {"--out": None, "--format": None, "--log": None},
}


def main(arguments: list[str] | None = None) -> None:
    """Run ``braindistill VERB …``. Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 something upstream is missing."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = words[0] if words else ""
    try:
        if verb in ("", "-h", "--help"):
            print(overview())
        elif "--version" in words:
            from braindistill import __version__

            print(f"braindistill {__version__}")
        elif verb in ("-sc", "--shell-completion"):
            _complete(words)
        elif verb not in VERBS:
            raise UserError(f"no verb {verb!r}; {nearest(verb, VERBS)}")
        elif "--help" in words or "-h" in words:
            print(verb_help(verb, words[1:]))
        else:
            _hand_over(verb, words[1:])
        sys.stdout.flush()
    except UserError as error:
        print(f"braindistill: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader (head, less) has gone; what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def overview() -> str:
    """What ``braindistill`` alone prints."""
    lines = ["braindistill distils the human brain into neural networks, and says whether it helped.", ""]
    lines += ["usage: braindistill VERB [group=option] [key=value] [hydra flags]", "", "verbs:"]
    lines += [f"  {verb:14}{does}" for verb, (does, *_) in VERBS.items()]
    lines += ["", "examples:"] + [f"  {command}\n      {meaning}" for command, meaning in _EXAMPLES]
    lines += ["", "braindistill VERB --help lists what a verb reads, writes and takes."]
    return "\n".join(lines)


def verb_help(verb: str, words: Sequence[str] = ()) -> str:
    """What ``braindistill VERB [GROUP=OPTION] --help`` prints; read from the YAML files, without Hydra or torch."""
    from braindistill.config import choices, find_configs

    does, reads, writes, groups, examples = VERBS[verb]
    lines = [f"braindistill {verb}: {does}", "", f"reads:  {reads}", f"writes: {writes}"]
    if groups:
        lines += ["", "groups and their options (GROUP=OPTION, which beside --help lists its keys; GROUP.KEY=VALUE):"]
    chosen = dict(word.split("=", 1) for word in words if "=" in word)
    for group in groups:
        names = choices(group)
        lines.append(f"  {group + '=':12}{' | '.join(_abbreviated(names))}")
        shown = names[0] if len(names) == 1 else chosen.get(group)
        file = find_configs() / group / f"{shown}.yaml"
        if file.exists():
            body = file.read_text(encoding="utf-8").splitlines()
            lines += [
                f"      {group}.{line}"
                for line in body
                if line and line[0] not in "# -" and not line.startswith("name:")
            ]
    lines += [
        "",
        "always: seed=N; runtime.{device,workers,cache,upstream=build|require,dry_run,verbosity}; plugins=[module]",
        "hydra:  -m sweeps comma-separated values; --cfg job prints the config; --info; --config-dir DIR adds YAML",
        "",
        "examples:",
        *(f"  braindistill {example}" for example in examples),
    ]
    return "\n".join(lines)


def _abbreviated(names: Sequence[str], most: int = 12) -> list[str]:
    """Names of which there are many of one kind (``cifar100_…``), as the first of them and how many more."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(name.split("_")[0], []).append(name)
    return [
        shown
        for members in kinds.values()
        for shown in (
            members if len(members) < most else [members[0], f"… {len(members) - 1} more {members[0].split('_')[0]}_…"]
        )
    ]


def _hand_over(verb: str, words: list[str]) -> None:
    """Trim the command line and let ``hydra.main`` have the rest."""
    own = _PLAIN.get(verb, {})
    flags, overrides = _sort_out(words, _FLAGS | own)
    action = [word for word in overrides if "=" not in word] if own else []
    action += [part for flag, value in flags if flag in own for part in (flag, value) if part]
    for_hydra = [part for flag, value in flags if flag not in own for part in (flag, value) if part]
    extra = next((Path(value) for flag, value in flags if flag in ("--config-dir", "-cd")), None)
    if extra and not extra.is_dir():
        raise UserError(f"--config-dir {extra}: no such folder")
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from braindistill.compose import explain, prepare_words

    prepared = prepare_words([word for word in overrides if word not in action], extra)
    codes: list[int] = []  # one a job of a sweep

    def task(composed: Any) -> None:
        codes.append(1)
        if verb == "report":  # reads a cache and builds nothing
            from braindistill.report.rebuild import rebuild_report

            try:
                codes[-1] = rebuild_report(Path(composed.runtime.cache), action)
            except UserError as error:  # told here: Hydra has words of its own about what passes it
                print(f"braindistill: {error}", file=sys.stderr)
                codes[-1] = 2
            return
        from braindistill.tasks import perform

        codes[-1] = perform(verb, action, composed)

    try:
        _run_hydra(task, [*for_hydra, *prepared])
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        if codes:  # not about the config
            raise
        raise UserError(explain(error)) from error
    if any(codes):
        if 130 in codes:  # interrupted: a queue that a killed worker held must not keep us for ever
            import threading

            last_resort = threading.Timer(5, os._exit, [130])
            last_resort.daemon = True
            last_resort.start()
        sys.exit(max(codes))


def _run_hydra(task: Callable[[Any], None], words: list[str]) -> None:
    import hydra

    from braindistill.config import find_configs

    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through: the one line about them is ours
    sys.argv = [sys.argv[0], *words]
    hydra.main(version_base="1.3", config_path=str(find_configs()), config_name="config")(task)()


def _sort_out(words: list[str], known: dict[str, tuple[str, ...] | None]) -> tuple[list[tuple[str, str]], list[str]]:
    """Divide words into flags, each with its value or '', and the others."""
    flags, others = [], []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            others.append(word)
            continue
        flag, equals, value = word.partition("=")
        if flag not in known:
            raise UserError(f"no flag {flag}; {nearest(flag, [*known, '--help', '--version'])}")
        allowed = known[flag]
        if not equals and rest and ("=" not in rest[0] if allowed is None else rest[0] in allowed):
            value = rest.pop(0)
        elif not equals and flag in ("--info", "-i"):
            value = "all"  # or Hydra's parser would take the first override for it
        if (value == "") != (allowed == ()) or value not in (allowed or [value]):
            expected = "a value" if allowed is None else " or ".join(allowed) or "no value"
            raise UserError(f"{flag}={value}: expected {expected}")
        flags.append((flag, value))
    return flags, others


def _complete(words: list[str]) -> None:
    """Shell completion: verbs are ours; behind a verb Hydra completes, and must not see the verb."""
    if not words[1:] or not words[1].startswith("query="):
        return _run_hydra(lambda composed: None, words)
    line = os.environ.get("COMP_LINE", "")
    typed = line[: int(os.environ.get("COMP_POINT") or len(line))].split(" ")
    offered: Sequence[str] = ()
    if len(typed) < 3:
        offered = list(VERBS)
    elif typed[1] in _PLAIN:
        from braindistill.inspection import ACTIONS

        offered = list(ACTIONS) if typed[1] == "cache" and len(typed) == 3 else ()
    else:
        os.environ["COMP_LINE"] = " ".join([typed[0], *typed[2:]])
        with contextlib.suppress(Exception):  # on a line that makes no sense there is nothing to offer
            return _run_hydra(lambda composed: None, words)
    print(" ".join(word for word in offered if word.startswith(typed[-1])))
    return None
