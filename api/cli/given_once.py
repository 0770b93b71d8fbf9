"""Options of the command line that count once: given twice, the command is refused, because nobody knows which one should count."""

from typing import Any

import typer
from typer.core import TyperGroup


class Once(TyperGroup):
    """The commands of the program; each refuses an option that is given twice and has one value."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command and its arguments. Raises a usage error."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _refuse_twice(command, ctx, rest)
        return name, command, rest


def _refuse_twice(command: Any, ctx: Any, args: list[str]) -> None:
    if any(name in args for name in command.get_help_option_names(ctx)):
        return
    inner = type(ctx)(command, parent=ctx, info_name=command.name)
    _, _, given = command.make_parser(inner).parse_args(list(args))
    for parameter in given:
        if given.count(parameter) > 1 and not getattr(parameter, "multiple", False):
            raise typer.BadParameter(f"{parameter.opts[0]} is given twice: give it once", ctx=inner)
