"""Invoices: a BIF file from IMT becomes invoice.issued, row by row, and each invoice is brought to IC."""
