"""Side-by-side measurements of what the sidecar costs; printed and written to a page, never asserted on in tests."""
