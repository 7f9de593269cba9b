"""Text -> elements: XML of strangers, bounded. Pure.

expat reads it, and a DOCTYPE is refused before anything in it counts: so there are no entities but XML's own five, and
nothing is fetched. Names come as "namespace local"; `local` cuts them. The charset is that of the file's bytes (see
`decoded`), whatever the XML declaration says, unless they are of a single-byte charset that only the declaration knows.
"""

import re
from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from playhead import media
from playhead.errors import Malformed

DEPTH = 24  # elements within each other
ELEMENTS = 300_000

LANG = "http://www.w3.org/XML/1998/namespace lang"
ID = "http://www.w3.org/XML/1998/namespace id"

_DECLARED = re.compile(
    rb"""\s*<\?xml[^<>]{0,200}encoding\s{0,9}=\s{0,9}["'](iso-8859-\d{1,2}|windows-125\d|koi8-[ru])["']""", re.I
)


def decoded(data: bytes) -> str:
    """The text of an XML file."""
    declared = _DECLARED.match(data)
    if declared:
        try:
            return data.decode(declared[1].decode("ascii").lower(), "replace")
        except LookupError:
            pass
    return media.to_utf8(data).decode("utf-8")


def elements(text: str, what: str) -> Element:
    """The root of an XML text; `what` names it in errors. Raises Malformed."""
    builder = TreeBuilder()
    depth = count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > DEPTH or count > ELEMENTS:
            raise Malformed(f"{what} is XML that is nested too deep, or has too many elements")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refused(*_: object) -> None:
        raise Malformed(f"{what} has a DOCTYPE, which is not read")

    parser = expat.ParserCreate("utf-8", " ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = refused
    try:
        parser.Parse(text.lstrip("\ufeff \t\r\n").encode("utf-8", "replace"), True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise Malformed(f"{what} is XML that is broken, or not whole: {error}") from error
    return builder.close()


def local(element: Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition(" ")[2]


def attribute(element: Element, name: str) -> str:
    """An attribute by its local name, in whatever namespace; "" where there is none."""
    for key, value in element.attrib.items():
        if key.rpartition(" ")[2] == name:
            return value
    return ""


def named(element: Element, name: str) -> Iterator[Element]:
    """All elements within one that have a local name."""
    return (one for one in element.iter() if local(one) == name)


def outermost(element: Element, wanted: Callable[[Element], bool]) -> Iterator[Element]:
    """All elements within one that are wanted, in their order, but none within another of them."""
    for one in element:
        if wanted(one):
            yield one
        else:
            yield from outermost(one, wanted)


def text(element: Element | None) -> str:
    """The text within an element, blanks as one space."""
    return " ".join("".join(element.itertext()).split()) if element is not None else ""
