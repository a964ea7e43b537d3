"""The parser of every command: help that keeps its examples, and errors that name the command and what was meant."""

import argparse
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says each default that tells something and is not told yet; text of several lines stays as it is."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = "default: " in (action.help or "")
        tells_nothing = action.default is None or action.default is False or action.default in ("", [])
        return action.help if told or tells_nothing else super()._get_help_string(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class CommandParser(argparse.ArgumentParser):
    """What ``add_parser`` makes for every command and for the actions and stages of one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": Help, "allow_abbrev": False, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse; words that nothing takes end the command that they were given to, which then shows its own usage."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            meant = meant_by(unknown[0].partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return parsed, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += meant_by(str(value), map(str, action.choices or ()))
            raise


def meant_by(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` where one of the known words is near, or nothing."""
    return "".join(f"; did you mean {near}?" for near in get_close_matches(word, list(known), 1))
