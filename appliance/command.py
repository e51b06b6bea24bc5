"""How every part of the `relume` command speaks: plain usage lines, and errors without words for programmers."""

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperArgument, TyperCommand

from appliance.faults import plain

if TYPE_CHECKING:
    from typer import Context


class PlainCommand(TyperCommand):
    """A command whose usage line reads `relume enhance [OPTIONS] INPUT`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Make it; arguments are named without a type, which says nothing beside their name."""
        super().__init__(*args, **options)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]  # noqa: ARG005

    def collect_usage_pieces(self, ctx: "Context") -> list[str]:  # type: ignore[override]
        """Leave out the braces around what must be given."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:  # type: ignore[override]
        """Take out of a refusal what the checking library put into it."""
        try:
            parsed: list[str] = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = plain(error.message)
            raise
        return parsed


def examples(*lines: str) -> dict[str, Any]:
    """Give the arguments that put examples at the end of a command's help."""
    return {"epilog": "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)}
