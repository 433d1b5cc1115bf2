"""A folder with a page that segments photos inside the browser: zeroseg-export MODEL --web DIR. docs/browser.md."""
