"""The definition of a parameter: its name, type, default, group and texts."""

from dataclasses import field
from enum import Enum
from typing import Any, NamedTuple

from hbtd.config.value_types import ValueType


class Group(Enum):
    """The groups of options, in the order of the documentation; each value is a heading."""

    TRACKING = "Tracking"
    GUARD = "Guard by failure domain"
    HSM = "Hardware State Manager"
    STORE = "Store"
    KAFKA = "Kafka"
    SERVING = "Serving and TLS"
    ACCESS = "Access"
    LIMITS = "Limits"
    LOG = "Log"


class Parameter(NamedTuple):
    """The definition of a parameter: a field of `Params`, and an option of the command `hbtd`."""

    name: str
    default: Any
    group: Group
    value_type: ValueType
    help: str
    """One or two sentences for `--help`. Backticks enclose code, here and in `details`."""
    details: str
    """Text that follows `help` in `docs/options.md` and the manual page; may be empty."""
    fixed: bool
    """Whether the parameter can't be changed while hbtd runs."""
    flag: bool
    """Whether the option may be given without a value, and then has the value `yes`."""

    @property
    def wire(self) -> str:
        """The parameter's name in JSON, such as `Warntime` for `warntime`."""
        return self.name.capitalize()

    @property
    def environment(self) -> str:
        """The environment variable that sets the parameter, such as `HBTD_WARNTIME`."""
        return f"HBTD_{self.name.upper()}"

    @property
    def shown_default(self) -> str:
        """The default value as `--help` and the manual show it."""
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        return str(self.default) or "none"


def param(
    group: Group,
    value_type: ValueType,
    default: object,
    help: str,
    details: str = "",
    *,
    fixed: bool = False,
    flag: bool = False,
) -> Any:
    """Return a dataclass field that defines one parameter.

    All arguments except `default` are kept in the field's metadata.
    """
    return field(
        default=default,
        metadata={
            "group": group,
            "value_type": value_type,
            "help": help,
            "details": details,
            "fixed": fixed,
            "flag": flag,
        },
    )
