"""Write XML element by element, so that memory does not grow with the document."""

import re
from contextlib import contextmanager
from typing import IO
from xml.sax.saxutils import XMLGenerator

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # section 2.2 of XML 1.0


class XmlFile:
    """An XML document in an open text file, indented one space per level. declared: write an XML declaration."""

    def __init__(self, file: IO[str], declared: bool = True):
        self._out, self._tags = XMLGenerator(file, "utf-8", short_empty_elements=True), []
        if declared:
            self._out.startDocument()

    @contextmanager
    def inside(self, tag: str, **attributes):
        """Write an element around what the block writes."""
        self.open(tag, **attributes)
        yield
        self.close()

    def open(self, tag: str, **attributes) -> None:
        self._open(tag, attributes)
        self._out.characters("\n")
        self._tags.append(tag)

    def close(self) -> None:
        """End the element opened last."""
        tag = self._tags.pop()
        self._out.characters(" " * len(self._tags))
        self._out.endElement(tag)
        self._out.characters("\n")

    def leaf(self, tag: str, text="", **attributes) -> None:
        """Write an element that has only text."""
        self._open(tag, attributes)
        self._out.characters(clean(text))
        self._out.endElement(tag)
        self._out.characters("\n")

    def _open(self, tag: str, attributes: dict) -> None:
        self._out.characters(" " * len(self._tags))
        self._out.startElement(tag, {name: clean(value) for name, value in attributes.items()})


def clean(value) -> str:
    """A value as text; characters that XML forbids (control characters) become U+FFFD."""
    return _NO_XML.sub("\ufffd", str(value))
