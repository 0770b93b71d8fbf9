"""Choose a benchmark and print its figures; its progress goes to stderr."""

import json
from typing import Annotated

import typer

from benchmarks import append, bulk, commands, reads, rebuild

BENCHMARKS = {
    "append": append.measure,
    "bulk": bulk.measure,
    "commands": commands.measure,
    "reads": reads.measure,
    "rebuild": rebuild.measure,
}


def main(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHMARKS)}.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,  # noqa: FBT002
) -> None:
    """Measure, and print every figure beside its baseline."""
    if name not in BENCHMARKS:
        raise typer.BadParameter(f"{name} is not one of {', '.join(BENCHMARKS)}")
    figures = BENCHMARKS[name]()
    print(json.dumps(figures) if as_json else "\n".join(f"{key + ':':24}{value}" for key, value in figures.items()))


typer.run(main)
