"""Help in groups: the options under the heading of their `rich_help_panel`, as plain lines."""

from typing import Any

from typer.core import TyperCommand


class Grouped(TyperCommand):
    """A command whose help shows its options under headings, in the order in which they come."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            line = parameter.get_help_record(ctx)
            if line is not None:
                given = parameter.param_type_name == "argument"
                heading = getattr(parameter, "rich_help_panel", None) or ("Arguments" if given else "Options")
                sections.setdefault(heading, []).append(line)
        for heading, lines in sections.items():
            with formatter.section(heading):
                formatter.write_dl(lines)
