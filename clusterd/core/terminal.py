"""Text on its way to a terminal: what an application, a client or a file name put into it must
neither drive the terminal nor forge a line or the order in which it is read."""

# C0 controls, DEL and C1 controls; what ends a line elsewhere; what turns the direction of text
# (Unicode Standard Annex #9), so that it would be read as another.
_BELOW = (*range(0x20), *range(0x7F, 0xA0))
_ABOVE = (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
ESCAPES = {code: f"\\x{code:02x}" for code in _BELOW} | {code: f"\\u{code:04x}" for code in _ABOVE}


def clean(text: str) -> str:
    """The text on one line, harmless to a terminal."""
    return text.translate(ESCAPES)


def clean_lines(text: str) -> str:
    """The same with its lines, and with blanks for tabs."""
    return "\n".join(clean(line.expandtabs()) for line in text.split("\n"))
