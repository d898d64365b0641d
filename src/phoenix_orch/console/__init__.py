"""The console: pages for people in a browser, rendered here; no build, nothing from elsewhere."""
