"""Every fault in every state of a real service: what is promised, and what was seen."""
