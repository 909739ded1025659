"""The page at /: what can be done here, for a person who learns the flows."""

from collections.abc import Iterable
from html import escape
from string import Template

from services.sandbox.insurers import Insurer

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>billbus sandbox</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
pre { background: #f2f2f2; padding: .8rem; overflow-x: auto; } code { font-size: .9rem; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; }
</style>
</head>
<body>
<main>
<h1>billbus sandbox</h1>
<p>Stand-ins for IMT and InvoiceCloud (IC). Whatever reaches them is a row in a ledger that does not
deduplicate: a payment posted twice stands there twice.</p>
<h2>Billers</h2>
<table>
<thead><tr><th scope="col">Biller</th><th scope="col">Name</th><th scope="col">BillerGUID</th></tr></thead>
<tbody>$billers</tbody>
</table>
<h2>Give IMT an account</h2>
<pre>curl -X POST $base/control/accounts -d '{"biller": "$first", "accounts": [
  {"account": "0000001001", "past_due": "20.00", "current_charges": "100.50",
   "policies": ["P-1"], "bills": ["B-1"]}]}'</pre>
<h2>Let IC's side play</h2>
<p>It speaks to the five services with the biller's own credentials, and shows what they answered.</p>
<pre>curl -X POST $base/control/play/pay -d '{"biller": "$first", "payments": [
  {"AccountNumber": "1001", "PaymentAmount": "25.00"}]}'
curl -X POST $base/control/play/enrol -d '{"biller": "$first", "changes": [
  {"Type": "AutoPay", "AccountNumber": "1001", "AutoPay": true}]}'
curl -X POST $base/control/play/rtdr -d '{"biller": "$first", "accounts": ["1001"]}'
curl -X POST $base/control/play/ivr -d '{"biller": "$first", "typed": ["00-1001"]}'
curl -X POST $base/control/play/open -d '{"biller": "$first", "invoice_numbers": ["INV-1"]}'
curl -X POST $base/control/play/bank_file -d '{"biller": "$first", "payments": [
  {"AccountNumber": "1001", "PaymentAmount": "10.00"}]}'</pre>
<p>A payment of another channel names it: <code>"Product": "AgentConnect", "AgentID": "A-7"</code>.
<code>"repeat": 2, "at_once": true</code> sends each one twice at the same moment.</p>
<h2>See what reached the partners</h2>
<ul>
<li><a href="/control/ledger">All four ledgers in short</a></li>
<li><a href="/control/ledger/payments">Payments posted to IMT</a>,
<a href="/control/ledger/payments?by=BatchDate,Tender,Product">by batch, tender and product</a></li>
<li><a href="/control/ledger/invoices">Invoices uploaded to IC</a></li>
<li><a href="/control/ledger/settings">Settings applied at IMT</a></li>
<li><a href="/control/ledger/bills">Bills fetched from IMT</a></li>
<li><a href="/ic/CloudInvoicing.asmx?wsdl">IC's WSDL</a></li>
</ul>
<h2>Make a partner fail</h2>
<pre>curl -X PUT $base/control/faults -d '{"service": "imt.datapump", "kind": "apply_then_hang",
  "fraction": 0.1, "delay_s": 10}'
curl -X DELETE $base/control/faults</pre>
<p><a href="/control/faults">Kinds, operations, and what is on</a>. All of it is in docs/sandbox.md.</p>
</main>
</body>
</html>
""")


def page(insurers: Iterable[Insurer], base: str) -> str:
    """The page, with the sandbox's own address in its examples."""
    known = list(insurers)
    rows = "".join(
        f"<tr><td>{escape(one.slug)}</td><td>{escape(one.name)}</td><td><code>{escape(one.biller_guid)}</code></td></tr>"
        for one in known
    )
    first = known[0].slug if known else "acme"
    return _PAGE.substitute(billers=rows, base=escape(base), first=escape(first))
