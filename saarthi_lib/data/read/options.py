"""Reading options."""

from dataclasses import dataclass

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.formats import Columns
from saarthi_lib.tasks import has_sequence_head


@dataclass(frozen=True)
class ReadOptions:
    """Reading options: fields of the configuration's data section."""

    task: str
    format: str = "auto"
    text_column: str = ""
    label_column: str = ""
    language_column: str = ""
    group_column: str = ""
    language: str = ""
    normalization: str = "none"
    word_splitting: str = "punctuation"
    max_malformed_share: float = 0.05

    @classmethod
    def of(cls, config: TrainConfig) -> "ReadOptions":
        """Return the reading options of a configuration."""
        names = cls.__dataclass_fields__.keys() - {"format"}
        return cls(format=config.data_format, **{name: getattr(config, name) for name in names})

    def columns(self, labelled: bool) -> Columns:
        """Return the columns to read; without a sequence head `label_column` names the tags."""
        sequence = has_sequence_head(self.task)
        return Columns(
            text=self.text_column,
            label=self.label_column if sequence else "",
            language=self.language_column,
            group=self.group_column if labelled else "",
            tags="" if sequence else self.label_column,
            labelled=labelled,
            sequence=sequence and labelled,
        )
