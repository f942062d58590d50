"""The command line: a table of verbs over Hydra. Nothing heavy is imported before a verb is known."""

from __future__ import annotations

import os
import sys
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
        "eval/KEY: results.json, results.csv, report.html; prints the table",
        ("experiment", "eval", "fmri", "images", "teacher", "target", "student", "method", "train"),
        ("eval experiment=demo", "eval experiment=digits69 eval.seeds=20", "eval eval.arms=[baseline,kd,brain]"),
    ),
    "info": (
        "print versions, device, folders and the checked config",
        "nothing",
        "nothing",
        (),
        ("info", "info experiment=digits69"),
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
#: flags of Hydra that take no value after a space; all others do
_BARE_FLAGS = {"-m", "--multirun", "--resolve", "--version", "--hydra-help", "-r", "--run"}
_failures: list[int] = []


def main(arguments: list[str] | None = None) -> None:
    """Run ``braindistill VERB …``. Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 something upstream is missing."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = words[0] if words else ""
    try:
        if verb in ("", "-h", "--help"):
            print(overview())
        elif verb == "--version":
            from braindistill import __version__

            print(f"braindistill {__version__}")
        elif verb in ("-sc", "--shell-completion"):
            _complete(words)
        elif verb not in VERBS:
            raise UserError(f"no verb {verb!r}; {nearest(verb, VERBS)}")
        elif "--help" in words or "-h" in words:
            print(verb_help(verb))
        else:
            _hand_over(verb, words[1:])
    except UserError as error:
        print(f"braindistill: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def overview() -> str:
    """What ``braindistill`` alone prints."""
    lines = ["braindistill distils the human brain into neural networks, and says whether it helped.", ""]
    lines += ["usage: braindistill VERB [group=option] [key=value] [hydra flags]", "", "verbs:"]
    lines += [f"  {verb:14}{does}" for verb, (does, *_) in VERBS.items()]
    lines += ["", "examples:"] + [f"  {command}\n      {meaning}" for command, meaning in _EXAMPLES]
    lines += ["", "braindistill VERB --help lists what a verb reads, writes and takes."]
    return "\n".join(lines)


def verb_help(verb: str) -> str:
    """What ``braindistill VERB --help`` prints; read from the YAML files, without Hydra or torch."""
    from braindistill.config import choices, find_configs

    does, reads, writes, groups, examples = VERBS[verb]
    lines = [f"braindistill {verb}: {does}", "", f"reads:  {reads}", f"writes: {writes}"]
    if groups:
        lines += ["", "groups and their options (GROUP=OPTION; GROUP.KEY=VALUE sets one of its keys):"]
    for group in groups:
        names = choices(group)
        lines.append(f"  {group + '=':12}{' | '.join(names)}")
        if len(names) == 1:
            body = (find_configs() / group / f"{names[0]}.yaml").read_text().splitlines()
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


def _hand_over(verb: str, words: list[str]) -> None:
    """Trim the command line and let ``hydra.main`` have the rest."""
    action: list[str] = []
    if verb == "cache":
        action, words = _cache_action(words)
    flags, overrides, extra = _sort_out(words)
    from braindistill.compose import prepare_words

    prepared = prepare_words(overrides, extra)
    import hydra

    from braindistill.config import find_configs

    def task(composed: Any) -> None:
        from braindistill.tasks import perform

        _failures.append(perform(verb, action, composed, prepared))

    sys.argv = [sys.argv[0], *flags, *prepared]
    hydra.main(version_base="1.3", config_path=str(find_configs()), config_name="config")(task)()
    if any(_failures):
        sys.exit(max(_failures))


def _sort_out(words: list[str]) -> tuple[list[str], list[str], Path | None]:
    """Divide words into Hydra's flags (with their values) and overrides; also find ``--config-dir``."""
    flags, overrides, extra = [], [], None
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flags.append(word)
        if word in _BARE_FLAGS or "=" in word:
            value = word.partition("=")[2]
        elif word == "--info":
            value = ""
        else:
            value = next(rest, "")
            flags.append(value)
        if word.split("=")[0] in ("--config-dir", "-cd"):
            extra = Path(value)
            if not extra.is_dir():
                raise UserError(f"--config-dir {value}: no such folder")
    return flags, overrides, extra


def _cache_action(words: list[str]) -> tuple[list[str], list[str]]:
    action = [word for word in words if "=" not in word]
    known = ("ls", "show", "verify", "gc")
    if not action or action[0] not in known:
        found = action[0] if action else ""
        raise UserError(f"cache {found}: expected one of ls, show KEY, verify, gc; {nearest(found, known)}")
    return action, [word for word in words if "=" in word]


def _complete(words: list[str]) -> None:
    """Shell completion: verbs are ours; behind a verb Hydra completes, and must not see the verb."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split(" ")
    if len(words) > 1 and words[1].startswith("query=") and len(typed) < 3:
        print(" ".join(verb for verb in VERBS if verb.startswith(typed[-1] if len(typed) == 2 else "")))
        return
    if line and len(typed) > 2 and typed[1] in VERBS:
        os.environ["COMP_LINE"] = " ".join([typed[0], *typed[2:]])
        os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
    import hydra

    from braindistill.config import find_configs

    sys.argv = [sys.argv[0], *words]
    hydra.main(version_base="1.3", config_path=str(find_configs()), config_name="config")(lambda composed: None)()
