"""One sentence encoder behind four servers, under the same load. See docs/tasks.md."""
