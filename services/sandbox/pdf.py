"""A small PDF of a bill: one page, the same bytes for the same bill."""

_ESCAPES = str.maketrans({"\\": r"\\", "(": r"\(", ")": r"\)"})


def bill_pdf(lines: list[str], least_bytes: int = 0) -> bytes:
    """A valid PDF 1.4 that shows the lines; comments fill it up to `least_bytes`."""
    shown = b"BT /F1 14 Tf 72 720 Td 20 TL " + b" ".join(_line(line) for line in lines) + b" ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(shown), shown),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    line = b"%" + b"." * 78 + b"\n"
    body += line * max(0, -(-(least_bytes - len(body)) // len(line)))
    table = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    body += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    body += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(body)


def _line(text: str) -> bytes:
    return b"(%s) Tj T*" % text.translate(_ESCAPES).encode("latin-1", "replace")
