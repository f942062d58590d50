"""What Hydra knows about the command that runs: its words, and the folders that configs come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from braindistill.words import plain_words


@dataclass(frozen=True)
class Invocation:
    """A command's own overrides, the folders that configs come from, and the folder of ``--config-dir`` among them."""

    words: list[str]
    folders: list[str]
    extra: Path | None

    @classmethod
    def current(cls) -> Invocation:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        hydra = HydraConfig.get()
        sources = [source for source in hydra.runtime.config_sources if source.schema == "file"]
        extra = next((Path(source.path) for source in sources if source.provider == "command-line"), None)
        words = cast(list[str], OmegaConf.to_container(hydra.overrides.task, resolve=False))
        return cls(words, [source.path for source in sources], extra)

    def compose(self, words: list[str]) -> Any:
        """The config that these words would make in the place of the command's own."""
        import hydra

        return hydra.compose("config", words)

    @property
    def flags(self) -> list[str]:
        """What any other command needs to find the same configs."""
        return ["--config-dir", str(self.extra)] if self.extra else []

    @property
    def how(self) -> list[str]:
        """Words about how it is run that any other command for the same cache needs, too."""
        running = [word for word in plain_words(self.words) if word.startswith("runtime.")]
        return [word for word in running if not word.startswith(("runtime.upstream", "runtime.dry_run"))]

    @property
    def recorded(self) -> list[str]:
        """The words that go into an artifact's command line; how it was run is no part of it."""
        return [word for word in plain_words(self.words) if not word.startswith("runtime.")]
