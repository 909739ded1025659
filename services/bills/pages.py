"""What a customer sees when a link shows no bill: plain words, and nothing fetched from elsewhere."""

from html import escape

PAGES = {
    "forged": (
        404,
        "This link does not work",
        "The address is not complete or not right. Open the link again from your e-mail or from the payment "
        "site, or copy all of it.",
    ),
    "expired": (
        410,
        "This link has expired",
        "Links to bills work for a limited time. Ask your insurer for a copy of the bill.",
    ),
    "revoked": (
        410,
        "This link is no longer valid",
        "Your insurer has withdrawn this link. Ask your insurer for the current bill.",
    ),
    "missing": (
        404,
        "This bill is not here",
        "Your insurer's system does not have the picture of this bill. What you owe is not changed by that. "
        "Ask your insurer for a copy of the bill.",
    ),
    "away": (
        503,
        "Your bill cannot be shown right now",
        "The system that keeps the bills does not answer at the moment. Please try again in a few minutes.",
    ),
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 1.125rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff }}
h1 {{ font-size: 1.5rem }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
{sender}</main>
</body>
</html>
"""


def page(why: str, insurer: str | None = None) -> tuple[int, str]:
    """Status and HTML; the insurer is named only to whom a valid link has shown that they know it."""
    status, title, text = PAGES[why]
    sender = f"<p>{escape(insurer)}</p>\n" if insurer else ""
    return status, _PAGE.format(title=escape(title), text=escape(text), sender=sender)
