"""Settings of the export."""

from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tailnas.foundation.settings import Section, no_duplicates

Format = Literal["onnx", "torch_export"]
Input = Literal["uint8", "float32"]


ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def missing_packages() -> list[str]:
    """What ONNX files take and is not installed: the extra `export`."""
    return [name for name in ONNX_PACKAGES if find_spec(name) is None]


class Export(Section):
    """Models as files that run without tailnas, preprocessing inside."""

    formats: Annotated[list[Format], Field(json_schema_extra={"uniqueItems": True}), AfterValidator(no_duplicates)] = (
        Field(description="onnx (needs `pip install .[export]`), torch_export, both, or none.")
    )
    input: Input = Field(description="What the file takes: pixels 0 to 255 as uint8, or 0 to 1 as float32.")
