"""A browser's name and device, as far as it tells."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bakit.bench.phone.messages import Device

# In this order: most browsers also call themselves Safari, and many Chrome.
_NAMES = (
    ("Firefox", r"(?:Firefox|FxiOS)/([\d.]+)"),
    ("Edge", r"(?:Edg|EdgA|EdgiOS)/([\d.]+)"),
    ("Samsung Internet", r"SamsungBrowser/([\d.]+)"),
    ("Chrome", r"(?:HeadlessChrome|Chrome|CriOS)/([\d.]+)"),
    ("Safari", r"Version/([\d.]+).* Safari/"),
)


def browser_name(device: Device) -> str:
    """Return name and version: the client hints where there are any, else the user agent's."""
    if device.brands:
        return device.brands
    for name, pattern in _NAMES:
        found = re.search(pattern, device.user_agent)
        if found:
            return f"{name} {found[1]}"
    return "unknown browser"


def device_name(device: Device) -> str:
    """Return model and system; iPhones do not tell their model."""
    told = ", ".join(part for part in (device.model, device.system) if part)
    if told:
        return told
    found = re.search(r"\(([^)]*)\)", device.user_agent)
    return found[1] if found else "unknown device"
