"""Numbers -> as people read them: amounts of bytes, and how far something has come."""


def bar(share: float, wide: int) -> str:
    """A share of 1 as a bar of so many letters."""
    full = round(min(1.0, share) * wide)
    return "█" * full + "·" * (wide - full)


def amount(size: float) -> str:
    """Bytes, in the unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
