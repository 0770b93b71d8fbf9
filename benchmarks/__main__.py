"""Choose a benchmark and print its figures; its progress goes to stderr."""

import json
from typing import Annotated

import typer

from benchmarks import append, audit, bulk, commands, lag, reads, rebuild, soak

BENCHMARKS = {
    "append": append.measure,
    "audit": audit.measure,
    "bulk": bulk.measure,
    "commands": commands.measure,
    "lag": lag.measure,
    "reads": reads.measure,
    "rebuild": rebuild.measure,
    "soak": soak.measure,
}


def main(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHMARKS)}.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,  # noqa: FBT002
    seconds: Annotated[float, typer.Option(help="How long to soak.")] = soak.SECONDS,
    scale: Annotated[float, typer.Option(help="The share of the full rates to soak with.")] = 1.0,
) -> None:
    """Measure, and print every figure beside its baseline."""
    if name not in BENCHMARKS:
        raise typer.BadParameter(f"{name} is not one of {', '.join(BENCHMARKS)}")
    figures = soak.measure(seconds, scale) if name == "soak" else BENCHMARKS[name]()
    print(
        json.dumps(figures)
        if as_json
        else "\n".join(f"{key + ':':24}{value}" for key, value in figures.items())
    )


typer.run(main)
