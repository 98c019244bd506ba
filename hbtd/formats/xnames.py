"""Xnames, the names of components: their types, validity and normal form.

An xname is the location of a component, outermost part first: `x1000c0s0b0n0` is cabinet 1000,
chassis 0, slot 0, board 0, node 0. Names are compared in normal form, which is HSM's; two spellings
with the same normal form are one component.
"""

import re
from functools import cache
from typing import Final, NamedTuple


class ComponentType(NamedTuple):
    """A type of component: its name, and the form of the xnames of such components.

    `parent` is the name of the type of component that contains components of this type, or `None`.
    `example` is one of the xnames, in normal form, and `pattern` a regular expression for them.
    """

    name: str
    parent: str | None
    example: str
    pattern: str


COMPONENT_TYPES: Final = (
    ComponentType("All", None, "all", r"all"),
    ComponentType("AllSvc", None, "all_svc", r"all_svc"),
    ComponentType("AllComp", None, "all_comp", r"all_comp"),
    ComponentType("Partition", None, "p0", r"p([0-9]+)([.]([0-9]+))?"),
    ComponentType("System", None, "s0", r"s0"),
    ComponentType("SMSBox", None, "sms0", r"sms([0-9]+)"),
    ComponentType("CDU", "System", "d0", r"d([0-9]+)"),
    ComponentType("CDUMgmtSwitch", "CDU", "d0w0", r"d([0-9]+)w([0-9]+)"),
    ComponentType("CabinetCDU", "Cabinet", "x1000d0", r"x([0-9]{1,4})d([0-1])"),
    ComponentType("CabinetPDUController", "Cabinet", "x1000m0", r"x([0-9]{1,4})m([0-3])"),
    ComponentType(
        "CabinetPDU", "CabinetPDUController", "x1000m0p0", r"x([0-9]{1,4})m([0-3])p([0-7])"
    ),
    ComponentType(
        "CabinetPDUNic", "CabinetPDUController", "x1000m0i0", r"x([0-9]{1,4})m([0-3])i([0-3])"
    ),
    ComponentType(
        "CabinetPDUOutlet",
        "CabinetPDU",
        "x1000m0p0j1",
        r"x([0-9]{1,4})m([0-3])p([0-7])j([1-9][0-9]*)",
    ),
    ComponentType(
        "CabinetPDUPowerConnector",
        "CabinetPDU",
        "x1000m0p0v1",
        r"x([0-9]{1,4})m([0-3])p([0-7])v([1-9][0-9]*)",
    ),
    ComponentType("CEC", "Cabinet", "x1000e0", r"x([0-9]{1,4})e([0-1])"),
    ComponentType("Cabinet", "System", "x1000", r"x([0-9]{1,4})"),
    ComponentType("CabinetBMC", "Cabinet", "x1000b0", r"x([0-9]{1,4})b([0])"),
    ComponentType("Chassis", "Cabinet", "x1000c0", r"x([0-9]{1,4})c([0-7])"),
    ComponentType("ChassisBMC", "Chassis", "x1000c0b0", r"x([0-9]{1,4})c([0-7])b([0])"),
    ComponentType(
        "ChassisBMCNic", "ChassisBMC", "x1000c0b0i0", r"x([0-9]{1,4})c([0-7])b([0])i([0-3])"
    ),
    ComponentType("CMMFpga", "Chassis", "x1000c0f0", r"x([0-9]{1,4})c([0-7])f([0])"),
    ComponentType("CMMRectifier", "Chassis", "x1000c0t0", r"x([0-9]{1,4})c([0-7])t([0-9])"),
    ComponentType("ComputeModule", "Chassis", "x1000c0s0", r"x([0-9]{1,4})c([0-7])s([0-9]+)"),
    ComponentType(
        "StorageGroup",
        "Node",
        "x1000c0s0b0n0g0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)n([0-9]+)g([0-9]+)",
    ),
    ComponentType(
        "Drive",
        "StorageGroup",
        "x1000c0s0b0n0g0k0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)n([0-9]+)g([0-9]+)k([0-9]+)",
    ),
    ComponentType(
        "NodeFpga",
        "NodeEnclosure",
        "x1000c0s0b0f0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)f([0])",
    ),
    ComponentType(
        "NodeBMC", "ComputeModule", "x1000c0s0b0", r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)"
    ),
    ComponentType(
        "NodeBMCNic", "NodeBMC", "x1000c0s0b0i0", r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)i([0-3])"
    ),
    ComponentType(
        "NodeEnclosure", "ComputeModule", "x1000c0s0e0", r"x([0-9]{1,4})c([0-7])s([0-9]+)e([0-9]+)"
    ),
    ComponentType(
        "NodeEnclosurePowerSupply",
        "NodeEnclosure",
        "x1000c0s0e0t0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)e([0-9]+)t([0-9]+)",
    ),
    ComponentType(
        "NodePowerConnector",
        "ComputeModule",
        "x1000c0s0j1",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)[jv]([1-2])",
    ),
    ComponentType(
        "HSNBoard", "RouterModule", "x1000c0r0e0", r"x([0-9]{1,4})c([0-7])r([0-9]+)e([0-9]+)"
    ),
    ComponentType(
        "Node", "NodeBMC", "x1000c0s0b0n0", r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)n([0-9]+)"
    ),
    ComponentType(
        "VirtualNode",
        "Node",
        "x1000c0s0b0n0v0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)n([0-9]+)v([0-9]+)",
    ),
    ComponentType(
        "NodeNic",
        "Node",
        "x1000c0s0b0n0i0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)n([0-9]+)i([0-3])",
    ),
    ComponentType(
        "NodeHsnNic",
        "Node",
        "x1000c0s0b0n0h0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)n([0-9]+)h([0-3])",
    ),
    ComponentType(
        "NodeAccel",
        "Node",
        "x1000c0s0b0n0a0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)n([0-9]+)a([0-9]+)",
    ),
    ComponentType(
        "NodeAccelRiser",
        "Node",
        "x1000c0s0b0n0r0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)n([0-9]+)r([0-7])",
    ),
    ComponentType(
        "Memory",
        "Node",
        "x1000c0s0b0n0d0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)n([0-9]+)d([0-9]+)",
    ),
    ComponentType(
        "Processor",
        "Node",
        "x1000c0s0b0n0p0",
        r"x([0-9]{1,4})c([0-7])s([0-9]+)b([0-9]+)n([0-9]+)p([0-3])",
    ),
    ComponentType("RouterModule", "Chassis", "x1000c0r0", r"x([0-9]{1,4})c([0-7])r([0-9]+)"),
    ComponentType(
        "RouterFpga", "RouterModule", "x1000c0r0f0", r"x([0-9]{1,4})c([0-7])r([0-9]+)f([01])"
    ),
    ComponentType(
        "RouterTOR", "RouterModule", "x1000c0r0t0", r"x([0-9]{1,4})c([0-7])r([0-9]+)t([0-9]+)"
    ),
    ComponentType(
        "RouterTORFpga",
        "RouterTOR",
        "x1000c0r0t0f0",
        r"x([0-9]{1,4})c([0-7])r([0-9]+)t([0-9]+)f([0-1])",
    ),
    ComponentType(
        "RouterBMC", "RouterModule", "x1000c0r0b0", r"x([0-9]{1,4})c([0-7])r([0-9]+)b([0-9]+)"
    ),
    ComponentType(
        "RouterBMCNic",
        "RouterBMC",
        "x1000c0r0b0i0",
        r"x([0-9]{1,4})c([0-7])r([0-9]+)b([0-9]+)i([0-3])",
    ),
    ComponentType(
        "RouterPowerConnector",
        "RouterModule",
        "x1000c0r0v1",
        r"x([0-9]{1,4})c([0-7])r([0-9]+)v([1-2])",
    ),
    ComponentType(
        "HSNAsic", "RouterModule", "x1000c0r0a0", r"x([0-9]{1,4})c([0-7])r([0-9]+)a([0-3])"
    ),
    ComponentType(
        "HSNConnector",
        "RouterModule",
        "x1000c0r0j1",
        r"x([0-9]{1,4})c([0-7])r([0-9]+)j([1-9][0-9]*)",
    ),
    ComponentType(
        "HSNConnectorPort",
        "HSNConnector",
        "x1000c0r0j1p0",
        r"x([0-9]{1,4})c([0-7])r([0-9]+)j([1-9][0-9]*)p([012])",
    ),
    ComponentType(
        "HSNLink", "HSNAsic", "x1000c0r0a0l0", r"x([0-9]{1,4})c([0-7])r([0-9]+)a([0-3])l([0-9]+)"
    ),
    ComponentType("MgmtSwitch", "Chassis", "x1000c0w1", r"x([0-9]{1,4})c([0-7])w([1-9][0-9]*)"),
    ComponentType(
        "MgmtSwitchConnector",
        "MgmtSwitch",
        "x1000c0w1j1",
        r"x([0-9]{1,4})c([0-7])w([1-9][0-9]*)j([1-9][0-9]*)",
    ),
    ComponentType(
        "MgmtHLSwitchEnclosure", "Chassis", "x1000c0h1", r"x([0-9]{1,4})c([0-7])h([1-9][0-9]*)"
    ),
    ComponentType(
        "MgmtHLSwitch",
        "MgmtHLSwitchEnclosure",
        "x1000c0h1s1",
        r"x([0-9]{1,4})c([0-7])h([1-9][0-9]*)s([1-9])",
    ),
)
"""All types of components, each with the pattern of its xnames in normal form."""

# The group that matches has the name of the type.
_VALID: Final = re.compile("|".join(f"(?P<{t.name}>{t.pattern})" for t in COMPONENT_TYPES))
_LEADING_ZEROS: Final = re.compile("(?<![0-9])0+(?=[0-9])")

PLACE: Final = re.compile("(x[0-9]+)(?:(c[0-9]+)([rs][0-9]+)?)?")
"""Matches the beginning of an xname: groups for the cabinet, and the chassis and slot in it.

Slots include those of routers.
"""

# The longest names have seven letters and as many numbers. Texts above this length are rejected
# without matching them, because the patterns do not limit the digits of most numbers.
_LONGEST: Final = 255


_WITHOUT_DIGITS: Final = str.maketrans("", "", "0123456789")
# No two types have names with the same letters, whatever their numbers.
_TYPES_BY_LETTERS: Final = {
    each.example.translate(_WITHOUT_DIGITS): each.name for each in COMPONENT_TYPES
}
_PATTERNS: Final = {each.name: re.compile(each.pattern) for each in COMPONENT_TYPES}


def normalise(name: str) -> str:
    """Return a name in HSM's normal form: trimmed, without leading zeros, in lower case.

    Every text has a normal form, even if it is not a valid xname.
    """
    return _LEADING_ZEROS.sub("", name.strip()).lower()


def component_type(xname: str) -> str | None:
    """Return the type, such as `Node`, of a name in normal form; `None` if it is not an xname."""
    if len(xname) > _LONGEST:
        return None
    # Nearly all names are found to be xnames by one pattern, in a fraction of the time.
    likely = _TYPES_BY_LETTERS.get(xname.translate(_WITHOUT_DIGITS))
    if likely is not None and _PATTERNS[likely].fullmatch(xname):
        return likely
    match = _VALID.fullmatch(xname)
    return match.lastgroup if match else None


@cache
def _pattern(name: str) -> re.Pattern[str]:
    """Return the compiled pattern of the type with a name."""
    return next(re.compile(each.pattern) for each in COMPONENT_TYPES if each.name == name)


def type_of_valid(xname: str) -> str:
    """Return the type of a valid xname in normal form, such as `Node`.

    This is faster than `component_type`, because only the letters of the xname are looked at.
    """
    letters = xname.translate(_WITHOUT_DIGITS)
    return _TYPES_BY_LETTERS.get(letters) or component_type(xname) or ""


def parse(name: str) -> str | None:
    """Return the normal form of a name, or `None` if the name is not a valid xname."""
    xname = normalise(name)
    return xname if component_type(xname) else None
