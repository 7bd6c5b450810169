"""Texts of an environment's file that have a form: amounts, times and addresses."""

import re
from typing import Annotated

from pydantic import AfterValidator


def _of_form(pattern: str, examples: str) -> AfterValidator:
    """Check of a text; its error shows examples."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"'{text}' is not of the form {examples}")
        return text

    return AfterValidator(check)


# KFP takes a part of Kubernetes' forms, and of memory only whole numbers.
Cpu = Annotated[str, _of_form(r"\d+(\.\d+)?|\d+m", "2, 0.5 or 500m")]
Memory = Annotated[str, _of_form(r"\d+([KMGT]i|[MGT])?", "16Gi or 500Mi, a whole number")]
Quantity = Annotated[str, _of_form(r"\d+(\.\d+)?(m|[KMGT]i|[kMGT])?", "4, 500m or 64Gi")]
Duration = Annotated[str, _of_form(r"\d+s", "30s, in seconds")]
Bucket = Annotated[str, _of_form(r"(gs|s3|minio)://[^/@]+(/.*)?", "s3://bucket/folder (gs, minio)")]
Store = Annotated[
    str, _of_form(r"(gs|s3)://[^/@]+(/.*)?|/.+", "s3://bucket/folder (gs) or /volume/folder")
]
