"""
The public Python interface as Markdown: names, signatures and docstrings.

A docstring is what its author wrote; here its sections become lists.
"""

import inspect
import re
import sys
import textwrap

import maitred
from maitred.routing import Affinity, Head, Response

# The package has a function of that name, too.
AFFINITY = sys.modules["maitred.routing.affinity"]

SECTION = re.compile(r"(?m)^(Args|Returns|Raises|Yields):\n((?:(?: .*)?\n?)+)")
ENTRY = re.compile(r"(?m)^(\S[^:\n]*): ((?:.*\n?)(?:^ .*\n?)*)")


def described(title, thing, level):
    """Give a heading and what the docstring says."""
    text = inspect.getdoc(thing) or ""
    return f"{'#' * level} `{title}`\n\n{markdown(text)}\n"


def markdown(docstring):
    """Turn a docstring into paragraphs, its sections into lists."""
    text = SECTION.sub(listed, docstring).replace("``", "`").strip()
    return re.sub(r"\n{3,}", "\n\n", text)


def listed(found):
    text = textwrap.dedent(found[2])
    entries = ENTRY.findall(text)
    if found[1] == "Returns" or not entries:
        return f"**{found[1]}:** {' '.join(text.split())}\n\n"
    items = [f"* `{name}`: {' '.join(about.split())}" for name, about in entries]
    return f"**{found[1]}:**\n\n" + "\n".join(items) + "\n\n"


def call(name, function):
    """Write *function* as it is called, without types: the docstring has the rest."""
    parameters = [
        p.replace(annotation=p.empty, default=default(p))
        for p in inspect.signature(function).parameters.values()
        if p.name not in {"self", "cls"}
    ]
    return f"{name}{inspect.Signature(parameters)}".replace("Ellipsis", "...")


def default(parameter):
    """Give what a parameter is if nobody says so; "..." if that has no short name."""
    plain = (str, bytes, bool, int, float, type(None), type(parameter.empty))
    value = parameter.default
    return value if type(value) in plain else ...


def whole(kind, level=3):
    """Describe a class: how it is made, and its public methods and properties."""
    protocol = getattr(kind, "_is_protocol", False)
    made = kind.__name__ if protocol else call(kind.__name__, kind.__init__)
    parts = [described(made, kind, level)]
    if kind.__init__.__doc__ and not protocol:
        parts.append(markdown(inspect.getdoc(kind.__init__)))
    for name, member in vars(kind).items():
        if name.startswith("_") or not inspect.getdoc(member):
            continue
        if isinstance(member, property):
            parts.append(described(name, member, level + 1))
        elif callable(member) or isinstance(member, classmethod):
            function = getattr(member, "__func__", member)
            parts.append(described(call(name, function), function, level + 1))
    return "\n".join(part.rstrip() + "\n" for part in parts)


def functions(module, names):
    """List functions by their first line."""
    rows = ["| function | |", "|---|---|"]
    for name in names:
        function = getattr(module, name)
        about = inspect.getdoc(function).partition("\n")[0].replace("``", "`")
        rows.append(f"| `{call(name, function)}` | {about} |")
    return "\n".join(rows) + "\n"


def errors(kinds):
    """List exceptions with what they mean, and which is a kind of which."""
    rows = ["| error | is a | raised when |", "|---|---|---|"]
    for kind in kinds:
        text = " ".join(inspect.getdoc(kind).replace("``", "`").split())
        above = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
        rows.append(f"| `{kind.__name__}` | {above} | {text} |")
    return "\n".join(rows) + "\n"


FIELDS = {
    "U8": "a number of 1 byte",
    "U16": "of 2 bytes",
    "U32": "of 4 bytes",
    "U64": "of 8 bytes",
    "Blob": "bytes; all of a packet have at most `MAX_PACKET` together",
    "Passed": "an `Owner` of a descriptor, which the message carries; one per message,"
    " and at most `MAX_DESCRIPTORS` in a packet",
}
FINDS = [
    *("header", "cookie", "query", "path", "host", "ip", "sni", "where_path"),
]
LEARNS = ["response_header", "set_cookie", "in_body", "deleted", "never"]


def fields_of_messages():
    limits = [
        (f"`{name}`", f"{getattr(maitred, name):,}")
        for name in ("MAX_PACKET", "MAX_DESCRIPTORS")
    ]
    rows = [(f"`{name}`", text) for name, text in FIELDS.items()]
    lines = [f"| {name} | {text} |" for name, text in [*rows, *limits]]
    return "\n".join(["| type of a field | |", "|---|---|", *lines]) + "\n"


def api_errors():
    kinds = (getattr(maitred, name) for name in maitred.__all__)
    return errors([k for k in kinds if inspect.isclass(k) and issubclass(k, Exception)])


def several(*kinds):
    return "\n".join(whole(kind) for kind in kinds)


PARTS = {
    "api-fields": fields_of_messages,
    "api-channel": lambda: several(maitred.Channel, maitred.Descriptor, maitred.Owner),
    "api-errors": api_errors,
    "api-affinity": lambda: several(Affinity, Head, Response),
    "api-find": lambda: functions(AFFINITY, FINDS),
    "api-learn": lambda: functions(AFFINITY, LEARNS),
}
