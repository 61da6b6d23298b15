"""Dynamic Prompts: templates with choices, variables and lists from files, expanded to one text for each picture."""
